"""What do a store's folder and its records still have to stand? Gaps of the suites of stores."""

from __future__ import annotations

import errno
import fcntl
import os
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from kompyct.errors import StoreError, StoreLockedError
from kompyct.store import directory, files, records
from kompyct.store.directory import DirectoryStore
from kompyct.store.records import Sealer
from kompyct.store.segments import Damage
from tests.conftest import LIMIT
from tests.test_store_directory import (  # fixtures included
    KEY,
    Opens,
    aside,
    bounds,
    calls,
    flip,
    folder,
    is_log,
    logs,
    opens,
    sequences,
    snapshot,
)
from tests.test_store_files import Calls
from tests.test_store_records import Reader, reader, segment_of

__all__ = ["calls", "folder", "opens", "reader"]

HEAD = struct.Struct("<4sBBHIQ")  # as the head of records.py says
FIELDS = ["magic", "version", "kind", "compression", "meta", "payload"]


@pytest.mark.parametrize("field", range(1, 6), ids=FIELDS[1:])
@pytest.mark.parametrize("change", [-1, 1])
def test_a_header_field_off_by_one_is_found(reader: Reader, field: int, change: int) -> None:
    """RELIABILITY.md 3: with the checksum of the header made right, the seal still finds it."""
    first, second = snapshot(1), snapshot(2)
    begin = len(segment_of(first))
    data = bytearray(segment_of(first, second))
    values = list(HEAD.unpack(data[begin : begin + HEAD.size]))
    if values[field] + change < 0 or (field == 1 and change > 0):
        pytest.skip("no such value, or a newer format, which is refused")
    values[field] += change
    head = HEAD.pack(*values)
    data[begin : begin + 24] = head + crc32(head).to_bytes(4, "little")
    found, damages, _ = reader.read(bytes(data))
    assert found == {"/a": first}
    assert [damage.offset for damage in damages] == [begin]


def test_a_first_record_in_the_data_of_a_damaged_one_is_none(folder: Path, opens: Opens) -> None:
    """records.py: a record inside the data of another one is none; that of a segment included.

    It says "I take the place of all earlier ones". Its seal needs no key and no salt, so that
    whoever has a value saved can make it, if he guesses where it will stand.
    """
    store = opens()
    store.save([snapshot(1, path="/other")])
    (log,) = logs(folder)
    begin = log.stat().st_size
    meta = {"number": 1, "key": "", "replaces": True, "created": 0.0}
    unkeyed = Sealer(b"", b"")
    size = len(records.encode_record(records.SEGMENT, meta, 0, unkeyed))
    trial = records.encode_entry(snapshot(1, data=bytes(size)), begin, unkeyed)
    header = records.decode_header(trial[:24])
    assert header is not None
    at = begin + 24 + header.meta_bytes
    planted = records.encode_record(records.SEGMENT, meta, at, unkeyed)
    store.save([snapshot(1, data=planted)])
    store.close()
    assert log.read_bytes()[at : at + size] == planted
    flip(log, begin + 30)
    assert sequences(opens(), "/other") == [1]


def test_what_cannot_be_set_aside_stays_where_it_is(
    folder: Path, opens: Opens, calls: Calls
) -> None:
    """B-77: the bad file is kept; a compaction must not remove the only copy of it."""
    store = opens()
    store.save([snapshot(1)])
    store.save([snapshot(2, data=b"precious" * 10, keeps=(1,))])
    store.close()
    (log,) = logs(folder)
    begin, end = bounds(log)[2]
    flip(log, begin + 30)
    bad = log.read_bytes()[begin:end]
    calls.fail("write", errno.ENOSPC, lambda path: f"{os.sep}damaged{os.sep}" in path)
    assert sequences(opens()) == [1]
    assert any(bad in path.read_bytes() for path in folder.iterdir() if path.is_file())


def test_a_segment_with_the_highest_number_makes_no_save_invisible(
    folder: Path, opens: Opens
) -> None:
    """S-29: what was acknowledged is there at the next start, whatever lies in the folder."""
    store = opens()
    store.save([snapshot(1)])
    store.close()
    stray = folder / "snapshots-99999999-0123456789abcdef.log"
    stray.touch(0o600)
    opens().save([snapshot(2, keeps=(1,))])
    assert sequences(opens()) == [2, 1]


@pytest.mark.parametrize(
    "meta", [{}, {"number": 2, "key": records.key_id(KEY), "replaces": True, "created": 0.0}]
)
def test_a_planted_first_record_neither_fails_nor_replaces(
    folder: Path, opens: Opens, meta: dict[str, Any]
) -> None:
    """S-28: with a key, what others can write is not believed; at worst it is a StoreError."""
    opens(trust=KEY).save([snapshot(1)])
    opens(trust=KEY).close()
    (log,) = logs(folder)
    planted = folder / "snapshots-00000002-0123456789abcdef.log"
    planted.write_bytes(records.encode_record(records.SEGMENT, meta, 0, Sealer(b"", b"")))
    try:
        assert sequences(opens(trust=KEY)) == [1]
    except StoreError:
        assert log.exists()


