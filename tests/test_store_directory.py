"""Does the folder of a store hold what was saved, whatever is done to it?"""

from __future__ import annotations

import errno
import os
import struct
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from kompyct.errors import (
    CorruptStoreError,
    DurabilityError,
    StoreError,
    StoreLockedError,
    TrustError,
    VersionError,
)
from kompyct.lifecycle import Status
from kompyct.store import compression, directory, files, records, segments
from kompyct.store.directory import DirectoryStore
from kompyct.store.segments import Damage
from kompyct.store.snapshots import Mark, Removal, Snapshot
from tests.conftest import LIMIT
from tests.test_store_files import Calls

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="it needs locks of POSIX")

KEY = b"k" * 32
OTHER = b"o" * 32


def snapshot(
    sequence: int = 1,
    *,
    path: str = "/a",
    data: bytes | None = None,
    keeps: tuple[int, ...] = (),
    status: Status = Status.UNFINISHED,
    saved_at: float = 5.0,
) -> Snapshot:
    """One of the component at `path`, whose data tells path and sequence."""
    if data is None:
        data = f"{path} {sequence}".encode()
    mark = Mark(path, 1, sequence, status)
    return Snapshot(mark, "module:function", data, saved_at, sequence, keeps)


def logs(folder: Path) -> list[Path]:
    """The segments, in their order."""
    return sorted(folder.glob("snapshots-*.log"))


def aside(folder: Path) -> list[bytes]:
    """What was set aside as damaged."""
    return sorted(path.read_bytes() for path in (folder / "damaged").glob("*"))


def sequences(store: DirectoryStore, path: str = "/a") -> list[int]:
    """Of the generations that are kept, newest first."""
    return [found.mark.sequence for found in store.load(path)]


def bounds(log: Path) -> list[tuple[int, int]]:
    """Where each record of an undamaged segment begins and ends."""
    data = log.read_bytes()
    found = []
    offset = 0
    while offset < len(data):
        header = records.decode_header(data[offset : offset + records.HEADER_BYTES])
        assert header is not None
        found.append((offset, offset + header.length))
        offset += header.length
    return found


def flip(log: Path, offset: int) -> None:
    """Change one bit of the file."""
    data = bytearray(log.read_bytes())
    data[offset] ^= 4
    log.write_bytes(data)


Opens = Callable[..., DirectoryStore]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "state"


@pytest.fixture
def opens(folder: Path) -> Iterator[Opens]:
    """Opens the store, the last one being closed before."""
    made: list[DirectoryStore] = []

    def opened(**options: Any) -> DirectoryStore:
        if made:
            made[-1].close()
        made.append(DirectoryStore(folder, **options))
        return made[-1]

    yield opened
    for store in made:
        store.close()


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> Calls:
    """What `kompyct.store.files` calls from now on."""
    made = Calls()
    monkeypatch.setattr(files, "os", made)
    return made


def is_log(path: str) -> bool:
    return path.endswith(".log")


# -- who may write to it --------------------------------------------------------------------


def test_a_second_writer_is_refused_and_told_who_has_it(folder: Path, opens: Opens) -> None:
    """B-82: refused while the first lives; the message says which process that is."""
    first = opens()
    with pytest.raises(StoreLockedError, match=str(os.getpid())):
        DirectoryStore(folder)
    first.close()
    DirectoryStore(folder).close()


def test_a_refused_writer_changes_nothing(folder: Path, opens: Opens) -> None:
    """B-82: the store of the first goes on as if nobody had asked."""
    first = opens()
    first.save([snapshot(1)])
    with pytest.raises(StoreLockedError):
        DirectoryStore(folder)
    first.save([snapshot(2)])
    assert sequences(first) == [2]
    assert sequences(opens()) == [2]


def test_a_failed_opening_leaves_no_lock(folder: Path, opens: Opens) -> None:
    """A wrong key is refused; the right one is taken right after."""
    opens(trust=KEY).close()
    store = opens(trust=KEY)
    store.save([snapshot(1)])
    store.close()
    with pytest.raises(TrustError):
        DirectoryStore(folder, trust=OTHER)
    assert sequences(opens(trust=KEY)) == [1]


