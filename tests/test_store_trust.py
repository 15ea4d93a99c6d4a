"""Does a planted file ever run code, and does a key ever show?"""

from __future__ import annotations

import base64
import errno
import os
import pickle
import stat
import traceback
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import cloudpickle
import pytest

from kompyct.errors import ArgumentError, ArgumentTypeError, KompyctError, StoreError, TrustError
from kompyct.store import AtomicStore, WrapBinaryFormat, open_store
from kompyct.store.trust import (
    MIN_KEY,
    check_folder,
    check_local,
    check_trust,
    is_signed,
    sign,
    verified,
)

KEY = b"a key of thirty-two random bytes"
OTHER_KEY = b"another one of thirty-two bytes."
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
OTHER = 12345  # a user, and a group, that is not this one's

as_root = pytest.mark.skipif(not ROOT, reason="only root may give files away")


class Planted:
    """Unpickled, it makes the folder `path`: code of somebody else's has run then."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., object], tuple[str]]:
        return os.mkdir, (str(self.path),)


@pytest.fixture
def proof(tmp_path: Path) -> Path:
    """What exists if the planted code has run."""
    return tmp_path / "proof"


@pytest.fixture
def path(tmp_path: Path, proof: Path) -> Path:
    """A planted pickle in a private folder."""
    folder = tmp_path / "folder"
    folder.mkdir(0o700)
    path = folder / "state"
    path.write_bytes(pickle.dumps(Planted(proof)))
    path.chmod(0o600)
    return path


def refused(path: Path, proof: Path, at: Path | None = None, **options: Any) -> TrustError:
    """The pickle in `path` is refused because of `at`, and nothing of it runs."""
    before = path.read_bytes()
    with pytest.raises(TrustError) as caught:
        open_store(path, **{"format": "pickle", **options})
    assert not proof.exists()
    assert path.read_bytes() == before
    assert (caught.value.phase, caught.value.path) == ("trust", str(at or path))
    assert caught.value.errno == errno.EPERM
    return caught.value


# -- local trust ----------------------------------------------------------------------------


def test_a_pickle_of_ones_own_is_read(path: Path, proof: Path) -> None:
    """S-28: so that the tests below mean something: trusted, the planted code does run."""
    assert open_store(path, format="pickle").value is None  # what mkdir returns
    assert proof.exists()


@pytest.mark.parametrize("mode", [0o602, 0o666, 0o622, 0o777])
def test_a_file_that_everybody_can_write_is_not_read(path: Path, proof: Path, mode: int) -> None:
    """S-28: files writable by the world are refused; the message says what to do."""
    path.chmod(mode)
    assert "chmod" in str(refused(path, proof))


@pytest.mark.parametrize("mode", [0o702, 0o777])
def test_a_folder_that_everybody_can_write_is_not_trusted(
    path: Path, proof: Path, mode: int
) -> None:
    """S-28: folders writable by the world are refused likewise."""
    path.parent.chmod(mode)
    refused(path, proof, path.parent)


@pytest.mark.parametrize("mode", [0o600, 0o644, 0o400, 0o755])
def test_what_others_can_only_read_is_trusted(path: Path, proof: Path, mode: int) -> None:
    """S-28: readable is not writable."""
    path.chmod(mode)
    path.parent.chmod(0o755)
    open_store(path, format="pickle")
    assert proof.exists()


def test_a_group_of_ones_own_may_write(path: Path, proof: Path) -> None:
    """S-28: a group that is the user's own is no stranger."""
    os.chown(path, -1, os.getegid())
    os.chown(path.parent, -1, os.getegid())
    path.chmod(0o660)
    path.parent.chmod(0o770)
    open_store(path, format="pickle")
    assert proof.exists()


@as_root
@pytest.mark.parametrize("what", ["file", "folder"])
def test_a_foreign_group_may_not_write(path: Path, proof: Path, what: str) -> None:
    """S-28: writable by a group that is not the user's own; readable by it is all right."""
    one = path if what == "file" else path.parent
    os.chown(one, -1, OTHER)
    one.chmod(0o770)
    assert str(OTHER) in str(refused(path, proof, one))
    one.chmod(0o750)
    open_store(path, format="pickle")
    assert proof.exists()


