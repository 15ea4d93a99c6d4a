"""Is what a guard was given a duration, an amount, or a choice?"""

from __future__ import annotations

import math
import operator
from typing import Any

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
    size = _whole(amount, "max_memory", "KiB, or a text such as '512 MiB'")
    if size < 0:
        raise LimitRangeError(f"max_memory is {size}; give KiB, >= 0")
    return size * 1024


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
        if value is not None:
            chosen = _nanoseconds(value, what, unit, factor)
    return chosen


def _nanoseconds(value: Any, what: str, unit: str, factor: int) -> int:
    number: float = value
    if not isinstance(value, float):
        number = _whole(value, what, f"a number of {unit}")
    if not 0 <= number < math.inf:  # false for NaN as well
        raise LimitRangeError(f"{what} is {number}; give a finite number of {unit}, >= 0")
    return math.ceil(number * factor) if number < LONGEST / factor else LONGEST


def _whole(value: Any, what: str, wanted: str) -> int:
    """A whole number of any kind, below 2**64, but not a bool."""
    try:
        number: int = operator.index(value)
    except TypeError:
        number = -1
    if isinstance(value, bool) or not hasattr(type(value), "__index__"):
        raise ArgumentTypeError(f"{what} is {value!r}; give {wanted}")
    if number.bit_length() > 64:
        raise LimitRangeError(f"{what} is not below 2**64; give {wanted}")
    return number


LONGEST = 1 << 61  # nanoseconds; some seventy years


def checked_interval(milliseconds: float | None) -> int | None:
    """Nanoseconds between two looks; None if that was not chosen."""
    if milliseconds is None:
        return None
    return max(_nanoseconds(milliseconds, "check_interval", "milliseconds", MILLISECOND), SHORTEST)


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
