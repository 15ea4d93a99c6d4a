"""What do the segments of a folder hold, and what of it is damaged?

Reading needs no lock: a segment is only appended to, and is removed when another one that holds
all that counts has taken its place.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

from kompyct.errors import CorruptStoreError, StoreError, TrustError, VersionError
from kompyct.store import files, records
from kompyct.store.records import END, HEADER_BYTES, SEGMENT, Header, Sealer
from kompyct.store.snapshots import Mark, Removal, Snapshot, with_entry
from kompyct.store.trust import check_folder, check_local, check_no_link

NAME = re.compile(r"snapshots-(\d{8,})-([0-9a-f]{16})\.log")

MAX_SEGMENT = 1 << 33
"""Bytes of a segment at most; a greater one is not read, and none of half that is appended to."""

_WINDOW = 1 << 20  # bytes that are searched at once for the next record


@dataclass(eq=False)
class Segment:
    """A file of records.

    Attributes:
        number: a later one has a greater number.
        sealer: of its records.
        path: of the file.
        descriptor: for reading, and for appending if it is the writer's present one.
        size: bytes that hold records; what is behind them is not acknowledged.
        begins: bytes of its first record, if this process has begun it.
        closed: whether it ends with an END record.
    """

    number: int
    sealer: Sealer
    path: str
    descriptor: int
    size: int = 0
    begins: int = 0
    closed: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Located(Snapshot):
    """A snapshot without function and data, and where its record is."""

    segment: Segment
    offset: int
    length: int


@dataclass(frozen=True, slots=True)
class Damage:
    """Bytes of a segment that are no record.

    Attributes:
        path: of the segment.
        offset: where they begin.
        length: how many.
        what: in words.
        torn: whether they may be the rest of a write that a crash has cut off.
    """

    path: str
    offset: int
    length: int
    what: str
    torn: bool = False

    def __str__(self) -> str:
        return f"{os.path.basename(self.path)}, {self.length} bytes at {self.offset}: {self.what}"


@dataclass
class Contents:
    """What a folder holds: the kept generations of each path, newest first."""

    kept: dict[str, tuple[Located, ...]] = field(default_factory=dict)
    segments: list[Segment] = field(default_factory=list)
    damages: list[Damage] = field(default_factory=list)
    replaced: list[str] = field(default_factory=list)  # segments whose place was taken
    holds: bool = False  # whether any record's seal does, but for those that begin a segment

    def enter(self, entry: Located | Mark | Removal) -> None:
        """Take up what was saved later than everything entered so far."""
        if isinstance(entry, Removal):
            self.kept.pop(entry.path, None)
            return
        kept = with_entry(self.kept.get(entry.path, ()), entry)
        if kept:
            self.kept[entry.path] = kept  # type: ignore[assignment]  # of what was put in

    def close(self) -> None:
        """Close all segments."""
        for segment in self.segments:
            files.close(segment.descriptor)


def read_folder(folder: str, key: bytes, *, local: bool) -> Contents:
    """Read the segments of `folder`.

    Args:
        key: that they are sealed with; empty for none.
        local: refuse what somebody else could have written.

    Raises:
        TrustError: they are sealed with another key, or could be somebody else's.
        VersionError: a newer kompyct wrote one of them.
        StoreError: one of them cannot be read.
    """
    while True:
        try:
            return _read_folder(folder, key, local=local)
        except FileNotFoundError:
            continue  # its place was taken between the look at the folder and the opening


def _read_folder(folder: str, key: bytes, *, local: bool) -> Contents:
    if local:
        check_folder(folder)
    found = []
    for name in files.list_folder(folder):
        match = NAME.fullmatch(name)
        if match is not None:
            found.append((int(match[1]), match[2], os.path.join(folder, name)))
    contents = Contents()
    try:
        for number, salt, path in sorted(found):
            if local:
                check_no_link(path)
            descriptor = files.open_to_read(path, follow=False)
            if descriptor is None:
                raise FileNotFoundError(path)
            segment = Segment(number, Sealer(salt.encode(), key), path, descriptor)
            contents.segments.append(segment)
            if local:
                check_local(path, files.status_of_open(descriptor, path))
            _read_segment(contents, segment, key)
    except BaseException:
        contents.close()
        raise
    return contents


def _read_segment(contents: Contents, segment: Segment, key: bytes) -> None:
    for offset, found in scan(segment):
        if isinstance(found, Damage):
            contents.damages.append(found)
            continue
        header, meta = found
        segment.size = offset + header.length
        segment.closed = header.kind == END
        if header.kind == SEGMENT:
            _begin_segment(contents, segment, meta, key)
            continue
        contents.holds = True
        entry = records.decode_entry(header, meta, None)
        if isinstance(entry, Snapshot):
            contents.enter(located(entry, segment, offset, header.length))
        elif entry is not None:
            contents.enter(entry)


def _begin_segment(contents: Contents, segment: Segment, meta: dict[str, Any], key: bytes) -> None:
    """Take up the first record: it may say that this segment takes the place of earlier ones."""
    told = str(meta.get("key"))
    if told != records.key_id(key):
        needs = "another key" if key and told else "a key" if told else "no key"
        way_out = "give that, as trust= or --key-file" if told else "give none"
        raise TrustError(
            f"{segment.path} was written with {needs}; {way_out}",
            path=segment.path,
            phase="trust",
            errno=errno.EPERM,
        )
    if meta.get("proof") != _proof(segment, replaces=bool(meta.get("replaces"))):
        raise CorruptStoreError(
            f"{segment.path} does not begin as a segment does; move it away",
            path=segment.path,
            phase="decode",
        )
    if meta["replaces"]:
        earlier, contents.segments = contents.segments[:-1], [segment]
        contents.kept.clear()
        contents.damages.clear()
        for old in earlier:
            contents.replaced.append(old.path)
            files.close(old.descriptor)


def located(snapshot: Snapshot, segment: Segment, offset: int, length: int) -> Located:
    """`snapshot` without function and data, and where its record is."""
    return Located(
        snapshot.mark,
        snapshot.function if isinstance(snapshot.function, str) else b"",
        None,
        snapshot.saved_at,
        snapshot.generation,
        snapshot.keeps,
        snapshot.python,
        snapshot.version,
        segment=segment,
        offset=offset,
        length=length,
    )


def scan(segment: Segment) -> Iterator[tuple[int, tuple[Header, dict[str, Any]] | Damage]]:
    """The records of a segment, and what is none, each with its offset.

    After a damaged place the next record is looked for from byte to byte: what a damaged header,
    or the data of a damaged record, says of lengths and versions means nothing. A seal holds in
    one place only, so nothing is taken for a record that is none.

    Raises:
        VersionError: a newer kompyct wrote one of them.
        StoreError: it cannot be read.
    """
    size = files.status_of_open(segment.descriptor, segment.path).st_size
    if size > MAX_SEGMENT:
        raise CorruptStoreError(
            f"{segment.path} has {size} bytes, and no segment has more than {MAX_SEGMENT}; "
            "move it away",
            path=segment.path,
            phase="read",
            errno=errno.EFBIG,
        )
    if not size:
        yield 0, Damage(segment.path, 0, 0, "empty", torn=True)
    offset = 0
    damage: Damage | None = None  # the place that is damaged, from its beginning on
    while offset < size:
        header, what = _look(segment, offset, size)
        if header is not None and header.version > records.FORMAT and damage is None:
            raise VersionError(
                f"{segment.path} was written in format {header.version}, and this kompyct knows "
                f"{records.FORMAT}; use a newer one",
                path=segment.path,
                phase="decode",
            )
        if header is not None and not what:
            record = files.read_at(segment.descriptor, header.length, offset, segment.path)
            if _holds(segment, header, offset, record):
                if damage is not None:
                    length = offset - damage.offset
                    yield damage.offset, replace(damage, length=length, torn=False)
                    damage = None
                yield offset, (header, records.decode_meta(header, record))
                offset += header.length
                continue
            what = "the seal does not hold"
        if damage is None:
            cut_off = what.startswith("cut off")
            torn = cut_off or _all_zeros(segment, offset, size)
            damage = Damage(segment.path, offset, 0, what, torn)
        offset = _next(segment, offset + 1)
    if damage is not None:
        yield damage.offset, replace(damage, length=size - damage.offset)


def read_record(place: Located) -> tuple[Header, bytes] | Damage:
    """The record that is there, read and checked anew.

    Raises:
        StoreError: it cannot be read.
    """
    segment, offset, length = place.segment, place.offset, place.length
    record = files.read_at(segment.descriptor, length, offset, segment.path)
    header = records.decode_header(record)
    if header is None or not _holds(segment, header, offset, record):
        return Damage(segment.path, offset, length, "the seal does not hold")
    return header, record


def read_snapshot(place: Located) -> Snapshot | Damage:
    """The snapshot whose record is there, read and checked anew.

    Raises:
        StoreError: it cannot be read.
        BackendMissingError: it is compressed by what is not installed here.
    """
    found = read_record(place)
    if isinstance(found, Damage):
        return found
    header, record = found
    try:
        entry = records.decode_entry(header, records.decode_meta(header, record), record)
    except StoreError as error:
        return Damage(place.segment.path, place.offset, place.length, str(error))
    assert isinstance(entry, Snapshot)
    return replace(entry, mark=place.mark)  # what was marked since is known there only


def is_removed(segment: Segment) -> bool:
    """Whether somebody has removed the file, which is open still."""
    return not files.status_of_open(segment.descriptor, segment.path).st_nlink


def _look(segment: Segment, offset: int, size: int) -> tuple[Header | None, str]:
    """The header at `offset`, and what is wrong there."""
    if size - offset < HEADER_BYTES:
        return None, "cut off in a header"
    header = records.decode_header(
        files.read_at(segment.descriptor, HEADER_BYTES, offset, segment.path)
    )
    if header is None:
        return None, "no header of a record"
    if header.version <= records.FORMAT and offset + header.length > size:
        return header, "cut off in a record"
    return header, ""


def _holds(segment: Segment, header: Header, offset: int, record: bytes) -> bool:
    if len(record) != header.length or (header.kind == SEGMENT and offset):
        return False
    sealer = _UNKEYED if header.kind == SEGMENT else segment.sealer
    return sealer.holds(offset, record)


_UNKEYED = Sealer(b"", b"")
"""Seals the first record of every segment, which says which key the others are sealed with."""


def first_record(segment: Segment, key: bytes, *, replaces: bool, when: float) -> bytes:
    """The record that begins `segment`.

    Args:
        replaces: whether it takes the place of all earlier ones.
        when: seconds since the epoch.
    """
    meta = {
        "number": segment.number,
        "key": records.key_id(key),
        "replaces": replaces,
        "created": when,
        "proof": _proof(segment, replaces=replaces),
    }
    return records.encode_record(SEGMENT, meta, 0, _UNKEYED)


def _proof(segment: Segment, *, replaces: bool) -> str:
    """What only who has the key can say of the first record, whose seal has none."""
    return segment.sealer.seal(0, b"%d %d" % (segment.number, replaces)).hex()


def _next(segment: Segment, start: int) -> int:
    """Where the next header is, at `start` or later; the end of the segment if there is none."""
    size = files.status_of_open(segment.descriptor, segment.path).st_size
    while start < size:
        window = files.read_at(segment.descriptor, _WINDOW, start, segment.path)
        at = window.find(records.MAGIC)
        while at >= 0:
            head = files.read_at(segment.descriptor, HEADER_BYTES, start + at, segment.path)
            if records.decode_header(head) is not None:
                return start + at
            at = window.find(records.MAGIC, at + 1)
        if len(window) < _WINDOW:
            break
        start += len(window) - len(records.MAGIC) + 1
    return size


def _all_zeros(segment: Segment, offset: int, size: int) -> bool:
    while offset < size:
        window = files.read_at(segment.descriptor, _WINDOW, offset, segment.path)
        if not window or window.strip(b"\0"):
            return False
        offset += len(window)
    return True