def test_each_worker_gets_the_lowest_number_that_is_free(tmp_path: Path) -> None:
    """B-82, S-29: 0 and 1 while both live; who comes after the end of 0 is 0 and finds its own."""
    path = str(tmp_path / "state" / "{worker}")
    zero, one = DirectoryStore(path), DirectoryStore(path)
    assert [os.path.basename(store.path) for store in (zero, one)] == ["0", "1"]
    zero.save([snapshot(7)])
    zero.close()
    again = DirectoryStore(path)
    assert os.path.basename(again.path) == "0"
    assert sequences(again) == [7]
    again.close()
    one.close()


def test_a_closed_store_refuses_to_save_and_to_load(opens: Opens) -> None:
    """The protocol: a StoreError, no silent loss; closing twice is nothing."""
    store = opens()
    store.close()
    store.close()
    with pytest.raises(StoreError, match="closed"):
        store.save([snapshot()])
    with pytest.raises(StoreError, match="closed"):
        store.load("/a")


# -- paths that are no folder ---------------------------------------------------------------


def _file(path: Path) -> Path:
    path.write_bytes(b"precious")
    return path


def _fifo(path: Path) -> Path:
    os.mkfifo(path)
    return path


def _dangling(path: Path) -> Path:
    path.symlink_to("nowhere")
    return path


def _below_a_file(path: Path) -> Path:
    path.write_bytes(b"precious")
    return path / "state"


@pytest.mark.parametrize("make", [_file, _fifo, _dangling, _below_a_file])
@pytest.mark.parametrize("trust", ["local", KEY])
def test_what_is_no_folder_is_refused_at_once(
    tmp_path: Path, make: Callable[[Path], Path], trust: Any
) -> None:
    """S-29: the store is a folder; anything else is refused by name and left as it is."""
    path = make(tmp_path / "thing")
    before = os.lstat(tmp_path / "thing")
    with pytest.raises(StoreError, match=r"thing.* folder") as caught:
        DirectoryStore(path, trust=trust)
    assert caught.value.errno == (errno.ENOENT if make is _dangling else errno.ENOTDIR)
    after = os.lstat(tmp_path / "thing")
    assert (before.st_ino, before.st_size, before.st_mode) == (
        after.st_ino,
        after.st_size,
        after.st_mode,
    )


def test_a_link_to_a_folder_is_refused_by_local_trust(tmp_path: Path) -> None:
    """S-28: local trust refuses links."""
    (tmp_path / "real").mkdir(0o700)
    (tmp_path / "link").symlink_to("real")
    with pytest.raises(TrustError, match="link"):
        DirectoryStore(tmp_path / "link")
    assert os.listdir(tmp_path / "real") == []


def test_missing_folders_are_made_for_this_user_only(tmp_path: Path) -> None:
    """S-28: what it makes, it will trust: folders 0700, files 0600, whatever the umask."""
    before = os.umask(0)
    try:
        store = DirectoryStore(tmp_path / "a" / "b")
        store.save([snapshot()])
        store.close()
    finally:
        os.umask(before)
    assert (tmp_path / "a").stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    for path in (tmp_path / "a" / "b").iterdir():
        assert path.stat().st_mode & 0o777 == 0o600, path


# -- trust ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("written", "read"), [(KEY, OTHER), (KEY, "local"), ("local", KEY)], ids=str
)
def test_another_key_is_refused_and_nothing_is_touched(
    folder: Path, opens: Opens, written: Any, read: Any
) -> None:
    """S-28: TrustError, and the segment is what it was, byte by byte."""
    opens(trust=written).save([snapshot()])
    opens(trust=written).close()
    before = {log: log.read_bytes() for log in logs(folder)}
    with pytest.raises(TrustError):
        DirectoryStore(folder, trust=read)
    assert {log: log.read_bytes() for log in logs(folder)} == before
    assert sequences(opens(trust=written)) == [1]


@pytest.mark.parametrize("what", ["segment", "folder"])
def test_what_everybody_can_write_is_refused(folder: Path, opens: Opens, what: str) -> None:
    """S-28: local trust refuses files or folders writable by the world."""
    opens().save([snapshot()])
    opens().close()
    path = logs(folder)[0] if what == "segment" else folder
    path.chmod(path.stat().st_mode | 0o002)
    with pytest.raises(TrustError, match="everybody"):
        DirectoryStore(folder)
    path.chmod(path.stat().st_mode & ~0o002)
    assert sequences(opens()) == [1]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="root can chown only")