def test_a_lock_file_of_deep_json_is_told_as_another_process(folder: Path, opens: Opens) -> None:
    """The refusal of a second writer is a StoreLockedError, whatever the lock file holds."""
    opens()
    (folder / "lock").write_bytes(b"[" * 4000)
    with pytest.raises(StoreLockedError, match="another process"):
        DirectoryStore(folder)


def test_temporaries_of_dead_writers_are_swept_at_the_opening(folder: Path, opens: Opens) -> None:
    """RELIABILITY.md 2: 0 temporaries after the next open; other files are left alone."""
    opens().save([snapshot(1)])
    (folder / f".snapshots-00000009-0.log.0123{files.TEMPORARY}").write_bytes(b"half")
    (folder / "mine").write_bytes(b"mine")
    assert sequences(opens()) == [1]
    assert [name for name in os.listdir(folder) if name.endswith(files.TEMPORARY)] == []
    assert (folder / "mine").read_bytes() == b"mine"


def test_a_full_disk_that_cannot_cut_off_abandons_the_segment(
    folder: Path, opens: Opens, monkeypatch: pytest.MonkeyPatch, calls: Calls
) -> None:
    """`_append`: half a record behind which nothing may be appended; the next save works."""
    store = opens()
    store.save([snapshot(1)])

    def refused(*_: object) -> None:
        raise StoreError("no", phase="write", errno=errno.EIO)

    calls.fill_up(is_log)
    monkeypatch.setattr(files, "cut_off", refused)
    with pytest.raises(StoreError):
        store.save([snapshot(2, keeps=(1,))])
    calls.heal()
    store.save([snapshot(2, keeps=(1,))])
    assert len(logs(folder)) == 2
    found: list[Damage] = []
    assert sequences(opens(on_damage=found.append)) == [2, 1]
    assert [(damage.length, damage.torn) for damage in found] == [(50, True)]
    assert aside(folder) == []


def test_many_segments_become_one_at_the_opening(folder: Path, opens: Opens) -> None:
    """`MAX_SEGMENTS`: every start that saves makes one; more than so many are compacted."""
    for number in range(1, directory.MAX_SEGMENTS + 2):
        opens().save([snapshot(number, keeps=(number - 1,))])
    assert len(logs(folder)) == directory.MAX_SEGMENTS + 1
    last = directory.MAX_SEGMENTS + 1
    assert sequences(opens()) == [last, last - 1]
    assert len(logs(folder)) == 1


def test_an_ended_segment_is_never_appended_to(folder: Path, opens: Opens) -> None:
    """records.py: END is the last record of its file; the next writer begins another."""
    opens().save([snapshot(1)])
    store = opens()
    (log,) = logs(folder)
    before = log.read_bytes()
    last, _ = bounds(log)[-1]
    header = records.decode_header(before[last : last + 24])
    assert header is not None
    assert header.kind == records.END
    store.save([snapshot(2, keeps=(1,))])
    assert log.read_bytes() == before
    assert len(logs(folder)) == 2


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS])
def test_a_folder_that_cannot_be_written_is_refused_at_the_opening(
    folder: Path, opens: Opens, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """RELIABILITY.md 1: `StoreError` with errno, path and phase; root is refused by a stand-in."""
    opens().save([snapshot(1)])
    opens().close()
    real: Callable[..., int] = os.open

    def refused(path: Any, flags: int, *mode: Any, **options: Any) -> int:
        if flags & (os.O_RDWR | os.O_CREAT) and os.fspath(path).startswith(str(folder)):
            raise OSError(number, os.strerror(number), path)
        return real(path, flags, *mode, **options)

    monkeypatch.setattr(os, "open", refused)
    with pytest.raises(StoreError) as caught:
        DirectoryStore(folder)
    assert caught.value.errno == number
    assert caught.value.path == str(folder / "lock")
    assert caught.value.phase == "lock"


def test_a_shared_lock_of_a_stranger_does_not_hold_up_the_opening(folder: Path) -> None:
    """locks.py: `timeout` seconds, then StoreLockedError; `flock -s` of anybody included.

    In a program of its own, which can be ended if it waits for ever.
    """
    folder.mkdir(0o700)
    program = (
        "import sys\n"
        "from kompyct.errors import StoreLockedError\n"
        "from kompyct.store.locks import FileLock\n"
        "try:\n"
        "    FileLock(sys.argv[1]).acquire(0.1)\n"
        "except StoreLockedError:\n"
        "    sys.exit(7)\n"
    )
    path = folder / "lock"
    path.touch(0o600)
    with path.open() as held:
        fcntl.flock(held, fcntl.LOCK_SH)
        done = subprocess.run([sys.executable, "-c", program, path], timeout=LIMIT, check=False)
    assert done.returncode == 7
