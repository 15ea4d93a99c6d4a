"""Is an autosave whole, whose is it, and may it be looked into?"""

from __future__ import annotations

import fcntl
import json
import lzma
import os
import pickle
import subprocess
import sys
from pathlib import Path
from typing import Any
from zlib import crc32

import pytest

from kompyct import guard
from kompyct.errors import (
    ArgumentError,
    ArgumentTypeError,
    AutosaveError,
    CorruptStoreError,
    StoreError,
    TrustError,
    VersionError,
)
from kompyct.guard import autosave, keeping
from kompyct.guard.autosave import Items
from kompyct.guard.keeping import Keeper
from kompyct.processes.identity import ProcessIdentity, identity_of

KEY = b"0123456789abcdef"
DEAD = ProcessIdentity(1 << 22, "long ago")
ITEMS = [(pickle.dumps(key), pickle.dumps(value)) for key, value in {"a": [1], 2: "b"}.items()]


def written(path: Path, items: Items = ITEMS, trusted: Any = "local") -> bytes:
    """An autosave at `path`, of a launcher that is dead."""
    data = autosave.encode(items, DEAD, trusted)
    path.write_bytes(data)
    return data


def recovered(path: Path, **options: Any) -> tuple[int, dict[Any, Any]]:
    """What `recover` returned and gave."""
    found: dict[Any, Any] = {}
    return guard.recover(found.update, path, **options), found


def keeper_of(path: Path, items: Items, trusted: Any = "local") -> Keeper:
    """One that saves what is in `items` now."""
    return Keeper(str(path), 1.0, lambda: (list(items), list(items)), trusted)


# -- the format -----------------------------------------------------------------------------


@pytest.mark.parametrize("trusted", ["local", KEY])
@pytest.mark.parametrize("size", [0, 10, 100_000])
def test_what_was_encoded_is_decoded(trusted: Any, size: int) -> None:
    """Given keys and values of any size, then they come back in their order, with the writer."""
    items = [*ITEMS, (b"key", b"x" * size)]
    data = autosave.encode(items, DEAD, trusted)
    found = autosave.decode(data, "path", trusted)
    assert found.items == items
    assert found.writer == autosave.writer_of(data) == DEAD
    assert len(data) < 1000


def test_nothing_is_an_autosave_as_well() -> None:
    """Given no keys, then there are none."""
    assert autosave.decode(autosave.encode([], None, "local"), "path", "local").items == []