@pytest.mark.parametrize("what", ["segment", "folder"])
def test_what_belongs_to_another_user_is_refused(folder: Path, opens: Opens, what: str) -> None:
    """S-28: local trust refuses other owners."""
    opens().save([snapshot()])
    opens().close()
    path = logs(folder)[0] if what == "segment" else folder
    os.chown(path, 12345, -1)
    with pytest.raises(TrustError, match="12345"):
        DirectoryStore(folder)


def test_a_planted_link_is_no_segment(tmp_path: Path, folder: Path, opens: Opens) -> None:
    """S-28: a link named as a segment, to a file that somebody else fills, is refused."""
    opens().save([snapshot()])
    opens().close()
    log = logs(folder)[0]
    log.rename(tmp_path / "elsewhere")
    log.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(StoreError, match="link"):
        DirectoryStore(folder)


def test_a_segment_sealed_without_the_key_is_not_believed(
    tmp_path: Path, folder: Path, opens: Opens
) -> None:
    """S-28: with a key, records planted by somebody who has read the first record are none."""
    opens(trust=KEY).save([snapshot(1)])
    opens(trust=KEY).close()
    salt = b"0123456789abcdef"
    # Whoever reads the first record of another segment knows the id of the key, and no more.
    segment = segments.Segment(9, records.Sealer(salt, b""), "", -1)
    first = segments.first_record(segment, KEY, replaces=False, when=0.0)
    planted = records.encode_entry(
        snapshot(9, data=b"planted"), len(first), records.Sealer(salt, b"")
    )
    path = folder / f"snapshots-{9:08}-{salt.decode()}.log"
    path.write_bytes(first + planted)
    path.chmod(0o600)
    with pytest.raises(CorruptStoreError, match="does not begin"):
        opens(trust=KEY)
    path.unlink()
    store = opens(trust=KEY)
    assert [found.data for found in store.load("/a")] == [b"/a 1"]


# -- formats --------------------------------------------------------------------------------


def test_a_newer_format_is_refused_and_left_alone(folder: Path, opens: Opens) -> None:
    """B-79: refused with a clear error, never half loaded; no byte of it changes."""
    opens().save([snapshot()])
    opens().close()
    log = logs(folder)[0]
    data = bytearray(log.read_bytes())
    begin, _ = bounds(log)[1]
    data[begin + 4] = records.FORMAT + 1
    head = struct.calcsize("<4sBBHIQ")
    data[begin + head : begin + head + 4] = crc32(data[begin : begin + head]).to_bytes(4, "little")
    log.write_bytes(data)
    with pytest.raises(VersionError, match=f"format {records.FORMAT + 1}"):
        DirectoryStore(folder)
    assert logs(folder) == [log]
    assert log.read_bytes() == data
    assert not (folder / "damaged").exists()


# -- damage ---------------------------------------------------------------------------------


def test_a_torn_tail_is_no_damage_and_what_was_before_it_holds(folder: Path, opens: Opens) -> None:
    """B-76: cut within the last record, the older generation is whole; nothing is set aside."""
    opens().save([snapshot(1)])
    first = opens()
    first.save([snapshot(2, keeps=(1,))])
    first.close()
    log = logs(folder)[-1]
    whole = log.read_bytes()
    begin, end = bounds(log)[1]
    for cut in [*range(begin + 1, end, 31), end - 1]:
        log.write_bytes(whole[:cut])
        found: list[Damage] = []
        segment_names = {path.name for path in logs(folder)}
        contents = segments.read_folder(str(folder), b"", local=True)
        found.extend(contents.damages)
        contents.close()
        assert [damage.torn for damage in found] == [True], cut
        assert [place.mark.sequence for place in contents.kept["/a"]] == [1], cut
        assert {path.name for path in logs(folder)} == segment_names
    store = opens()
    assert sequences(store) == [1]
    assert aside(folder) == []
    store.save([snapshot(2, keeps=(1,))])
    assert sequences(opens()) == [2, 1]


def test_zeros_behind_the_last_record_are_torn(folder: Path, opens: Opens) -> None:
    """B-76: file systems may leave zeros where a crash came before the data; no damage."""
    opens().save([snapshot(1)])
    opens().close()
    log = logs(folder)[-1]
    begin, _ = bounds(log)[-1]  # the record that says it was closed in order
    log.write_bytes(log.read_bytes()[:begin] + bytes(5000))
    found: list[Damage] = []
    store = opens(on_damage=found.append)
    assert [damage.torn for damage in found] == [True]
    assert sequences(store) == [1]
    assert aside(folder) == []


