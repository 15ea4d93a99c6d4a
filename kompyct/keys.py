"""To which of several does a key belong, in every process and at every run?"""

from __future__ import annotations

from hashlib import blake2b
from typing import Any

from kompyct.errors import ArgumentTypeError

Key = str | bytes | int | tuple[Any, ...]
"""What a message may be sent by: a text, bytes, a whole number, or a tuple of such."""


def digest_of(key: Key) -> bytes:
    """Eight bytes that stand for `key` in every process.

    Raises:
        ArgumentTypeError: it is of another type than `Key`.
    """
    return blake2b(_as_bytes(key), digest_size=8).digest()


def seed_of(path: str) -> int:
    """What the weights of a member are made of, 64 bits."""
    return int.from_bytes(blake2b(_as_bytes(path), digest_size=8).digest(), "big")


def heaviest(seeds: list[int], digest: bytes) -> int:
    """The index of whom a key of that digest belongs to.

    Source: rendezvous hashing (Thaler and Ravishankar, 1996). Digest and seeds are hashes already;
    they are mixed as in MurmurHash3's last steps, as one hash for each member would cost 1 us.
    """
    key = int.from_bytes(digest, "big")
    best = -1
    chosen = 0
    for index, seed in enumerate(seeds):
        mixed = (seed ^ key) * 0xFF51AFD7ED558CCD & _BITS
        weight = (mixed ^ mixed >> 33) * 0xC4CEB9FE1A85EC53 & _BITS
        if weight > best:
            best = weight
            chosen = index
    return chosen


_BITS = (1 << 64) - 1


def _as_bytes(key: object) -> bytes:
    # Each begins with its type, and a tuple's parts with their lengths: no two keys are one.
    if isinstance(key, str):
        return b"s" + key.encode("utf-8", "surrogatepass")
    if isinstance(key, bytes):
        return b"b" + key
    if isinstance(key, int):
        return b"i%d" % key
    if isinstance(key, tuple):
        parts = [_as_bytes(part) for part in key]
        return b"t" + b"".join(b"%d:%b" % (len(part), part) for part in parts)
    raise ArgumentTypeError(
        f"the key is a {type(key).__qualname__}; give a text, bytes, a whole number, or a tuple "
        "of such, which are the same in every process"
    )
