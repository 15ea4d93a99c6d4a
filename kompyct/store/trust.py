"""May what a file holds be decoded, where decoding could run code?

Pickles run whatever code they name, and so does a stored name of a function. They are decoded
only if nobody else can have written them: because the file system says so ("local"), or because
they are signed with a key.
"""

from __future__ import annotations

import errno
import hmac
import os
import stat
from typing import Final, Literal, NoReturn

from kompyct.errors import ArgumentError, ArgumentTypeError, TrustError
from kompyct.store import files

Trust = Literal["local"] | bytes
"""Trust in files of one's own that nobody else can write, or in those signed with this key."""

MIN_KEY = 16
"""Bytes of a key at least."""

_SIGNED: Final = b"kompyct signed 1\n"
_SIGNATURE_BYTES = 32


def check_trust(trust: object) -> None:
    """Refuse what is neither "local" nor a key.

    Raises:
        ArgumentError, ArgumentTypeError: it is not, or the key is too short. The message never
            shows a key.
    """
    if trust == "local":
        return
    if not isinstance(trust, bytes):
        kind = type(trust).__qualname__  # never its value: it may be a key given as text
        raise ArgumentTypeError(f"trust is a {kind}; give 'local' or a key of bytes")
    if len(trust) < MIN_KEY:
        raise ArgumentError(
            f"the key in trust= has {len(trust)} bytes; give at least {MIN_KEY} random ones"
        )


def check_local(path: str, status: os.stat_result) -> None:
    """Refuse a file or folder that somebody else than this user or root could have written.

    A folder that is sticky (like /tmp) may be writable by others: they cannot replace files in it.

    Raises:
        TrustError: it is somebody else's, or writable by the world or by a foreign group.
    """
    if not hasattr(os, "geteuid"):
        return
    if status.st_uid not in (os.geteuid(), 0):
        _distrust(path, f"belongs to user {status.st_uid}", "chown it")
    if stat.S_ISDIR(status.st_mode) and status.st_mode & stat.S_ISVTX:
        return
    if status.st_mode & stat.S_IWOTH:
        _distrust(path, "can be written by everybody", "chmod o-w it")
    if status.st_mode & stat.S_IWGRP and status.st_gid not in (os.getegid(), 0):
        _distrust(path, f"can be written by group {status.st_gid}", "chmod g-w it")


def check_no_link(path: str) -> os.stat_result | None:
    """Refuse a link where a file or folder of one's own is expected.

    Returns: what the operating system says of it; None if there is nothing.

    Raises:
        TrustError: it is one.
        StoreError: it cannot be looked at.
    """
    status = files.status_of(path, follow=False)
    if status is not None and stat.S_ISLNK(status.st_mode):
        _distrust(path, "is a link", "give what it leads to")
    return status


def check_folder(path: str) -> None:
    """`check_local` for the folder `path`, which must be no link.

    Raises:
        TrustError: as there.
        StoreError: it cannot be looked at.
    """
    status = check_no_link(path)
    if status is not None:
        check_local(path, status)


def sign(data: bytes, key: bytes) -> bytes:
    """`data` behind its signature."""
    return _SIGNED + hmac.digest(key, data, "sha256") + data


def is_signed(data: bytes) -> bool:
    """Whether `data` was made by `sign`."""
    return data.startswith(_SIGNED)


def verified(data: bytes, key: bytes, path: str) -> bytes:
    """What was signed with `key`.

    Raises:
        TrustError: it was not.
    """
    start = len(_SIGNED) + _SIGNATURE_BYTES
    signature, content = data[len(_SIGNED) : start], data[start:]
    if not is_signed(data) or not hmac.compare_digest(
        signature, hmac.digest(key, content, "sha256")
    ):
        raise TrustError(
            f"{path} is not what was signed with the key in trust=: it was never signed, signed "
            "with another one, or changed since; give the right key, or restore the file",
            path=path,
            phase="trust",
            errno=errno.EPERM,
        )
    return content


def _distrust(path: str, what: str, way_out: str) -> NoReturn:
    raise TrustError(
        f"{path} {what}, and decoding it could run code; {way_out}",
        path=path,
        phase="trust",
        errno=errno.EPERM,
    )