@pytest.mark.parametrize("trust", ["local", KEY])
@pytest.mark.parametrize("where", ["header", "length", "meta", "payload", "seal"])
def test_a_damaged_newest_snapshot_gives_the_previous_generation(
    folder: Path, opens: Opens, where: str, trust: Any
) -> None:
    """B-77: the previous one is used, it is reported, and the bad bytes are kept aside."""
    store = opens(trust=trust)
    store.save([snapshot(1), snapshot(2, keeps=(1,)), snapshot(5, path="/b")])
    store.close()
    log = logs(folder)[0]
    begin, end = bounds(log)[2]
    at = {
        "header": begin,
        "length": begin + 9,
        "meta": begin + 40,
        "payload": end - records.SEAL_BYTES - 1,
        "seal": end - 1,
    }[where]
    flip(log, at)
    bad = log.read_bytes()[begin:end]
    found: list[Damage] = []
    store = opens(trust=trust, on_damage=found.append)
    assert [(damage.offset, damage.length, damage.torn) for damage in found] == [
        (begin, end - begin, False)
    ]
    assert aside(folder) == [bad]
    assert sequences(store) == [1]
    assert sequences(store, "/b") == [5]
    store = opens(trust=trust, on_damage=found.append)
    assert len(found) == 1, "it was made whole, so it is not found again"
    assert sequences(store) == [1]
    assert sequences(store, "/b") == [5]


def test_damage_that_comes_while_the_store_is_open_is_found_by_load(
    folder: Path, opens: Opens
) -> None:
    """B-77: what is loaded is checked anew; the older generation is used and goes on."""
    found: list[Damage] = []
    store = opens(on_damage=found.append)
    store.save([snapshot(1), snapshot(2, keeps=(1,))])
    log = logs(folder)[0]
    _, end = bounds(log)[2]
    flip(log, end - 1)
    assert sequences(store) == [1]
    assert len(found) == 1
    assert len(aside(folder)) == 1
    store.save([snapshot(3, keeps=(2, 1))])
    assert sequences(store) == [3, 1]


def test_a_damaged_header_does_not_hide_the_records_behind_it(folder: Path, opens: Opens) -> None:
    """S-29: a damaged record is skipped, though its data holds the beginning of another one.

    The data of the first record holds the header of a record that would reach over the second.
    """
    store = opens()
    reaching = records.encode_entry(
        snapshot(1, path="/inner", data=b"x" * 400), 0, records.Sealer(b"", b"")
    )
    store.save([snapshot(1, data=reaching[: records.HEADER_BYTES])])
    store.save([snapshot(2, path="/b")])
    store.save([snapshot(3, path="/c", data=b"y" * 600)])
    store.close()
    log = logs(folder)[0]
    flip(log, bounds(log)[1][0])
    store = opens()
    assert store.paths() == ("/b", "/c")


def test_a_damaged_first_record_loses_no_other(folder: Path, opens: Opens) -> None:
    """S-29: the record that begins the file is skipped as any other."""
    opens().save([snapshot(1)])
    opens().close()
    flip(logs(folder)[0], 40)
    assert sequences(opens()) == [1]
    assert sequences(opens()) == [1]


# -- compaction -----------------------------------------------------------------------------


def fill(store: DirectoryStore) -> None:
    """Two components with generations and marks, and one that is gone."""
    for sequence in range(1, 9):
        store.save([snapshot(sequence, keeps=(sequence - 1, sequence - 2))])
    store.save([snapshot(1, path="/gone"), snapshot(1, path="/b")])
    store.save([Mark("/b", 1, 1, Status.CLEAN, True, 2, 3, 4), Removal("/gone")])


def check_filled(store: DirectoryStore) -> None:
    """That it holds what `fill` has left."""
    assert store.paths() == ("/a", "/b")
    assert [found.data for found in store.load("/a")] == [b"/a 8", b"/a 7", b"/a 6"]
    (other,) = store.load("/b")
    assert other.mark == Mark("/b", 1, 1, Status.CLEAN, True, 2, 3, 4)
    assert other.data == b"/b 1"


@pytest.mark.parametrize("trust", ["local", KEY])
def test_compaction_keeps_what_counts_and_removes_the_rest(
    folder: Path, opens: Opens, trust: Any
) -> None:
    """S-29: one smaller segment remains, and it gives the same."""
    fill(opens(trust=trust))
    store = opens(trust=trust)
    before = sum(log.stat().st_size for log in logs(folder))
    store.compact()
    assert len(logs(folder)) == 1
    assert logs(folder)[0].stat().st_size < before
    check_filled(store)
    check_filled(opens(trust=trust))