@as_root
@pytest.mark.parametrize("what", ["file", "folder"])
def test_what_belongs_to_somebody_else_is_not_trusted(path: Path, proof: Path, what: str) -> None:
    """S-28: other owners are refused, whatever the mode is."""
    one = path if what == "file" else path.parent
    os.chown(one, OTHER, -1)
    assert str(OTHER) in str(refused(path, proof, one))


def test_in_a_sticky_folder_ones_own_file_is_trusted(path: Path, proof: Path) -> None:
    """Docstring of `check_local`: like /tmp; others cannot replace files in it."""
    path.parent.chmod(0o1777)
    open_store(path, format="pickle")
    assert proof.exists()


@as_root
def test_in_a_sticky_folder_somebody_elses_file_is_not_trusted(path: Path, proof: Path) -> None:
    """S-28: others can put files of their own there."""
    path.parent.chmod(0o1777)
    os.chown(path, OTHER, -1)
    refused(path, proof)


@as_root
def test_a_sticky_folder_of_somebody_else_is_not_trusted(path: Path, proof: Path) -> None:
    """unlink(2): the owner of a sticky folder can replace every file in it."""
    path.parent.chmod(0o1777)
    os.chown(path.parent, OTHER, -1)
    refused(path, proof, path.parent)


def test_a_link_to_the_file_is_not_followed(tmp_path: Path, path: Path, proof: Path) -> None:
    """S-28: local trust refuses links, even to a file of one's own."""
    link = tmp_path / "folder" / "link"
    link.symlink_to(path)
    with pytest.raises(StoreError) as caught:
        open_store(link, format="pickle")
    assert not proof.exists()
    assert caught.value.path == str(link)


def test_a_link_to_the_file_is_refused_by_the_class_for_it(path: Path, proof: Path) -> None:
    """S-28, docstring of `TrustError`: the same class as for a folder that is a link."""
    link = path.parent / "link"
    link.symlink_to(path)
    refused(link, proof)


def test_a_link_to_the_folder_is_not_followed(tmp_path: Path, path: Path, proof: Path) -> None:
    """S-28: local trust refuses links; the folder likewise."""
    link = tmp_path / "link"
    link.symlink_to(path.parent)
    refused(link / "state", proof, link)


def test_a_link_that_is_planted_later_is_not_written_through(tmp_path: Path) -> None:
    """S-28, RELIABILITY 4: in a sticky folder anybody can make a link where no file is yet; a
    store that trusts the place only for its owner must not overwrite what it leads to."""
    folder = tmp_path / "sticky"
    folder.mkdir()
    folder.chmod(0o1777)
    victim = tmp_path / "victim"
    victim.write_bytes(b"whole")
    store = open_store(folder / "state", {"a": 1}, "pickle")
    (folder / "state").symlink_to(victim)
    with suppress(StoreError):
        store.commit()
    assert victim.read_bytes() == b"whole"
    assert store.value == {"a": 1}


@pytest.mark.parametrize(
    "format",
    ["pickle", pickle, WrapBinaryFormat(pickle), cloudpickle, WrapBinaryFormat(cloudpickle)],
    ids=["name", "module", "wrapped", "cloudpickle", "wrapped cloudpickle"],
)
def test_naming_pickle_in_any_way_means_local_trust(path: Path, proof: Path, format: Any) -> None:
    """S-28: naming pickle in a drop-in interface means `trust="local"`."""
    path.chmod(0o666)
    refused(path, proof, format=format)


def test_naming_pickle_to_the_class_means_local_trust(path: Path, proof: Path) -> None:
    """S-28, S-36: the class is a public name of the ancestor's, with its seven parameters."""
    path.chmod(0o666)
    format: Any = pickle
    with pytest.raises(TrustError):
        AtomicStore(path, None, format, True, {}, {}, False)
    assert not proof.exists()


def test_local_trust_can_be_asked_for_with_any_format(path: Path) -> None:
    """Docstring of `open_store`: `trust="local"`, here for json."""
    path.write_text("1")
    assert open_store(path, trust="local").value == 1
    path.chmod(0o666)
    with pytest.raises(TrustError):
        open_store(path, trust="local")
    assert open_store(path).value == 1  # json runs no code


def test_json_is_what_a_store_speaks_unless_told(path: Path, proof: Path) -> None:
    """RELIABILITY 1: planted file: json by default: no code runs."""
    with pytest.raises(StoreError):
        open_store(path)
    assert not proof.exists()


