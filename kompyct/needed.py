"""What does a factory return if there is nothing to run?"""

from __future__ import annotations

from enum import Enum
from typing import Final


class NotNeeded(Enum):
    """The type of `NOT_NEEDED`."""

    NOT_NEEDED = "not needed"


NOT_NEEDED: Final = NotNeeded.NOT_NEEDED
"""What a child's factory returns if there is nothing to run: its spec is kept, without it.

Source: OTP's `ignore`.
"""
