"""What does a record of a snapshot log look like, and is it whole?

::

    header   24 bytes   magic, format version, kind, compression, bytes of meta and payload, CRC-32
    meta                json: what the record is about
    payload             the recovery function if pickled, then the snapshot, compressed
    seal     16 bytes   BLAKE2b of segment, offset and all of the above, keyed if there is a key

All numbers are little-endian. The seal covers where the record stands, so that a record that is
found elsewhere (copied, or inside the data of another one) is none. It is checked before anything
is decompressed or decoded.
"""

from __future__ import annotations

import hmac
import json
import struct
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any, Final
from zlib import crc32

from kompyct.codecs import name_of
from kompyct.errors import CorruptStoreError
from kompyct.lifecycle import Status
from kompyct.store.compression import compress, decompress
from kompyct.store.snapshots import Entry, Mark, Removal, Snapshot

FORMAT: Final = 1
"""The version of this format; a newer one is refused."""

MAGIC: Final = b"\xffKSR"
SEAL_BYTES: Final = 16
HEADER_BYTES: Final = 24

SEGMENT, SNAPSHOT, MARK, REMOVAL, END = range(1, 6)
"""Kinds of record. SEGMENT is the first of its file, END the last of one closed in order."""

MAX_META = 1 << 20
MAX_PAYLOAD = 1 << 32
MAX_SNAPSHOT = 1 << 30
"""Bytes of a snapshot at most, as they were before compression."""

_HEADER = struct.Struct("<4sBBHIQ")
_CRC = struct.Struct("<I")

_quoted = json.encoder.encode_basestring_ascii
_encode_json = json.JSONEncoder(separators=(",", ":")).encode  # made once, not for each record


@dataclass(frozen=True, slots=True)
class Header:
    """The lengths and the kind of a record."""

    version: int
    kind: int
    compression: int
    meta_bytes: int
    payload_bytes: int

    @property
    def length(self) -> int:
        """Bytes of the whole record."""
        return HEADER_BYTES + self.meta_bytes + self.payload_bytes + SEAL_BYTES


class Sealer:
    """Makes and checks the seals of one segment.

    Args:
        segment: what tells it from every other segment.
        key: for a keyed seal; empty for a mere checksum.
    """

    def __init__(self, segment: bytes, key: bytes) -> None:
        if len(key) > 64:
            key = blake2b(key).digest()
        self._started = blake2b(segment, digest_size=SEAL_BYTES, key=key)

    def seal(self, offset: int, record: bytes) -> bytes:
        """The seal of a record without its seal."""
        digest = self._started.copy()
        digest.update(offset.to_bytes(8, "little"))
        digest.update(record)
        return digest.digest()

    def holds(self, offset: int, record: bytes) -> bool:
        """Whether the record, its seal included, is what was written at `offset`."""
        return hmac.compare_digest(record[-SEAL_BYTES:], self.seal(offset, record[:-SEAL_BYTES]))


def key_id(key: bytes) -> str:
    """What tells a key from others without telling anything of it; "" for no key."""
    return blake2b(key, digest_size=8, person=b"kompyct key id").hexdigest() if key else ""


def encode_entry(entry: Entry, offset: int, sealer: Sealer) -> bytes:
    """The record of `entry`, to be written at `offset`."""
    if isinstance(entry, Removal):
        return encode_record(REMOVAL, {"path": entry.path}, offset, sealer)
    if isinstance(entry, Mark):
        return encode_record(MARK, _mark_to_meta(entry), offset, sealer)
    mark = entry.mark
    function = entry.function
    pickled = b"" if isinstance(function, str) else function
    data = entry.data or b""
    compression, smaller = compress(data)
    # Written out: the encoder of json takes 4 µs for it, this 2 µs.
    name = _quoted(function) if isinstance(function, str) else "null"
    told = (
        f'{{"path":{_quoted(mark.path)},"incarnation":{mark.incarnation},'
        f'"sequence":{mark.sequence},"status":"{mark.status._value_}",'
        f'"active":{"true" if mark.active else "false"},"suspect":{mark.suspect},'
        f'"attempts":{mark.attempts},"tried":{"null" if mark.tried is None else mark.tried},'
        f'"function":{name},"function_bytes":{len(pickled)},'
        f'"data_bytes":{"null" if entry.data is None else len(data)},'
        f'"codec":{"null" if entry.data is None else _quoted(name_of(data))},'
        f'"saved_at":{entry.saved_at!r},"generation":{entry.generation},'
        f'"keeps":[{",".join(map(str, entry.keeps))}],'
        f'"python":{_quoted(entry.python)},"version":{_quoted(entry.version)}}}'
    )
    return _sealed(SNAPSHOT, told.encode(), offset, sealer, pickled + smaller, compression)


