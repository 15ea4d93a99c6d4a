"""Is what a guard was given a duration, an amount, or a choice?"""

from __future__ import annotations

import math

from kompyct.amounts import bytes_of
from kompyct.errors import ArgumentError, ArgumentTypeError, LimitRangeError
from kompyct.limits.ladder import InterruptType

MILLISECOND = 1_000_000
SECOND = 1_000_000_000

SHORTEST = MILLISECOND
"""Nanoseconds that are waited at least before anything is looked at again."""


def kibibytes(amount: int | str) -> int:
    if isinstance(amount, str):
        return bytes_of(amount, "max_memory")
    if isinstance(amount, bool) or not isinstance(amount, int):
        raise ArgumentTypeError(f"max_memory is {amount!r}; give KiB, or a text such as '512 MiB'")
    if not 0 <= amount < 1 << 52:
        raise LimitRangeError(f"max_memory is {amount}; give KiB, >= 0 and less than 2**52")
    return amount * 1024


def grace_of(name: str, seconds: float | None, milliseconds: float | None) -> int:
    """Nanoseconds between two steps; those that are given in seconds are one second at least."""
    given = duration(name, seconds, milliseconds)
    return max(given, SECOND if milliseconds is None else SHORTEST)


def duration(name: str, seconds: float | None, milliseconds: float | None) -> int:
    """Nanoseconds; `milliseconds` count, if they are given."""
    if milliseconds is None and seconds is None:
        raise ArgumentError(f"{name} and {name}_ms are both None; give one of them")
    chosen = 0
    for value, what, unit, factor in (
        (seconds, name, "seconds", SECOND),
        (milliseconds, f"{name}_ms", "milliseconds", MILLISECOND),
    ):
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ArgumentTypeError(f"{what} is {value!r}; give a number of {unit}")
        if not 0 <= value <= MAX_SECONDS * SECOND // factor:  # false for NaN as well
            shown = value if isinstance(value, float) or abs(value) < 10**30 else "enormous"
            raise LimitRangeError(f"{what} is {shown}; give a finite number of {unit}, >= 0")
        chosen = math.ceil(value * factor)
    return chosen


MAX_SECONDS = 3_000_000_000  # a hundred years


def checked_interval(milliseconds: float | None) -> int | None:
    if milliseconds is None:
        return None
    if isinstance(milliseconds, bool) or not isinstance(milliseconds, int | float):
        raise ArgumentTypeError(f"check_interval is {milliseconds!r}; give milliseconds, or None")
    return max(duration("check_interval", None, milliseconds), SHORTEST)


def checked_bool(value: bool, name: str) -> bool:
    if not isinstance(value, bool):
        raise ArgumentTypeError(f"{name} is {value!r}; give True or False")
    return value


def checked_type(interrupt_type: InterruptType | None) -> InterruptType | None:
    if interrupt_type is not None and not isinstance(interrupt_type, InterruptType):
        raise ArgumentTypeError(
            f"interrupt_type is {interrupt_type!r}; give an InterruptType, or leave it out"
        )
    return interrupt_type
