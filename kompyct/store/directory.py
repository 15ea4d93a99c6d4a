"""How are the snapshots of a system kept in a folder?

One lock file and segments of records that are only appended to (S-29). All that is saved at once
shares one sync. When the segments hold much that no longer counts, what counts is written into a
new one by a careful rename, and the old ones are removed.
"""

from __future__ import annotations

import os
import time
import warnings
from collections.abc import Callable, Sequence
from contextlib import suppress
from threading import RLock

from kompyct.errors import CorruptStoreError, DurabilityError, StoreError, StoreLockedError
from kompyct.lifecycle import Status
from kompyct.store import files, records, segments
from kompyct.store.atomic import checked_path
from kompyct.store.locks import FileLock
from kompyct.store.records import Sealer
from kompyct.store.segments import Contents, Damage, Located, Segment
from kompyct.store.snapshots import Entry, Mark, Removal, Snapshot
from kompyct.store.trust import Trust, check_folder, check_trust

WORKER = "{worker}"
"""Stands in the path of a store for the lowest number that no other process has."""

MAX_WORKERS = 10_000

SMALL = 1 << 22
"""Bytes of segments that are left alone, whatever they hold."""

GARBAGE = 4
"""The segments may be so many times as big as what counts in them."""

MAX_SEGMENTS = 16

MAX_RETIRED = 1000
"""Components that have ended whose snapshots are kept all the same; the last ones saved."""

MAX_SET_ASIDE = 1 << 26
"""Bytes of a damaged place that are kept."""

LOCK = "lock"
"""The file in the folder that its writer has locked."""

DAMAGED = "damaged"
"""The folder within the folder where damaged bytes are kept."""


