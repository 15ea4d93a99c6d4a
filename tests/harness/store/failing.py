"""What if a call on the operating system fails, once?

Then opening or committing raises a `StoreError` with the number, the path and the phase, or goes
on as if nothing had been; the same done again works, and nothing acknowledged is lost.
"""

from __future__ import annotations

import errno
import os
import shutil
import tempfile
from collections.abc import Callable
from itertools import count
from typing import Any

from kompyct.errors import StoreError
from tests.harness.store.calls import EVERYWHERE, FailAt, standing_in
from tests.harness.store.children import Tell, in_child
from tests.harness.store.figures import Figures
from tests.harness.store.kill import STEPS, check
from tests.harness.store.mounts import in_memory
from tests.harness.store.planted import laid_over
from tests.harness.store.subjects import Handle, Subject, temporaries

ERRORS = (errno.ENOSPC, errno.EIO, errno.EMFILE, errno.EROFS)


def stubborn(
    subject: Subject, folder: str, tell: Tell, steps: tuple[str, ...], error: int
) -> None:
    """Open, commit, open again and read; what fails is tried once more."""
    handle = again(lambda: subject.open(folder), tell, error)
    number = 0
    for number, kind in enumerate(steps, again(handle.read, tell, error)[0] + 1):
        tell({"start": number})
        again(lambda number=number, kind=kind: _do(handle, kind, number), tell, error)  # type: ignore[misc]
        tell({"done": number})
    handle.close()
    handle = again(lambda: subject.open(folder), tell, error)
    newest = again(handle.read, tell, error)[0]
    assert newest == number, f"holds {newest}, not {number}"
    handle.close()
    left = temporaries(folder)
    assert not left, f"left {left}"


def again(work: Callable[[], Any], tell: Tell, error: int) -> Any:
    """What `work` returns, at the second attempt if the first one raised a proper error."""
    try:
        return work()
    except StoreError as raised:
        check_error(raised, error)
        tell({"raised": type(raised).__name__, "phase": raised.phase})
        return work()


def check_error(raised: StoreError, error: int) -> None:
    """It says what RELIABILITY.md 1 wants of it."""
    assert raised.errno == error, f"errno {raised.errno} of {raised!r}"
    assert raised.path, f"no path in {raised!r}"
    assert raised.phase, f"no phase in {raised!r}"


def sweep(
    subject: Subject,
    *,
    planted: str | None = None,
    steps: tuple[str, ...] = STEPS,
    errors: tuple[int, ...] = ERRORS,
) -> Figures:
    """Have every call fail in each of the ways `errors`."""
    figures = Figures(f"errors {subject.name}")
    with tempfile.TemporaryDirectory(prefix="kompyct-harness-", dir=in_memory()) as scratch:
        folder = os.path.join(scratch, "store")
        for error in errors:
            for number in count(1):
                shutil.rmtree(folder, ignore_errors=True)
                os.mkdir(folder, 0o700)
                calls = FailAt(number, error)

                def work(tell: Tell, calls: FailAt = calls, error: int = error) -> None:
                    try:
                        with standing_in(laid_over(calls, planted), *EVERYWHERE):
                            stubborn(subject, folder, tell, steps, error)
                    finally:
                        tell({"failed": calls.failed})

                outcome = in_child(work)
                seen: dict[str, Any] = {}
                for what in outcome.told:
                    seen |= what
                if not seen.get("failed"):
                    break
                where = f"{errno.errorcode[error]} at call {number} ({seen['failed']})"
                figures.add("failing calls")
                figures.add("raised", sum("raised" in what for what in outcome.told))
                figures.expect(not outcome.trouble, f"{where}: {outcome.trouble}")
                bounds = (outcome.acknowledged, outcome.started)
                check(figures, subject, folder, bounds, where)
    return figures


def _do(handle: Handle, kind: str, number: int) -> None:
    if kind == "update":
        handle.update(number)
    else:
        handle.commit(number, keep=kind == "keep")