def test_reload_update_and_previous_check_as_well(path: Path, proof: Path) -> None:
    """RELIABILITY 1: the file may be planted at any time, not only before the opening."""
    planted = path.read_bytes()
    path.unlink()
    store = open_store(path, 1, "pickle", keep_previous=True)
    store.commit()
    store.commit()
    previous = Path(f"{path}.previous")
    previous.unlink()
    for one in (path, previous):
        one.write_bytes(planted)
        one.chmod(0o666)
    for act in (store.reload, lambda: store.update(lambda value: value), store.previous):
        with pytest.raises(TrustError):
            act()
        assert not proof.exists()
        assert store.value == 1


def test_what_a_store_writes_itself_it_trusts(path: Path) -> None:
    """S-28: with modes 0600 and the umask wide open, a second opening must not be refused."""
    path.unlink()
    before = os.umask(0)
    try:
        store = open_store(path, {1: "one"}, "pickle", keep_previous=True)
        store.commit()
        store.update(lambda value: {**value, 2: "two"})
    finally:
        os.umask(before)
    again = open_store(path, format="pickle", keep_previous=True)
    assert again.value == {1: "one", 2: "two"}
    assert again.previous() == {1: "one"}


def status(mode: int, user: int, group: int) -> os.stat_result:
    """What stat(2) says of such a file."""
    return os.stat_result((mode, 1, 1, 1, user, group, 0, 0, 0, 0))


FILE, FOLDER = stat.S_IFREG, stat.S_IFDIR
USER, GROUP = os.geteuid(), os.getegid()


@pytest.mark.parametrize(
    ("one", "trusted"),
    [
        (status(FILE | 0o600, USER, GROUP), True),
        (status(FILE | 0o664, USER, GROUP), True),
        (status(FILE | 0o600, 0, 0), True),
        (status(FILE | 0o644, USER, OTHER), True),
        (status(FOLDER | 0o1777, 0, 0), True),
        (status(FOLDER | 0o1777, USER, OTHER), True),
        (status(FILE | 0o600, OTHER, GROUP), False),
        (status(FILE | 0o000, OTHER, GROUP), False),
        (status(FILE | 0o620, USER, OTHER), False),
        (status(FILE | 0o602, USER, GROUP), False),
        (status(FILE | 0o1666, USER, GROUP), False),  # sticky says nothing about a file
        (status(FILE | 0o602, 0, 0), False),
        (status(FOLDER | 0o777, USER, GROUP), False),
        (status(FOLDER | 0o770, USER, OTHER), False),
        (status(FOLDER | 0o1777, OTHER, OTHER), False),
    ],
)
def test_what_local_trust_is(one: os.stat_result, trusted: bool) -> None:
    """S-28, RELIABILITY 1: owner self or root; not writable by the world or by a foreign group."""
    if trusted:
        check_local("state", one)
    else:
        with pytest.raises(TrustError) as caught:
            check_local("state", one)
        assert (caught.value.path, caught.value.errno) == ("state", errno.EPERM)


def test_a_folder_that_is_not_there_holds_nothing_to_distrust(tmp_path: Path) -> None:
    """There is no file in it to decode."""
    check_folder(str(tmp_path / "missing"))


# -- keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("key", [None, OTHER_KEY])
def test_with_a_key_a_planted_pickle_does_not_run(
    path: Path, proof: Path, key: bytes | None
) -> None:
    """RELIABILITY 1: checked before decoding; unsigned, or signed with another key."""
    if key is not None:
        path.write_bytes(sign(path.read_bytes(), key))
    refused(path, proof, trust=KEY)


@pytest.mark.parametrize("where", ["signature", "content", "mark"])
def test_with_a_key_a_changed_pickle_does_not_run(path: Path, proof: Path, where: str) -> None:
    """RELIABILITY 1: the signature is over all that is decoded."""
    content = path.read_bytes()
    signed = bytearray(sign(content, KEY))
    position = {"mark": 0, "signature": len(signed) - len(content) - 1, "content": -2}[where]
    signed[position] ^= 1
    path.write_bytes(signed)
    refused(path, proof, trust=KEY)