class DirectoryStore:
    """The snapshots of one system in a folder; every method is for any thread.

    Args:
        path: the folder; made if it is not there. `{worker}` in it becomes the lowest number that
            no other process has, so that several workers find their own again.
        trust: "local", or a key that all records are sealed with.
        on_damage: called with what is found damaged, by whatever finds it.

    Raises:
        StoreLockedError: another living process writes to it.
        TrustError: it could be somebody else's, or was written with another key.
        CorruptStoreError: nothing in it is what was written.
        VersionError: a newer kompyct wrote to it.
        StoreError: it is no folder, or cannot be read or written.
        ArgumentError, ArgumentTypeError: for bad values.
    """

    def __init__(
        self,
        path: str | bytes | os.PathLike[str],
        *,
        trust: Trust = "local",
        on_damage: Callable[[Damage], object] | None = None,
    ) -> None:
        check_trust(trust)
        self._key = trust if isinstance(trust, bytes) else b""
        self._local = trust == "local"
        self._on_damage = on_damage
        self._mutex = RLock()  # protects all that follows
        self._synced = True
        self._segment: Segment | None = None  # the one that is appended to
        self._look_at = SMALL  # bytes of segments at which to look for garbage
        self._number = 0  # of the last segment that was begun
        self._needed: set[str] = set()  # segments with the only copy of damaged bytes
        self._stale: str | None = None  # a segment that must be removed before anything is saved
        self._contents = Contents()
        self.path, self._lock = _take(checked_path(path), local=self._local)
        try:
            files.sweep(self.path)
            files.sweep(os.path.join(self.path, DAMAGED))
            self._read()
        except BaseException:
            self._contents.close()
            self._lock.release()
            raise

    @property
    def owner(self) -> str:
        """The folder and the process, for people."""
        return f"{self.path}, process {os.getpid()}"

    @property
    def durability(self) -> str:
        """What a save is worth: "durable", or "no-fsync" where the file system cannot sync."""
        return "durable" if self._synced else "no-fsync"

    def save(self, entries: Sequence[Entry]) -> None:
        """Keep `entries`, which take effect in this order; durable when it returns.

        Raises:
            StoreError: they are not durable; they may be saved again.
            DurabilityError: it is unknown whether they are.
        """
        if not entries:
            return
        with self._mutex:
            self._check_open()
            self._lock.check()
            self._remove_stale()
            segment = self._segment
            if segment is not None and segments.is_removed(segment):
                self._compact()  # what is open can be read still
                segment = self._segment
            segment = segment or self._begin()
            batch, located = _encoded(entries, segment, segment.size)
            self._append(segment, batch)
            for entry in located:
                self._contents.enter(entry)
            if self._bytes() >= self._look_at:
                self._look_for_garbage()
            if segment.size >= segments.MAX_SEGMENT // 2:
                self._segment = None

    def load(self, path: str) -> tuple[Snapshot, ...]:
        """The kept generations of the component, newest first, but for damaged ones.

        Raises:
            StoreError: they cannot be read.
        """
        with self._mutex:
            self._check_open()
            kept = self._contents.kept
            whole: list[tuple[Located, Snapshot]] = []
            for located in kept.get(path, ()):
                found = segments.read_snapshot(located)
                if isinstance(found, Snapshot):
                    whole.append((located, found))
                elif not self._set_aside(found):
                    self._needed.add(found.path)
            if whole:
                kept[path] = tuple(located for located, _ in whole)
            else:
                kept.pop(path, None)
            return tuple(snapshot for _, snapshot in whole)

    def paths(self) -> tuple[str, ...]:
        """The paths of all components of which something is kept, in the order of the alphabet."""
        with self._mutex:
            return tuple(sorted(self._contents.kept))

    def compact(self) -> None:
        """Write what counts into a new segment and remove the others.

        Raises:
            StoreError: it could not be done; all is as it was.
        """
        with self._mutex:
            self._check_open()
            self._remove_stale()
            self._compact()

    def close(self) -> None:
        """Let the next writer in. Never raises."""
        with self._mutex:
            if not self._lock.held:
                return
            segment, self._segment = self._segment, None
            if segment is not None:
                end = records.encode_record(records.END, {}, segment.size, segment.sealer)
                with suppress(StoreError):  # it only says that nothing is missing behind it
                    files.append(segment.descriptor, end, segment.path)
            self._contents.close()
            self._lock.release()

    # -- private; the mutex is held ---------------------------------------------------------

    def _check_open(self) -> None:
        if not self._lock.held:
            raise StoreError(f"{self.path}: the store is closed", path=self.path, phase="open")

    def _read(self) -> None:
        """Take up what the folder holds, and make it whole."""
        contents = self._contents = segments.read_folder(self.path, self._key, local=self._local)
        damages = [damage for damage in contents.damages if not damage.torn]
        if damages and not contents.holds:
            raise CorruptStoreError(
                f"{self.path}: no record in it holds ({damages[0]}); it was sealed with another "
                "key, or is damaged throughout: move its files away to begin anew",
                path=self.path,
                phase="decode",
            )
        self._number = max((segment.number for segment in contents.segments), default=0)
        if contents.replaced:
            # A crash came between the rename and their removal, perhaps before its sync.
            files.sync_folder(self.path)
            for path in contents.replaced:
                files.remove(path)
        kept = [damage.path for damage in contents.damages if not self._set_aside(damage)]
        self._needed.update(kept)
        if contents.damages or len(contents.segments) > MAX_SEGMENTS:
            with suppress(StoreError):  # all is there without it too
                self._compact()

    def _begin(self) -> Segment:
        """Make the next segment the one that is appended to."""
        segment, first = self._next_segment(replaces=False)
        segment.descriptor = files.create_log(segment.path)
        try:
            files.append(segment.descriptor, first, segment.path)
            self._note_sync(files.sync_folder(self.path))
            if not self._contents.segments:
                files.sync_above(self.path)
        except BaseException:
            files.close(segment.descriptor)
            with suppress(StoreError):
                files.remove(segment.path)
            raise
        segment.size = segment.begins = len(first)
        self._contents.segments.append(segment)
        self._segment = segment
        return segment

    def _next_segment(self, *, replaces: bool) -> tuple[Segment, bytes]:
        number = self._number = self._number + 1
        salt = os.urandom(8).hex()
        path = os.path.join(self.path, f"snapshots-{number:08}-{salt}.log")
        segment = Segment(number, Sealer(salt.encode(), self._key), path, -1)
        return segment, segments.first_record(
            segment, self._key, replaces=replaces, when=time.time()
        )

    def _append(self, segment: Segment, data: bytes) -> None:
        """Append and sync; after an error nothing of `data` counts."""
        try:
            files.append(segment.descriptor, data, segment.path)
            self._note_sync(files.sync(segment.descriptor, segment.path))
            segment.size += len(data)  # in here: Ctrl+C must not come between file and size
        except BaseException as error:  # Ctrl+C may have come in the middle
            try:
                files.cut_off(segment.descriptor, segment.size, segment.path)
            except StoreError:
                self._segment = None
            if isinstance(error, DurabilityError):
                self._segment = None  # another sync of this file would tell nothing
            if self._segment is None and segment.size == segment.begins:  # nothing counts in it
                with suppress(StoreError):
                    files.remove(segment.path)
                    self._contents.segments.remove(segment)
                    files.close(segment.descriptor)
            raise

    def _bytes(self) -> int:
        return sum(segment.size for segment in self._contents.segments)

    def _look_for_garbage(self) -> None:
        kept = self._contents.kept
        counts = sum(place.length for path in self._counting() for place in kept[path])
        if self._bytes() >= max(SMALL, GARBAGE * counts):
            with suppress(StoreError):  # the disk may be full; later, then
                self._compact()
        self._look_at = max(self._bytes() + SMALL, GARBAGE * counts)

    def _compact(self) -> None:
        segment, first = self._next_segment(replaces=True)
        parts = [first]
        size = len(first)
        contents = Contents(segments=[segment])
        for path in self._counting():
            for place in reversed(self._contents.kept[path]):
                found = segments.read_record(place)
                if isinstance(found, Damage):
                    if not self._set_aside(found):
                        self._needed.add(found.path)
                    continue
                record = records.encode_again(*found, place.mark, size, segment.sealer)
                contents.enter(segments.located(place, segment, size, len(record)))
                parts.append(record)
                size += len(record)
        try:
            self._note_sync(files.replace(segment.path, b"".join(parts)))
            segment.descriptor = files.open_log(segment.path)
        except BaseException:
            # It may be there all the same. The next start would let it take the place of the
            # others, with what is saved into them from now on.
            self._stale = segment.path
            with suppress(StoreError):
                self._remove_stale()
            raise
        segment.size = size
        old, self._contents, self._segment = self._contents, contents, segment
        old.close()
        for gone in old.segments:
            with suppress(StoreError):  # the next start removes it
                if gone.path in self._needed:
                    files.set_apart(gone.path)
                else:
                    files.remove(gone.path)

    def _remove_stale(self) -> None:
        """Remove a segment whose compaction has failed.

        Raises:
            StoreError: it cannot be, so nothing may be saved.
        """
        if self._stale is not None:
            files.remove(self._stale)
            files.sync_folder(self.path)
            self._stale = None

    def _counting(self) -> list[str]:
        """The paths to keep: all but those of components that ended long ago."""
        kept = self._contents.kept
        retired = [path for path, found in kept.items() if found[0].mark.status is Status.RETIRED]
        retired.sort(key=lambda path: kept[path][0].saved_at)
        forgotten = set(retired[:-MAX_RETIRED])
        return [path for path in kept if path not in forgotten]

    def _set_aside(self, damage: Damage) -> bool:
        """Report `damage` and keep a copy of it; whether the original is needed no more."""
        if self._on_damage is not None:
            self._on_damage(damage)
        if damage.torn:  # the rest of a write that a crash has cut off
            return True
        name = f"{os.path.basename(damage.path)}-{damage.offset}"
        folder = os.path.join(self.path, DAMAGED)
        try:
            files.make_folder(folder)
            copy = os.path.join(folder, name)
            if files.status_of(copy, follow=False) is None:
                descriptor = files.open_to_read(damage.path, follow=False)
                if descriptor is None:
                    return False
                try:
                    length = min(damage.length, MAX_SET_ASIDE)
                    data = files.read_at(descriptor, length, damage.offset, damage.path)
                finally:
                    files.close(descriptor)
                files.replace(copy, data)
        except StoreError:  # the disk is full, or read-only: then the original is kept
            return False
        return damage.length <= MAX_SET_ASIDE

    def _note_sync(self, synced: bool) -> None:
        if self._synced and not synced:
            self._synced = False
            warnings.warn(
                f"the file system of {self.path} cannot sync: a power cut may lose snapshots",
                RuntimeWarning,
                stacklevel=4,
            )