def test_saves_after_a_compaction_are_kept(folder: Path, opens: Opens) -> None:
    """S-29: the new segment is appended to, and read again."""
    store = opens()
    fill(store)
    store.compact()
    store.save([snapshot(9, keeps=(8, 7))])
    assert sequences(store) == [9, 8, 7]
    assert sequences(opens()) == [9, 8, 7]


def test_garbage_is_compacted_by_itself(
    folder: Path, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """S-29: many saves of one component do not fill the disk.

    2,000 records of more than 300 bytes are 600 kB; what counts is one of them.
    """
    monkeypatch.setattr(directory, "SMALL", 20_000)
    store = opens()
    for sequence in range(1, 2001):
        store.save([snapshot(sequence)])
    assert sum(log.stat().st_size for log in logs(folder)) < 100_000
    assert sequences(store) == [2000]


def test_a_crash_between_the_rename_and_the_removal_is_made_good(
    folder: Path, opens: Opens, calls: Calls
) -> None:
    """S-29: old and new segments lie there; the new one counts, and the others go."""
    store = opens()
    fill(store)
    calls.fail("unlink", errno.EPERM, is_log)
    store.compact()
    store.close()
    calls.heal()
    assert len(logs(folder)) == 2
    store = opens()
    assert len(logs(folder)) == 1
    check_filled(store)


@pytest.mark.parametrize("call", ["write", "fsync", "replace"])
def test_a_compaction_that_fails_before_its_rename_changes_nothing(
    folder: Path, opens: Opens, calls: Calls, call: str
) -> None:
    """S-29: an error, and all is as it was; later saves and compactions work."""
    store = opens()
    fill(store)
    before = logs(folder)
    calls.fail(call, errno.ENOSPC)
    with pytest.raises(StoreError):
        store.compact()
    calls.heal()
    assert logs(folder) == before
    check_filled(store)
    store.save([snapshot(9, keeps=(8,))])
    assert sequences(opens()) == [9, 8]


@pytest.mark.parametrize("removable", [True, False])
def test_a_compaction_that_fails_after_its_rename_loses_nothing_saved_later(
    folder: Path, opens: Opens, calls: Calls, removable: bool
) -> None:
    """S-29: the folder cannot be synced after the rename; what is saved then is there at the end.

    While the new segment cannot be removed either, a save is refused, not lost.
    """
    store = opens()
    fill(store)
    calls.fail("fsync", errno.EIO, lambda path: path == str(folder))
    if not removable:
        calls.fail("unlink", errno.EPERM, is_log)
    with pytest.raises(DurabilityError):
        store.compact()
    with pytest.raises(StoreError):
        store.save([snapshot(9, keeps=(8,))])
    calls.heal()
    check_filled(store)
    store.save([snapshot(10, keeps=(8,))])
    assert sequences(store) == [10, 8]
    assert sequences(opens()) == [10, 8]


def test_what_was_compressed_by_zstd_does_not_fail_saves_where_that_is_missing(
    folder: Path, opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A save that is durable returns, though the compaction after it cannot decompress."""
    if compression._zstd() is None:
        pytest.skip("needs the extra zstd")
    opens().save([snapshot(1, path="/big", data=bytes(5000))])
    monkeypatch.setattr(compression, "_zstd", lambda: None)
    monkeypatch.setattr(directory, "SMALL", 2000)
    store = opens()
    for sequence in range(1, 30):
        store.save([snapshot(sequence)])
    assert sequences(store) == [29]
    monkeypatch.undo()
    assert [found.data for found in opens().load("/big")] == [bytes(5000)]


def test_a_component_that_has_ended_is_kept_until_many_others_have(
    opens: Opens, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The docstring of MAX_RETIRED: the last ones saved are kept, those before are forgotten."""
    monkeypatch.setattr(directory, "MAX_RETIRED", 2)
    store = opens()
    for number in range(4):
        store.save([snapshot(path=f"/{number}", status=Status.RETIRED, saved_at=10.0 - number)])
    store.save([snapshot(path="/living", saved_at=0.0)])
    store.compact()
    assert store.paths() == ("/0", "/1", "/living")


# -- a disk that fails ----------------------------------------------------------------------


def test_an_error_of_sync_abandons_the_segment(folder: Path, opens: Opens, calls: Calls) -> None:
    """`files.sync`: it must not be tried again, a second try would say that all is well."""
    store = opens()
    store.save([snapshot(1)])
    (old,) = logs(folder)
    calls.fail("fsync", errno.EIO, is_log)
    with pytest.raises(DurabilityError):
        store.save([snapshot(2, keeps=(1,))])
    assert sequences(store) == [1]
    calls.heal()
    syncs = calls.count("fsync", str(old))
    store.save([snapshot(2, keeps=(1,))])
    store.save([snapshot(3, keeps=(2, 1))])
    store.close()
    assert calls.count("fsync", str(old)) == syncs
    assert len(logs(folder)) == 2
    assert sequences(opens()) == [3, 2, 1]


def test_a_full_disk_fails_the_save_and_a_later_one_works(
    folder: Path, opens: Opens, calls: Calls
) -> None:
    """B-78: the last good one stays; the half that was written is cut off."""
    store = opens()
    store.save([snapshot(1)])
    (log,) = logs(folder)
    before = log.read_bytes()
    written = calls.fill_up(is_log)
    with pytest.raises(StoreError) as caught:
        store.save([snapshot(2, keeps=(1,)), snapshot(1, path="/b")])
    assert caught.value.errno == errno.ENOSPC
    assert written == [50]
    assert log.read_bytes() == before
    assert sequences(store) == [1]
    assert store.paths() == ("/a",)
    calls.heal()
    store.save([snapshot(2, keeps=(1,))])
    found: list[Damage] = []
    assert sequences(opens(on_damage=found.append)) == [2, 1]
    assert found == []


def test_a_full_disk_at_the_first_save_leaves_no_segment(
    folder: Path, opens: Opens, calls: Calls
) -> None:
    """B-78: it is reported, and the store works once there is space."""
    store = opens()
    calls.fail("write", errno.ENOSPC, is_log)
    with pytest.raises(StoreError):
        store.save([snapshot(1)])
    assert logs(folder) == []
    calls.heal()
    store.save([snapshot(1)])
    assert sequences(opens()) == [1]


def test_a_file_system_that_knows_no_sync_is_told_once(opens: Opens, calls: Calls) -> None:
    """`durability`: "no-fsync", with one warning."""
    store = opens()
    assert store.durability == "durable"
    calls.fail("fsync", errno.EINVAL)
    with pytest.warns(RuntimeWarning, match="cannot sync"):
        store.save([snapshot(1)])
    store.save([snapshot(2)])  # a second warning would be an error
    assert store.durability == "no-fsync"


# -- several at once ------------------------------------------------------------------------


def test_two_threads_that_save_at_once_lose_nothing(opens: Opens) -> None:
    """SnapshotStore: every method is for any thread."""
    store = opens()
    barrier = threading.Barrier(2)
    errors: list[BaseException] = []

    def saves(path: str) -> None:
        try:
            barrier.wait(LIMIT)
            for sequence in range(1, 51):
                store.save([snapshot(sequence, path=path, keeps=(sequence - 1,))])
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=saves, args=(path,)) for path in ("/a", "/b")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert errors == []
    store = opens()
    assert sequences(store, "/a") == [50, 49]
    assert sequences(store, "/b") == [50, 49]


def test_a_reader_beside_the_writer_sees_whole_entries(folder: Path, opens: Opens) -> None:
    """S-29: reading needs no lock: each look gives whole snapshots, and never goes back."""
    store = opens()
    store.save([snapshot(1)])
    done = threading.Event()
    errors: list[BaseException] = []

    def writes() -> None:
        try:
            for sequence in range(2, 400):
                store.save([snapshot(sequence, keeps=(sequence - 1,))])
                if sequence % 5 == 0:
                    store.compact()
        except BaseException as error:
            errors.append(error)
        finally:
            done.set()

    writer = threading.Thread(target=writes)
    writer.start()
    newest = looks = 0
    while not done.is_set() or not looks:
        contents = segments.read_folder(str(folder), b"", local=True)
        assert [damage for damage in contents.damages if not damage.torn] == []
        for place in contents.kept["/a"]:
            found = segments.read_snapshot(place)
            assert isinstance(found, Snapshot)
            assert found.data == f"/a {found.mark.sequence}".encode()
        seen = contents.kept["/a"][0].mark.sequence
        assert seen >= newest
        newest = seen
        looks += 1
        contents.close()
    writer.join(LIMIT)
    assert errors == []
    assert sequences(store) == [399, 398]
