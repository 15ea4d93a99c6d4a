"""Does a key belong to the same one everywhere, and do few keys move?"""

from __future__ import annotations

import subprocess
import sys
from collections import Counter
from enum import IntEnum, StrEnum
from hashlib import blake2b
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kompyct.errors import ArgumentTypeError
from kompyct.keys import digest_of, heaviest, seed_of

KEYS = st.recursive(
    st.text(max_size=3) | st.binary(max_size=3) | st.integers(),
    lambda parts: st.tuples(parts) | st.tuples(parts, parts),
    max_leaves=4,
)


@settings(max_examples=60)
@given(KEYS, KEYS)
def test_two_keys_have_one_digest_only_if_they_are_equal(one: Any, other: Any) -> None:
    """Given any keys, then equal ones have equal digests, different ones different ones: 64 bits
    of BLAKE2b meet once in 5 billion keys."""
    assert (digest_of(one) == digest_of(other)) == (one == other and _kinds(one) == _kinds(other))


def _kinds(key: Any) -> Any:
    return tuple(map(_kinds, key)) if isinstance(key, tuple) else type(key)


def test_the_parts_of_a_key_are_told_apart() -> None:
    """Given keys whose parts join to the same bytes, then their digests differ."""
    keys: list[Any] = [
        "1", b"1", 1, ("1",), (("1",),), ("ab", "c"), ("a", "bc"), ("abc",), (), ("",), "", b"",
        ("a", ("b",)), (("a",), "b"), -1, (1, 2), (12,), "i1", "\ud800",
    ]  # fmt: skip
    assert len({digest_of(key) for key in keys}) == len(keys)


def test_a_digest_is_what_it_always_was() -> None:
    """Given a key, then its digest is BLAKE2b of its type and bytes, in 8 bytes: as in every
    process, and every run. Source: hashlib, by hand; members are weighed by theirs."""
    assert digest_of("ann") == blake2b(b"sann", digest_size=8).digest()
    assert digest_of(7) == blake2b(b"i7", digest_size=8).digest()
    assert digest_of(("a", 1)) == blake2b(b"t2:sa2:i1", digest_size=8).digest()
    assert seed_of("ann") == int.from_bytes(digest_of("ann"), "big")


def test_enums_and_bools_are_keys_by_their_values() -> None:
    """Given members of IntEnum and StrEnum, or a bool, then they are what they equal."""

    class Colour(StrEnum):
        RED = "red"

    class Size(IntEnum):
        BIG = 3

    assert digest_of(Colour.RED) == digest_of("red")
    assert digest_of(Size.BIG) == digest_of(3)
    assert digest_of(True) == digest_of(1)


@pytest.mark.parametrize("key", [None, 1.5, ["a"], {"a": 1}, ("a", None), object()])
def test_other_keys_are_refused(key: Any) -> None:
    """Given a key of which not every process would make the same, then it is refused."""
    with pytest.raises(ArgumentTypeError, match="give a text, bytes, a whole number"):
        digest_of(key)


def test_another_process_chooses_the_same() -> None:
    """Given a process with another seed of `hash()`, then it gives every key to the same one."""
    code = (
        "from kompyct.keys import *\n"
        "seeds = [seed_of(f'worker {n}') for n in range(7)]\n"
        "print([heaviest(seeds, digest_of(f'user {n}')) for n in range(200)])"
    )
    seeds = [seed_of(f"worker {n}") for n in range(7)]
    here = [heaviest(seeds, digest_of(f"user {n}")) for n in range(200)]
    said = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=20
    )
    assert said.stdout.strip() == str(here)


@pytest.mark.parametrize("members", [2, 3, 10, 50])
def test_keys_are_spread_evenly(members: int) -> None:
    """Given 20,000 keys, then each member has its share within five standard deviations of a
    binomial distribution: beyond that is one case in a million."""
    keys = 20_000
    seeds = [seed_of(f"worker {n}") for n in range(members)]
    shares = Counter(heaviest(seeds, digest_of(f"user {n}")) for n in range(keys))
    expected = keys / members
    deviation = (expected * (1 - 1 / members)) ** 0.5
    assert all(abs(shares[n] - expected) < 5 * deviation for n in range(members)), shares


def test_only_the_keys_of_who_leaves_move_and_evenly() -> None:
    """Given ten members of whom one leaves, then no key of another one moves, and those of the one
    that left are spread over all nine, within five standard deviations."""
    names = [f"worker {n}" for n in range(10)]
    seeds = [seed_of(name) for name in names]
    digests = [digest_of(n) for n in range(20_000)]
    before = [names[heaviest(seeds, digest)] for digest in digests]
    fewer, left = names[:3] + names[4:], names[3]
    seeds = [seed_of(name) for name in fewer]
    after = [fewer[heaviest(seeds, digest)] for digest in digests]
    moved = Counter(b for a, b in zip(before, after, strict=True) if a != b)
    assert all(b == a for a, b in zip(before, after, strict=True) if a != left)
    expected = sum(moved.values()) / 9
    assert len(moved) == 9
    assert all(abs(count - expected) < 5 * expected**0.5 for count in moved.values()), moved


def test_the_order_of_members_does_not_matter() -> None:
    """Given the same members in another order, then every key belongs to the same one."""
    names = [f"worker {n}" for n in range(10)]
    for n in range(500):
        digest = digest_of(n)
        one = names[heaviest([seed_of(name) for name in names], digest)]
        turned = names[::-1]
        other = turned[heaviest([seed_of(name) for name in turned], digest)]
        assert one == other
