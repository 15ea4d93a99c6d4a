"""What if there is no space, no descriptor, or no permission to write?

A `StoreError` with number, path and phase; the previous number whole and no temporary left; and
once there is what was missing, the same done again works. By real limits: file systems that are
full or read-only (as root only), RLIMIT_FSIZE, RLIMIT_NOFILE.
"""

from __future__ import annotations

import errno
import os
import resource
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from kompyct.errors import StoreError
from tests.harness.store.calls import standing_in
from tests.harness.store.children import Tell, in_child
from tests.harness.store.failing import check_error
from tests.harness.store.figures import Figures, SkippedError
from tests.harness.store.mounts import mounted, own_mounts, run
from tests.harness.store.planted import laid_over
from tests.harness.store.subjects import Subject, temporaries

KILOBYTES = 64
WORDS = 1100  # 9 KB: more than a page when compressed, and several of them fit
ROUNDS = 3

Short = Callable[[str], Iterator[None]]


def limits(subject: Subject, *, planted: str | None = None) -> Figures:
    """What needs no root: limits of the process."""
    figures = Figures(f"limits {subject.name}")
    with tempfile.TemporaryDirectory(prefix="kompyct-harness-") as folder:
        _try(figures, subject, folder, "RLIMIT_FSIZE", _small_files, errno.EFBIG, planted)
    with tempfile.TemporaryDirectory(prefix="kompyct-harness-") as folder:
        _try(figures, subject, folder, "RLIMIT_NOFILE", _few_descriptors, errno.EMFILE, planted)
    return figures


def mounts(subject: Subject, *, planted: str | None = None) -> Figures:
    """What needs root: file systems that are small or read-only.

    Raises:
        SkippedError: there is no root.
    """
    own_mounts()
    figures = Figures(f"space {subject.name}")
    with tempfile.TemporaryDirectory(prefix="kompyct-harness-") as at:
        with mounted("-t", "tmpfs", "-o", f"size={KILOBYTES}k", "none", at=at):
            _try(figures, subject, at, "full", _full, errno.ENOSPC, planted)
        with mounted("-t", "tmpfs", "-o", f"size={KILOBYTES}k", "none", at=at):
            _try(figures, subject, at, "nearly full", _nearly_full, errno.ENOSPC, planted)
        with mounted("-t", "tmpfs", "-o", "size=1m,nr_inodes=12", "none", at=at):
            _try(figures, subject, at, "no inodes", _no_inodes, errno.ENOSPC, planted)
        with mounted("-t", "tmpfs", "-o", "size=1m", "none", at=at):
            _try(figures, subject, at, "read-only", _read_only, errno.EROFS, planted)
    return figures


def _try(
    figures: Figures,
    subject: Subject,
    at: str,
    what: str,
    short: Callable[[str], object],
    error: int,
    planted: str | None,
) -> None:
    folder = os.path.join(at, "store")
    os.mkdir(folder, 0o700)

    def work(tell: Tell) -> None:
        with standing_in(laid_over(os, planted)):
            tell({"errors": hurt(subject, folder, short, error)})

    outcome = in_child(work)
    figures.add("ways")
    figures.expect(not outcome.trouble, f"{what}: {outcome.trouble}")
    for told in outcome.told:
        figures.add("errors", told.get("errors", 0))


def hurt(subject: Subject, folder: str, short: Callable[[str], object], error: int) -> int:
    """Commit while something runs short, and again when it does not; returns errors seen."""
    number = seen = 0
    handle = subject.open(folder, WORDS)
    for kind in ("commit", "update", "keep") * ROUNDS:
        before = number
        number += 1

        def act(number: int = number, kind: str = kind) -> None:
            if kind == "update":
                handle.update(number)
            else:
                handle.commit(number, keep=kind == "keep")

        with contextmanager(short)(folder):  # type: ignore[arg-type]
            try:
                act()
            except StoreError as raised:
                seen += 1
                check_error(raised, error)
            else:
                before = number
            assert not temporaries(folder), f"left {temporaries(folder)}"
        assert handle.read()[0] == before, f"holds {handle.read()}, not {before}"
        act()
        assert handle.read()[0] == number, f"holds {handle.read()}, not {number}"
    handle.close()
    handle = subject.open(folder, WORDS)
    assert handle.read()[0] == number, f"holds {handle.read()}, not {number}"
    handle.close()
    assert seen, "nothing ran short"
    return seen


def _full(folder: str) -> Iterator[None]:
    yield from _filled(folder, 0)


def _nearly_full(folder: str) -> Iterator[None]:
    yield from _filled(folder, 4096)  # room for a part of what is written: a short write


def _filled(folder: str, room: int) -> Iterator[None]:
    path = os.path.join(os.path.dirname(folder), "filler")
    with open(path, "wb", buffering=0) as file:
        try:
            while file.write(bytes(4096)):
                pass
        except OSError:
            file.truncate(max(0, file.tell() - room))
    yield
    os.unlink(path)


def _no_inodes(folder: str) -> Iterator[None]:
    made: list[str] = []
    try:
        while True:
            path = os.path.join(os.path.dirname(folder), f"filler{len(made)}")
            os.mkdir(path)
            made.append(path)
    except OSError:
        pass
    yield
    for path in made:
        os.rmdir(path)


def _read_only(folder: str) -> Iterator[None]:
    # A bind mount that is read-only: the file system itself has files open for writing.
    at = os.path.dirname(folder)
    try:
        run("mount", "-o", "remount,ro", at)
    except SkippedError:
        run("mount", "--bind", folder, folder)
        run("mount", "-o", "remount,bind,ro", folder)
        yield
        run("umount", folder)
        return
    yield
    run("mount", "-o", "remount,rw", at)


def _small_files(folder: str) -> Iterator[None]:
    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    limit = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limit[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limit)


def _few_descriptors(folder: str) -> Iterator[None]:
    limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    lowest = os.dup(0)
    os.close(lowest)
    resource.setrlimit(resource.RLIMIT_NOFILE, (lowest, limit[1]))
    yield
    resource.setrlimit(resource.RLIMIT_NOFILE, limit)
