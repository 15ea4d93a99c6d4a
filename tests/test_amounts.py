"""How many bytes is an amount? By hand: the SI prefixes, and the binary ones of IEC 80000-13."""

from __future__ import annotations

from typing import Any

import pytest

from kompyct.amounts import MAX_BYTES, bytes_of
from kompyct.errors import ArgumentError, ArgumentTypeError


@pytest.mark.parametrize(
    ("amount", "expected"),
    [
        (1, 1),
        (512, 512),
        (1 << 62, 1 << 62),
        ("7 B", 7),
        ("512 MiB", 536_870_912),
        ("512MiB", 536_870_912),
        ("  512  mib  ", 536_870_912),
        ("2 GB", 2_000_000_000),
        ("2 gib", 2_147_483_648),
        ("1 k", 1_000),
        ("1 Ki", 1_024),
        ("1 kB", 1_000),
        ("3 TB", 3_000_000_000_000),
        ("3 TiB", 3_298_534_883_328),
        ("1.5 GiB", 1_610_612_736),
        ("0.5 KiB", 512),
    ],
)
def test_an_amount_is_so_many_bytes(amount: int | str, expected: int) -> None:
    """Given a number of bytes, or a text with a unit, then it is that many."""
    assert bytes_of(amount, "memory_limit") == expected


@pytest.mark.parametrize(
    "amount",
    ["", " ", "1", "512", "MiB", "12 x", "1 iB", "1 i", "-1", "-1 MB", "1e3", "1,5 GB", ".5 GB",
     "5. GB", "nan", "inf", "1 MiB 2", "0x10", "9" * 40, "1 PB", "0", "0 MiB", "0.0001 B",
     "9999999999 TB", 0, -1, (1 << 62) + 1, 10**30],
)  # fmt: skip
def test_what_is_no_amount_is_refused(amount: int | str) -> None:
    """Given no amount, or one out of range, then a ValueError names the argument."""
    with pytest.raises(ArgumentError, match="memory_limit") as caught:
        bytes_of(amount, "memory_limit")
    assert isinstance(caught.value, ValueError)


@pytest.mark.parametrize("amount", [1.0, True, None, b"1", [1], float("nan")])
def test_what_is_neither_number_nor_text_is_refused(amount: Any) -> None:
    """Given something of another type, then a TypeError names the argument."""
    with pytest.raises(ArgumentTypeError, match="memory_limit"):
        bytes_of(amount, "memory_limit")


def test_the_largest_amount_can_be_written_as_a_text() -> None:
    """Given the upper bound as a text, then it is taken exactly."""
    assert bytes_of(f"{MAX_BYTES} B", "memory_limit") == MAX_BYTES