def encode_again(header: Header, record: bytes, mark: Mark, offset: int, sealer: Sealer) -> bytes:
    """A whole `record` of a snapshot for another place, with what was marked since."""
    meta = {**decode_meta(header, record), **_mark_to_meta(mark)}
    payload = record[HEADER_BYTES + header.meta_bytes : -SEAL_BYTES]
    return encode_record(SNAPSHOT, meta, offset, sealer, payload, header.compression)


def encode_record(
    kind: int,
    meta: dict[str, Any],
    offset: int,
    sealer: Sealer,
    payload: bytes = b"",
    compression: int = 0,
) -> bytes:
    """A whole record."""
    return _sealed(kind, _encode_json(meta).encode(), offset, sealer, payload, compression)


def _sealed(
    kind: int, told: bytes, offset: int, sealer: Sealer, payload: bytes, compression: int
) -> bytes:
    start = _HEADER.pack(MAGIC, FORMAT, kind, compression, len(told), len(payload))
    record = b"".join((start, _CRC.pack(crc32(start)), told, payload))
    return record + sealer.seal(offset, record)


def decode_header(data: bytes) -> Header | None:
    """The header in the first HEADER_BYTES of `data`; None if it is none.

    Its version may be newer than FORMAT: then nothing else in it means anything here.
    """
    start = data[: _HEADER.size]
    if not start.startswith(MAGIC) or data[_HEADER.size : HEADER_BYTES] != _CRC.pack(crc32(start)):
        return None
    _, version, kind, compression, meta_bytes, payload_bytes = _HEADER.unpack(start)
    if version <= FORMAT and (meta_bytes > MAX_META or payload_bytes > MAX_PAYLOAD):
        return None
    return Header(version, kind, compression, meta_bytes, payload_bytes)


def decode_meta(header: Header, record: bytes) -> dict[str, Any]:
    """What the record, whose seal holds, is about.

    Raises:
        CorruptStoreError: it was not written by kompyct.
    """
    try:
        told: dict[str, Any] = json.loads(record[HEADER_BYTES : HEADER_BYTES + header.meta_bytes])
        if header.kind in (SNAPSHOT, MARK):
            _mark_from_meta(told)
        if header.kind == SNAPSHOT:
            _ = [told[name] for name in _OF_A_SNAPSHOT]
        if header.kind == REMOVAL:
            _ = told["path"]
    except (ValueError, TypeError, LookupError, RecursionError) as error:  # whole, and yet none
        raise CorruptStoreError(
            f"a record says nothing that is known here ({type(error).__name__})", phase="decode"
        ) from error
    return told


_OF_A_SNAPSHOT = (
    "function", "function_bytes", "data_bytes", "saved_at", "generation", "keeps", "python",
    "version",
)  # fmt: skip


def decode_entry(header: Header, meta: dict[str, Any], record: bytes | None) -> Entry | None:
    """The entry in a record whose seal holds; None if it is one of a segment's own.

    Args:
        record: the whole of it; None leaves out function and data.

    Raises:
        CorruptStoreError: it cannot be decompressed, or is too big.
    """
    if header.kind == REMOVAL:
        return Removal(meta["path"])
    if header.kind == MARK:
        return _mark_from_meta(meta)
    if header.kind != SNAPSHOT:
        return None
    function: str | bytes = meta["function"] or b""
    data: bytes | None = None
    if record is not None:
        at = HEADER_BYTES + header.meta_bytes
        payload = record[at : at + header.payload_bytes]
        if meta["function"] is None:
            function = payload[: meta["function_bytes"]]
        size = meta["data_bytes"]
        if size is not None:
            if size > MAX_SNAPSHOT:
                raise CorruptStoreError(f"a snapshot of {size} bytes is too big", phase="decode")
            data = decompress(header.compression, payload[meta["function_bytes"] :], size)
    return Snapshot(
        _mark_from_meta(meta),
        function,
        data,
        meta["saved_at"],
        meta["generation"],
        tuple(meta["keeps"]),
        meta["python"],
        meta["version"],
    )


def _mark_to_meta(mark: Mark) -> dict[str, Any]:
    # Written out: `dataclasses.asdict` takes 16 µs, as long as all the rest of a save.
    return {
        "path": mark.path,
        "incarnation": mark.incarnation,
        "sequence": mark.sequence,
        "status": mark.status.value,
        "active": mark.active,
        "suspect": mark.suspect,
        "attempts": mark.attempts,
        "tried": mark.tried,
    }


def _mark_from_meta(meta: dict[str, Any]) -> Mark:
    return Mark(
        meta["path"],
        meta["incarnation"],
        meta["sequence"],
        Status(meta["status"]),
        meta["active"],
        meta["suspect"],
        meta["attempts"],
        meta["tried"],
    )
