"""What is left after a power cut, on a real file system?

A process commits and tells what was acknowledged. Meanwhile the file system is shut down as if
the power went: what is not on the disk, its journal included, never gets there. Then it is
mounted again and looked at. Needs root and a loop device.
"""

from __future__ import annotations

import fcntl
import os
import random
import re
import shutil
import struct
import tempfile
import time
from contextlib import suppress
from itertools import count
from typing import Any

from kompyct.errors import StoreError
from tests.harness.store.calls import standing_in
from tests.harness.store.children import Tell, in_child, start
from tests.harness.store.figures import Figures, SkippedError
from tests.harness.store.kill import look, step
from tests.harness.store.mounts import mounted, run
from tests.harness.store.planted import laid_over
from tests.harness.store.subjects import Subject

SHUTDOWN = 0x8004587D  # _IOR('X', 125, u32), of ext4 and xfs alike
NO_LOG_FLUSH = 2
MEGABYTES = {"ext4": 48, "xfs": 320}  # xfs makes no smaller ones
LONGEST = 0.03  # seconds of committing before a cut


def file_systems() -> list[str]:
    """Those that can be made here."""
    return [kind for kind in MEGABYTES if shutil.which(f"mkfs.{kind}")]


def cut(
    subject: Subject, kind: str, *, cuts: int, seed: int, planted: str | None = None
) -> Figures:
    """Cut the power so many times, of one file system that lives on.

    Raises:
        SkippedError: it cannot be done here.
    """
    if not os.path.exists("/dev/loop-control"):
        raise SkippedError("there are no loop devices")
    if shutil.which(f"mkfs.{kind}") is None:
        raise SkippedError(f"there is no mkfs.{kind}")
    chance = random.Random(seed)
    figures = Figures(f"power {kind} {subject.name}")
    with tempfile.TemporaryDirectory(prefix="kompyct-harness-") as scratch:
        image, at = os.path.join(scratch, "disk"), os.path.join(scratch, "mounted")
        os.mkdir(at)
        with open(image, "wb") as file:
            file.truncate(MEGABYTES[kind] << 20)
        run(f"mkfs.{kind}", "-q", image)
        options = ("-o", "loop", "-t", kind, image)
        folder = os.path.join(at, "store")
        with mounted(*options, at=at):
            os.mkdir(folder, 0o700)
            os.sync()
        acknowledged = started = 0
        for number in range(cuts + 1):
            with mounted(*options, at=at):
                if number:
                    newest = _looked(figures, subject, folder, acknowledged, started, number)
                    if newest is None:  # and go on with a new store
                        shutil.rmtree(folder)
                        os.mkdir(folder, 0o700)
                        newest = 0
                    acknowledged = started = newest
                if number < cuts:
                    told = _cut(subject, folder, at, chance.uniform(0.0, LONGEST), planted)
                    acknowledged = max(acknowledged, told[0])
                    started = max(started, told[1])
                    figures.add("cuts")
                    figures.add("acknowledged", told[2])
    return figures


def _cut(
    subject: Subject, folder: str, at: str, seconds: float, planted: str | None
) -> tuple[int, int, int]:
    """(acknowledged, started, how many acknowledged) of a process cut off by the power."""

    def work(tell: Tell) -> None:
        with standing_in(laid_over(os, planted)), suppress(StoreError):
            handle = subject.open(folder)
            number = handle.read()[0]
            tell({"open": number})
            for each in count(number + 1):
                step(handle, ("commit", "update", "keep")[each % 3], each, tell)

    child = start(work)
    with open(os.dup(child.reader), "rb", buffering=0) as pipe:
        told = pipe.readline()  # when it is under way
    time.sleep(seconds)
    descriptor = os.open(at, os.O_RDONLY)
    # Acknowledged is what was told before the cut. Afterwards nothing runs where the power went,
    # but here it does: ext4 may then call an fsync well whose transaction was dropped.
    told += child.so_far()
    try:
        fcntl.ioctl(descriptor, SHUTDOWN, struct.pack("I", NO_LOG_FLUSH))
    except OSError as error:
        raise SkippedError(f"the file system cannot be shut down: {error.strerror}") from error
    finally:
        os.close(descriptor)
        with suppress(ProcessLookupError):
            child.kill()
        outcome = child.outcome(told)
    assert told.startswith(b'{"open"'), (told, outcome)
    done = [int(number) for number in re.findall(rb'{"done": (\d+)}\n', told)]
    return max(done, default=0), outcome.started, len(done)


def _looked(
    figures: Figures, subject: Subject, folder: str, at_least: int, at_most: int, number: int
) -> int | None:
    """The number there after cut `number`, durable by now; None if it is broken."""
    outcome = in_child(lambda tell: look(subject, folder, tell))
    where = f"cut {number}"
    if not figures.expect(not outcome.trouble, f"{where}: {outcome.trouble}"):
        return None
    seen: dict[str, Any] = {}
    for what in outcome.told:
        seen |= what
    newest: int = seen["numbers"][0]
    figures.expect(
        at_least <= newest <= at_most, f"{where}: holds {newest}, not {at_least} to {at_most}"
    )
    figures.expect(not seen["left"], f"{where}: left {seen['left']}")
    after: int = seen["next"]
    return after
