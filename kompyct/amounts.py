"""How many bytes are "512 MiB"?"""

from __future__ import annotations

import re

from kompyct.errors import ArgumentError, ArgumentTypeError

_AMOUNT = re.compile(r"\s*(\d{1,19}(?:\.\d{1,9})?)\s*(?:([kmgt]i?)b?|b)\s*", re.IGNORECASE)

_FACTORS: dict[str, int] = {"": 1} | {
    prefix + i: base**power
    for power, prefix in enumerate("kmgt", 1)
    for i, base in (("", 1000), ("i", 1024))
}

MAX_BYTES = 1 << 62


def bytes_of(amount: int | str, what: str) -> int:
    """An amount of memory in bytes: a whole number of them, or a text such as "512 MiB" or "2 GB".

    Raises:
        ArgumentTypeError: it is neither.
        ArgumentError: it is no amount, or not between 1 and 2**62; `what` names it.
    """
    if isinstance(amount, str):
        match = _AMOUNT.fullmatch(amount)
        unit = (match[2] or "").lower() if match else "?"
        if match is None or unit not in _FACTORS:
            raise ArgumentError(f"{what} is {amount!r}; give bytes, or a text such as '512 MiB'")
        number = round(float(match[1]) * _FACTORS[unit])
    elif isinstance(amount, bool) or not isinstance(amount, int):
        raise ArgumentTypeError(f"{what} is {amount!r}; give bytes, or a text such as '512 MiB'")
    else:
        number = amount
    if not 0 < number <= MAX_BYTES:
        raise ArgumentError(f"{what} is {amount!r}; give more than 0 bytes, at most 2**62")
    return number
