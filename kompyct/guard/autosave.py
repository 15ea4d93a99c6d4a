"""What does an autosave look like, and is it whole?

::

    header   48 bytes   magic, format version, compression, bytes of meta, of payload, and of the
                        payload before compression, CRC-32 of all that, and zeros
    meta                json: who wrote it, when, and with what
    payload             for each key: bytes of key and of value, key, value; compressed
    seal     16 bytes   BLAKE2b of all of the above

All numbers are little-endian. The seal is checked before anything is decompressed or decoded.
With a key the whole is signed, as `kompyct.store.trust` does it.
"""

from __future__ import annotations

import json
import platform
import struct
import time
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from hashlib import blake2b
from hmac import compare_digest
from typing import Any, Final, NamedTuple
from zlib import crc32

from kompyct.errors import CorruptStoreError, TrustError, VersionError
from kompyct.processes.identity import ProcessIdentity
from kompyct.store import trust
from kompyct.store.compression import compress, decompress
from kompyct.version import VERSION

FORMAT: Final = 1
"""The version of this format; a newer one is refused."""

MAGIC: Final = b"kompyct guard\n"
MAX_BYTES: Final = 1 << 36
"""Bytes of an autosave at most, before and after compression."""

MAX_START: Final = 4096
"""Bytes in which `writer_of` finds what it needs."""

HEADER_BYTES: Final = 48
_HEADER = struct.Struct("<14sBBIQQ")
_CRC = struct.Struct("<I")
_LENGTHS = struct.Struct("<IQ")
_SEAL_BYTES = 16

Items = list[tuple[bytes, bytes]]
"""Encoded keys and values."""


@dataclass(frozen=True, slots=True)
class Saved:
    """What an autosave holds."""

    items: Items
    writer: ProcessIdentity | None
    saved_at: float


def encode(
    items: Iterable[tuple[bytes, bytes]], writer: ProcessIdentity | None, trusted: trust.Trust
) -> bytes:
    """The bytes of an autosave, signed if `trusted` is a key."""
    parts: list[bytes] = []
    for key, value in items:
        parts += (_LENGTHS.pack(len(key), len(value)), key, value)
    payload = b"".join(parts)
    method, smaller = compress(payload)
    meta = json.dumps(
        {
            "writer": None if writer is None else asdict(writer),
            "saved_at": time.time(),
            "python": platform.python_version(),
            "version": VERSION,
        }
    ).encode()
    start = _HEADER.pack(MAGIC, FORMAT, method, len(meta), len(smaller), len(payload))
    header = (start + _CRC.pack(crc32(start))).ljust(HEADER_BYTES, b"\0")
    seal = blake2b(digest_size=_SEAL_BYTES)
    for part in (header, meta, smaller):
        seal.update(part)
    data = b"".join((header, meta, smaller, seal.digest()))
    return data if trusted == "local" else trust.sign(data, trusted)


def decode(data: bytes, path: str, trusted: trust.Trust, max_bytes: int = MAX_BYTES) -> Saved:
    """What `encode` was given.

    Args:
        path: for the errors.
        max_bytes: of content at most, after decompression.

    Raises:
        TrustError: it is not signed with the key in `trusted`, or signed and there is none.
        VersionError: a newer version has written it.
        CorruptStoreError: it is not what was written.
    """
    if trusted != "local":
        data = trust.verified(data, trusted, path)
    elif trust.is_signed(data):
        raise TrustError(f"{path} is signed; give its key in trust=", path=path, phase="trust")
    header = _header(data)
    if header is None:
        raise _corrupt(path, "does not begin as an autosave does")
    if header.version > FORMAT:
        raise VersionError(
            f"{path} has format {header.version}, and this kompyct knows {FORMAT} at most; use a "
            "newer one",
            path=path,
            phase="decode",
        )
    end = header.meta_end + header.payload_bytes
    seal = blake2b(memoryview(data)[:end], digest_size=_SEAL_BYTES).digest()
    if not compare_digest(data[end:], seal):
        raise _corrupt(path, "is cut off, or was changed")
    if header.size > max_bytes:
        raise _corrupt(path, f"has {header.size} bytes of content, more than {max_bytes}")
    payload = decompress(header.method, data[header.meta_end : end], header.size)
    try:
        told = json.loads(data[HEADER_BYTES : header.meta_end])
        return Saved(_split(payload), _writer(told), float(told["saved_at"]))
    except (ValueError, LookupError, TypeError, struct.error, RecursionError) as error:
        raise _corrupt(path, "says nothing that is known here") from error


def writer_of(data: bytes) -> ProcessIdentity | None:
    """Which launcher says that it has written what begins so; None if that cannot be told.

    Nothing is checked but the header: it is for telling whether somebody still writes.
    """
    signature = trust.sign(b"", b"")
    header = _header(data[len(signature) :] if trust.is_signed(data) else data)
    if header is None or header.version > FORMAT:
        return None
    start = len(signature) if trust.is_signed(data) else 0
    try:
        return _writer(json.loads(data[start + HEADER_BYTES : start + header.meta_end]))
    except (ValueError, LookupError, TypeError, RecursionError):
        return None


class _Header(NamedTuple):
    version: int
    method: int
    meta_end: int
    payload_bytes: int
    size: int


def _header(data: bytes) -> _Header | None:
    start = data[: _HEADER.size]
    crc = data[_HEADER.size : _HEADER.size + _CRC.size]
    if not data.startswith(MAGIC) or crc != _CRC.pack(crc32(start)):
        return None
    _, version, method, meta_bytes, payload_bytes, size = _HEADER.unpack(start)
    return _Header(version, method, HEADER_BYTES + meta_bytes, payload_bytes, size)


def _writer(told: dict[str, Any]) -> ProcessIdentity | None:
    writer = told["writer"]
    return None if writer is None else ProcessIdentity(int(writer["pid"]), str(writer["started"]))


def _split(payload: bytes) -> Items:
    items: Items = []
    at = 0
    while at < len(payload):
        key_bytes, value_bytes = _LENGTHS.unpack_from(payload, at)
        middle = at + _LENGTHS.size + key_bytes
        end = middle + value_bytes
        if end > len(payload):
            raise ValueError("a value is longer than what is left")
        items.append((payload[at + _LENGTHS.size : middle], payload[middle:end]))
        at = end
    return items


def _corrupt(path: str, what: str) -> CorruptStoreError:
    return CorruptStoreError(f"{path} {what}; it is left as it is", path=path, phase="decode")