def _encoded(
    entries: Sequence[Entry], segment: Segment, size: int
) -> tuple[bytes, list[Located | Mark | Removal]]:
    """The records of `entries` from offset `size` of `segment` on, and what they become there."""
    batch: list[bytes] = []
    located: list[Located | Mark | Removal] = []
    for entry in entries:
        record = records.encode_entry(entry, size, segment.sealer)
        batch.append(record)
        if isinstance(entry, Snapshot):
            located.append(segments.located(entry, segment, size, len(record)))
        else:
            located.append(entry)
        size += len(record)
    return b"".join(batch), located


def _take(path: str, *, local: bool) -> tuple[str, FileLock]:
    """The folder to use, and its lock, which is held."""
    if WORKER not in path:
        return path, _locked(path, local=local)
    for number in range(MAX_WORKERS):
        candidate = path.replace(WORKER, str(number))
        with suppress(StoreLockedError):
            return candidate, _locked(candidate, local=local)
    raise StoreLockedError(
        f"{path}: all of {MAX_WORKERS} folders are in use", path=path, phase="lock"
    )


def _locked(path: str, *, local: bool) -> FileLock:
    files.make_folder(path)
    if local:
        check_folder(path)
    lock = FileLock(os.path.join(path, LOCK))
    lock.acquire()
    return lock