def test_every_flipped_bit_is_found(tmp_path: Path) -> None:
    """RELIABILITY 2: Given any one bit flipped, then nothing of it is decoded."""
    data = autosave.encode(ITEMS, DEAD, "local")
    for position in range(len(data) * 8):
        bad = bytearray(data)
        bad[position // 8] ^= 1 << position % 8
        with pytest.raises((CorruptStoreError, TrustError, VersionError)):
            autosave.decode(bytes(bad), "path", "local")


def test_every_truncation_and_extension_is_found() -> None:
    """RELIABILITY 2: Given an autosave cut off anywhere, or with more behind it, then it is not
    decoded."""
    data = autosave.encode(ITEMS, DEAD, "local")
    for end in range(len(data)):
        with pytest.raises(CorruptStoreError):
            autosave.decode(data[:end], "path", "local")
        autosave.writer_of(data[:end])
    with pytest.raises(CorruptStoreError):
        autosave.decode(data + b"\0", "path", "local")


def test_a_newer_format_is_refused_by_name() -> None:
    """RELIABILITY 1, version skew: Given a newer version, then the error says so."""
    header = autosave._HEADER.pack(autosave.MAGIC, autosave.FORMAT + 1, 0, 0, 0, 0)
    data = (header + autosave._CRC.pack(crc32(header))).ljust(100, b"\0")
    with pytest.raises(VersionError, match=r"format 2, and this kompyct knows 1"):
        autosave.decode(data, "path", "local")


def test_a_bomb_is_not_unpacked(tmp_path: Path) -> None:
    """RELIABILITY 1: Given much that was compressed to little, then its size is told first."""
    path = tmp_path / "autosave"
    written(path, [(b"key", bytes(10_000_000))])
    assert path.stat().st_size < 100_000
    with pytest.raises(AutosaveError, match="more than 1000000"):
        recovered(path, max_bytes=1_000_000)


# -- recover --------------------------------------------------------------------------------


def test_an_autosave_is_recovered_and_stays(tmp_path: Path) -> None:
    """Given an autosave of a dead launcher, then rescue gets its content; the file stays."""
    data = written(tmp_path / "autosave")
    assert recovered(tmp_path / "autosave") == (0, {"a": [1], 2: "b"})
    assert (tmp_path / "autosave").read_bytes() == data


@pytest.mark.parametrize("damage", [b"", b"\0" * 500, b"{}", None])
def test_a_damaged_one_gives_way_to_the_one_before(tmp_path: Path, damage: bytes | None) -> None:
    """RELIABILITY 1: Given damage, or no file at all, then the previous one is used, with a
    warning, and the damaged one is not touched."""
    path = tmp_path / "autosave"
    written(tmp_path / "autosave.tmp")
    if damage is not None:
        path.write_bytes(damage)
    with pytest.warns(UserWarning, match="the autosave before the last is used"):
        assert recovered(path) == (1, {"a": [1], 2: "b"})
    assert damage is None or path.read_bytes() == damage


def test_two_damaged_ones_are_an_error(tmp_path: Path) -> None:
    """Given nothing to recover, then the error names both files, and is a RuntimeError."""
    (tmp_path / "autosave").write_bytes(b"x")
    (tmp_path / "autosave.tmp").write_bytes(b"y")
    with pytest.raises(AutosaveError, match=r"autosave does not.*the one before.*autosave\.tmp"):
        recovered(tmp_path / "autosave")
    with pytest.raises(RuntimeError):
        recovered(tmp_path / "autosave")


def test_no_autosave_is_an_error(tmp_path: Path) -> None:
    """Given neither file, then both functions raise FileNotFoundError, as the ancestor's."""
    with pytest.raises(FileNotFoundError):
        recovered(tmp_path / "autosave")
    with pytest.raises(FileNotFoundError):
        guard.is_active(tmp_path / "autosave")


def test_a_newer_one_is_not_passed_over(tmp_path: Path) -> None:
    """RELIABILITY 1: Given a file of a newer version, then the one before is not used instead."""
    path = tmp_path / "autosave"
    header = autosave._HEADER.pack(autosave.MAGIC, autosave.FORMAT + 1, 0, 0, 0, 0)
    path.write_bytes(header + autosave._CRC.pack(crc32(header)))
    written(tmp_path / "autosave.tmp")
    with pytest.raises(VersionError):
        recovered(path)


def test_an_autosave_of_the_ancestor_is_recovered(tmp_path: Path) -> None:
    """RELIABILITY 1, older format: Given a file that faultguard wrote, then it is read."""
    path = tmp_path / "autosave"
    with lzma.open(path, "w") as file:
        pickle.dump({"key": pickle.dumps([1, 2])}, file)
    assert recovered(path) == (0, {"key": [1, 2]})
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(AutosaveError, match="no autosave of faultguard"):
        recovered(path)


# -- trust ----------------------------------------------------------------------------------


class Planted:
    """Runs code when it is decoded."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Any, ...]:
        return Path.touch, (self.mark,)


def planted(tmp_path: Path) -> Path:
    path = tmp_path / "autosave"
    mark = tmp_path / "mark"
    written(path, [(pickle.dumps(Planted(mark)), pickle.dumps(Planted(mark)))])
    return path


@pytest.mark.parametrize("how", ["world", "group", "link", "folder", "owner", "folder link"])
def test_a_planted_autosave_is_not_looked_into(tmp_path: Path, how: str) -> None:
    """RELIABILITY 1: Given a file that somebody else could have written, no code in it runs."""
    folder = tmp_path / "folder"
    folder.mkdir()
    path = planted(folder)
    if how in ("group", "owner") and os.geteuid() != 0:
        pytest.skip("needs root")
    if how == "world":
        path.chmod(0o666)
    elif how == "group":
        os.chown(path, -1, 12345)
        path.chmod(0o660)
    elif how == "owner":
        os.chown(path, 12345, -1)
    elif how == "folder":
        folder.chmod(0o777)
    elif how == "link":
        path.rename(folder / "real")
        path.symlink_to(folder / "real")
    else:
        (tmp_path / "link").symlink_to(folder)
        path = tmp_path / "link" / "autosave"
    with pytest.raises(TrustError):
        recovered(path)
    assert not (folder / "mark").exists()


def test_with_a_key_only_what_was_signed_is_looked_into(tmp_path: Path) -> None:
    """RELIABILITY 1: Given a key, then unsigned, changed and otherwise signed files are refused,
    and where the file lies does not matter."""
    path = planted(tmp_path)
    with pytest.raises(TrustError):
        recovered(path, trust=KEY)
    data = written(path, trusted=KEY)
    assert recovered(path, trust=KEY) == (0, {"a": [1], 2: "b"})
    with pytest.raises(TrustError):
        recovered(path, trust=KEY[::-1])
    with pytest.raises(TrustError, match="is signed"):
        recovered(path)
    path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))
    with pytest.raises(TrustError):
        recovered(path, trust=KEY)
    assert not (tmp_path / "mark").exists()


@pytest.mark.parametrize(
    ("key", "error"), [(b"short", ArgumentError), ("given as text", ArgumentTypeError)]
)
def test_a_bad_key_is_refused_without_showing_it(
    tmp_path: Path, key: Any, error: type[Exception]
) -> None:
    """RELIABILITY 4: Given a key too short or of the wrong type, then it is not in the message."""
    for action in (
        lambda: recovered(tmp_path / "autosave", trust=key),
        lambda: guard.start(print, print, trust=key),
    ):
        (tmp_path / "autosave").touch()
        with pytest.raises(error) as caught:
            action()
        assert "short" not in str(caught.value)
        assert "given as text" not in str(caught.value)


def test_the_launcher_decodes_nothing(tmp_path: Path) -> None:
    """RELIABILITY 4: Given content that runs code when decoded, then neither recover nor a rescue
    that does not look at it runs any."""
    path = planted(tmp_path)
    assert guard.recover(lambda data: None, path) == 0
    assert not (tmp_path / "mark").exists()
    guard.recover(len, path)  # looks at the keys
    assert (tmp_path / "mark").exists()


# -- whose it is ----------------------------------------------------------------------------


def test_a_keeper_has_its_file_for_itself(tmp_path: Path) -> None:
    """Issue 4: Given an autosave of a living program, then it is active, nobody else can claim or
    recover it; and no longer when it is released."""
    path = tmp_path / "autosave"
    keeper = keeper_of(path, ITEMS)
    keeper.claim()
    assert guard.is_active(path)
    with pytest.raises(AutosaveError, match=r"belongs to a program that runs: .*process"):
        keeper_of(path, []).claim()
    with pytest.raises(AutosaveError, match="runs still"):
        recovered(path)
    keeper.release()
    assert not guard.is_active(path)
    assert recovered(path) == (0, {"a": [1], 2: "b"})
    assert not guard.is_active(path)


def test_a_lock_that_was_removed_does_not_hide_a_living_writer(tmp_path: Path) -> None:
    """Issue 4, liveness by lock and process identity: Given somebody who cleans up locks, then the
    writer named in the file counts, and its number alone does not."""
    path = tmp_path / "autosave"
    keeper = keeper_of(path, ITEMS)
    keeper.claim()
    (tmp_path / "autosave.lock").unlink()
    assert guard.is_active(path)
    own = identity_of(os.getpid())
    assert own is not None
    other = ProcessIdentity(own.pid, own.started + "1")
    path.write_bytes(autosave.encode(ITEMS, other, "local"))
    assert not guard.is_active(path)
    keeper.release()


def test_times_of_files_tell_nothing(tmp_path: Path) -> None:
    """RELIABILITY 1, "its liveness test is wrong in both directions": Given a file of just now
    whose writer is dead, then it is not active; given an old one whose writer lives, it is."""
    path = tmp_path / "autosave"
    written(path)
    os.utime(path)
    assert not guard.is_active(path)
    path.unlink()
    keeper = keeper_of(path, ITEMS)
    keeper.claim()
    os.utime(path, (0, 0))
    assert guard.is_active(path)
    keeper.remove()
    keeper.release()


@pytest.mark.parametrize("kind", ["autosave", "empty", "damaged", "folder", "link to nothing"])
def test_what_is_there_is_not_overwritten(tmp_path: Path, kind: str) -> None:
    """Issue 4: Given anything at the path, readable or not, then it is refused and stays."""
    path = tmp_path / "autosave"
    if kind == "autosave":
        written(path)
    elif kind == "folder":
        path.mkdir()
    elif kind == "link to nothing":
        path.symlink_to(tmp_path / "nothing")
    else:
        path.write_bytes(b"" if kind == "empty" else b"damaged")
    before = path.lstat()
    with pytest.raises(AutosaveError, match="exists already: recover it and remove it"):
        keeper_of(path, ITEMS).claim()
    assert path.lstat() == before
    with pytest.raises(RuntimeError):
        guard.start(print, lambda data, code: None, None, 1, path)


def test_a_folder_that_others_can_write_in_is_refused(tmp_path: Path) -> None:
    """Given a folder in which `recover` would not look, then nothing is saved there."""
    tmp_path.chmod(0o777)
    with pytest.raises(TrustError):
        keeper_of(tmp_path / "autosave", ITEMS).claim()
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_not_there_is_an_error(tmp_path: Path) -> None:
    """Given nowhere to write, then start says so, with an OSError as the ancestor's."""
    with pytest.raises(StoreError):
        keeper_of(tmp_path / "none" / "autosave", ITEMS).claim()
    with pytest.raises(OSError, match="none"):
        guard.start(print, lambda data, code: None, None, 1, tmp_path / "none" / "autosave")


@pytest.mark.parametrize("by", ["recover", "claim"])
def test_what_a_killed_launcher_was_writing_is_removed(tmp_path: Path, by: str) -> None:
    """Issue 4, no temporary left: Given a temporary whose writer is dead, then the next one to use
    the autosave removes it, and no other file's."""
    path = tmp_path / "autosave"
    left, other = (tmp_path / f".{name}.0123.kompyct-tmp" for name in ("autosave", "other"))
    left.touch()
    other.touch()
    if by == "recover":
        written(path)
        recovered(path)
    else:
        keeper = keeper_of(path, ITEMS)
        keeper.claim()
        keeper.remove()
        keeper.release()
    assert not left.exists()
    assert other.exists()


def test_each_save_keeps_the_one_before(tmp_path: Path) -> None:
    """Given saves with changes, then the last two are there; without, nothing is written."""
    path = tmp_path / "autosave"
    items: Items = []
    keeper = keeper_of(path, items)
    keeper.claim()
    for number in range(3):
        items[:] = [(pickle.dumps("key"), pickle.dumps(number))]
        keeper.save()
    first = path.stat().st_ino
    keeper.save()
    assert path.stat().st_ino == first
    keeper.release()
    assert recovered(path) == (0, {"key": 2})
    path.unlink()
    with pytest.warns(UserWarning, match="before the last"):
        assert recovered(path) == (1, {"key": 1})


def test_removing_leaves_nothing(tmp_path: Path) -> None:
    """Given a program that has ended well, then neither file nor lock is left."""
    keeper = keeper_of(tmp_path / "autosave", ITEMS)
    keeper.claim()
    keeper.save()
    keeper.remove()
    keeper.release()
    assert list(tmp_path.iterdir()) == []


def test_a_save_that_fails_is_counted_and_put_off(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """RELIABILITY 1: Given something in the way, then there is one warning, a count, and longer
    and longer delays; the file is whole, and written again when the way is free."""
    path = tmp_path / "autosave"
    items: Items = list(ITEMS)
    keeper = keeper_of(path, items)
    keeper.claim()
    before = path.read_bytes()
    previous = tmp_path / "autosave.tmp"
    previous.mkdir()
    (previous / "in the way").touch()
    items.append((pickle.dumps("new"), pickle.dumps(1)))
    delays = []
    for _ in range(8):
        keeper.save()
        delays.append(round(keeper.due_in))
    assert delays == [1, 2, 4, 8, 16, 32, 60, 60]
    assert keeper.failures == 8
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert path.read_bytes() == before
    (previous / "in the way").unlink()
    previous.rmdir()
    keeper.save()
    assert keeper.due_in <= 1.0
    assert "written again, after 8 tries" in caplog.records[-1].getMessage()
    keeper.release()
    assert recovered(path)[1]["new"] == 1
    assert [p.name for p in tmp_path.iterdir() if keeping.LOCK not in p.name] != []


def test_the_lock_is_free_when_its_process_is_dead(tmp_path: Path) -> None:
    """B-82: Given a launcher that was killed, then its autosave is not active, at once."""
    program = f"""
import os, sys
from kompyct.guard.keeping import Keeper
Keeper({str(tmp_path / "autosave")!r}, 1.0, lambda: (1, []), "local").claim()
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", program], timeout=20, check=False)
    assert (tmp_path / "autosave.lock").exists()
    assert json.loads((tmp_path / "autosave.lock").read_text())["pid"] > 0
    assert not guard.is_active(tmp_path / "autosave")
    assert recovered(tmp_path / "autosave") == (0, {})
    assert [path.name for path in tmp_path.iterdir()] == ["autosave"]
    descriptor = os.open(tmp_path / "autosave.lock", os.O_CREAT | os.O_RDWR)
    fcntl.flock(descriptor, fcntl.LOCK_EX)
    assert guard.is_active(tmp_path / "autosave")
    os.close(descriptor)