def test_a_signed_pickle_is_read_wherever_it_lies(path: Path, proof: Path) -> None:
    """S-28: with a key the file system need not be trusted."""
    path.write_bytes(sign(path.read_bytes(), KEY))
    path.chmod(0o666)
    path.parent.chmod(0o777)
    open_store(path, format="pickle", trust=KEY)
    assert proof.exists()


def test_a_signed_pickle_is_not_read_without_its_key(path: Path, proof: Path) -> None:
    """Docstring of `open_store`: with a key the file is signed; the error asks for it."""
    path.write_bytes(sign(path.read_bytes(), KEY))
    assert "trust=" in str(refused(path, proof))


def test_what_was_signed_is_verified(path: Path) -> None:
    """HMAC: with the key it comes back; with another, cut off or longer it does not."""
    signed = sign(b"content", KEY)
    assert is_signed(signed)
    assert not is_signed(b"content")
    assert not is_signed(b"")
    assert verified(signed, KEY, "state") == b"content"
    assert verified(sign(b"", KEY), KEY, "state") == b""
    for wrong in (signed[:-1], signed + b"1", b"", b"content", signed[:20]):
        with pytest.raises(TrustError):
            verified(wrong, KEY, "state")
    with pytest.raises(TrustError):
        verified(signed, OTHER_KEY, "state")


@pytest.mark.parametrize("length", [0, 1, MIN_KEY - 1])
def test_a_short_key_is_refused(path: Path, proof: Path, length: int) -> None:
    """Docstring of `check_trust`: `MIN_KEY` bytes at least; said before the file is looked at."""
    with pytest.raises(ArgumentError, match=str(MIN_KEY)):
        open_store(path, format="pickle", trust=b"k" * length)
    assert not proof.exists()


def test_a_key_of_the_least_length_is_taken() -> None:
    """Docstring of `MIN_KEY`."""
    check_trust(b"k" * MIN_KEY)
    check_trust("local")


@pytest.mark.parametrize("wrong", [1, True, bytearray(KEY), memoryview(KEY), [KEY], object()])
def test_what_is_no_trust_is_refused(path: Path, proof: Path, wrong: Any) -> None:
    """CONVENTIONS 11: wrong use raises at once."""
    with pytest.raises(ArgumentTypeError, match="trust"):
        open_store(path, format="pickle", trust=wrong)
    assert not proof.exists()


SECRET = "s3cret-Passphrase-of-the-user"
FORMS = [
    SECRET,
    SECRET.encode().hex(),
    base64.b64encode(SECRET.encode()).decode(),
    repr(SECRET.encode()),
    repr(list(SECRET.encode())),
]


def chain(error: BaseException) -> Iterator[BaseException]:
    """The error and all it came from."""
    one: BaseException | None = error
    while one is not None:
        yield one
        one = one.__cause__ or one.__context__


@pytest.mark.parametrize(
    "trust",
    [
        SECRET,
        [SECRET],
        bytearray(SECRET.encode()),
        SECRET.encode()[: MIN_KEY - 1],
        SECRET.encode(),
    ],
    ids=["text", "list", "bytearray", "too short", "not the one it was signed with"],
)
def test_a_key_never_appears_in_an_error(path: Path, trust: Any) -> None:
    """RELIABILITY 4: keys never in a file, a log or an argument list; `check_trust`: the message
    never shows a key, also not one that was given in the wrong form."""
    path.write_bytes(sign(b"1", KEY))
    with pytest.raises(KompyctError) as caught:
        open_store(path, trust=trust)
    forms = [*FORMS, *(form[: MIN_KEY - 1] for form in FORMS[:1])]
    for error in chain(caught.value):
        lines = "".join(traceback.TracebackException.from_exception(error).format_exception_only())
        for told in (lines, str(error), repr(error), repr(error.args)):
            assert not any(form in told for form in forms)


def test_a_key_appears_in_no_file_and_no_text_of_the_store(path: Path) -> None:
    """RELIABILITY 4: keys never in a file, a log or an argument list."""
    path.unlink()
    key = SECRET.encode()
    store = open_store(path, 1, trust=key, keep_previous=True)
    store.commit()
    store.update(lambda value: value + 1)
    for name in os.listdir(path.parent):
        content = (path.parent / name).read_bytes()
        assert not any(form.encode() in content for form in FORMS), name
    assert not any(form in repr(store) + str(store) for form in FORMS)
