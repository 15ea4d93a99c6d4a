"""What if a file is damaged, or is no file of the store's at all?

Nothing that was never written is ever returned, and the process survives, in little memory. A
plain json, pickle or bson file has no checksum: a changed bit may turn it into another valid
value, which is counted as "unnoticed". With a key, and in a folder of snapshots, every change is
found. What is cut off between two records is no change: it is what a crash leaves.
"""

from __future__ import annotations

import hmac
import os
import resource
import struct
import tempfile
from collections.abc import Iterator
from typing import Any

from kompyct.errors import StoreError
from kompyct.store import records, trust
from kompyct.store.trust import sign
from tests.harness.store.calls import put, standing_in
from tests.harness.store.children import Tell, in_child
from tests.harness.store.figures import Figures
from tests.harness.store.model import Recorder
from tests.harness.store.subjects import KEY, BrokenError, DirectoryHandle, Subject

MEMORY = 256 << 20  # bytes that a reader may have beyond what it has
WORDS = 4
NUMBERS = 3  # committed before the damage
PLAIN = ("json", "pickle", "bson")  # formats without a checksum
CHUNK = 4000  # damages tried in one child

Damaged = tuple[str, bytes]  # what was done, and the content then


def damaged(content: bytes, stride: int) -> Iterator[Damaged]:
    """Contents that are not `content`; of flips and truncations every `stride`-th."""
    size = len(content)
    for bit in range(0, size * 8, stride):
        flipped = bytearray(content)
        flipped[bit // 8] ^= 1 << bit % 8
        yield f"bit {bit % 8} of byte {bit // 8} flipped", bytes(flipped)
    for length in range(0, size, stride):
        yield f"cut off at {length}", content[:length]
    for length in (1, 16, 64, 512, 4096):
        for start in range(0, size, length * max(1, stride // 8)):
            part = content[start : start + length]
            for name, filler in (("NULs", b"\0"), ("ones", b"\xff")):
                if part != filler * len(part):
                    changed = content[:start] + filler * len(part) + content[start + length :]
                    yield f"{len(part)} {name} at {start}", changed
    half = size // 2
    yield "halves swapped", content[half:] + content[:half]
    yield "doubled", content + content
    yield "first half doubled", content[:half] + content[:half] + content[half:]
    yield "rubbish behind", content + b"\x93" * 100
    yield "NULs behind", content + bytes(4096)
    yield "NULs before", bytes(16) + content
    for place in range(min(size, 64)):
        for change in (-1, 1):
            off = bytearray(content)
            off[place] = (off[place] + change) % 256
            yield f"byte {place} off by {change}", bytes(off)
        for width in (2, 4, 8):
            if place + width <= size:
                huge = content[:place] + b"\xff" * width + content[place + width :]
                if huge != content:
                    yield f"{width} bytes at {place} huge", huge


def bombs(subject: Subject) -> Iterator[Damaged]:
    """Small files that want much memory, much depth, or much time."""
    deep = 100_000
    contents: dict[str, list[bytes]] = {
        "json": [b"[" * deep, b'{"a":' * deep, b"1" * 100_000, b"\xff\xfe", b"", b"\0" * 4096],
        "pickle": [
            b"\x80\x05\x8e" + struct.pack("<Q", 1 << 60),  # BINBYTES8
            b"\x80\x05B" + struct.pack("<I", (1 << 32) - 1),  # BINBYTES
            b"\x80\x05\x95" + struct.pack("<Q", 1 << 62),  # FRAME
            b"\x80\x05" + b"(" * deep + b"l" * deep + b".",
            b"\x80\x05r" + struct.pack("<I", (1 << 32) - 1),  # LONG_BINPUT
            b"\x80\xff.",
            b"",
        ],
        "bson": [
            struct.pack("<i", 0x7FFFFFFF) + b"\0" * 60,
            struct.pack("<i", -1) + b"\0" * 60,
            b"\x0c\0\0\0\x02a\0" + struct.pack("<i", 0x7FFFFFFF),
            b"",
        ],
        "signed": [
            b"",
            b"kompyct signed 1\n",
            b"kompyct signed 1\n" + bytes(32),
            sign(b"\x80\x05N.", b"another key of tests"),
            sign(b"\x80\x05\x8e" + struct.pack("<Q", 1 << 60), KEY),
        ],
    }
    for number, content in enumerate(contents.get(subject.name, [b"", bytes(100), b"\xffKSR"])):
        yield f"bomb {number}", content


def read_all(subject: Subject, *, unchecked: bool = False, stride: int = 1) -> Figures:
    """Read every damaged file.

    Args:
        unchecked: plant the bug that seals and signatures are not checked.
        stride: of bits flipped and lengths cut off to, one of so many.
    """
    figures = Figures(f"bad {subject.name}")
    with tempfile.TemporaryDirectory(prefix="kompyct-harness-") as folder:
        outcome = in_child(lambda tell: _write(subject, folder))
        assert not outcome.trouble, outcome.trouble
        (path,) = subject.files(folder)
        with open(path, "rb") as file:
            content = file.read()
        cases = [*damaged(content, stride), *bombs(subject)]
        for first in range(0, len(cases), CHUNK):
            chunk = cases[first : first + CHUNK]

            def work(tell: Tell, chunk: list[Damaged] = chunk) -> None:
                limit = resource.getrlimit(resource.RLIMIT_AS)[1]
                with open("/proc/self/statm") as statm:
                    used = int(statm.read().split()[0]) * resource.getpagesize()
                resource.setrlimit(resource.RLIMIT_AS, (used + MEMORY, limit))
                if unchecked:
                    _check_nothing()
                for what, bad in chunk:
                    tell({"what": what, "told": _told(subject, folder, path, bad, content)})

            outcome = in_child(work, limit=300)
            last = ""
            for told in outcome.told:
                if "told" in told:
                    last = told["what"]
                    _judge(figures, subject, last, told["told"])
            figures.expect(not outcome.trouble, f"after {last}: {outcome.trouble}")
    return figures


def _check_nothing() -> None:
    """Every seal holds, and so does every signature. In a child only: it is not undone."""
    for module in (trust, records):
        put(module, "hmac", _Agreeable())


class _Agreeable:
    digest = staticmethod(hmac.digest)

    @staticmethod
    def compare_digest(_one: bytes, _other: bytes) -> bool:
        return True


def _write(subject: Subject, folder: str) -> None:
    handle = subject.open(folder, WORDS)
    for number in range(1, NUMBERS + 1):
        handle.commit(number)
    handle.close()


def _told(subject: Subject, folder: str, path: str, bad: bytes, good: bytes) -> str:
    """What reading `bad` ends in: "found", a number, or what is wrong."""
    inside = os.path.dirname(path)
    for name in os.listdir(inside):
        if os.path.join(inside, name) != path and name.endswith("log"):
            os.unlink(os.path.join(inside, name))
    with open(path, "wb") as file:
        file.write(bad)
    os.chmod(path, 0o600)
    handle: Any = None
    try:
        with standing_in(Recorder(folder)):  # which does not sync
            handle = subject.open(folder, WORDS)
            number = handle.read()[0]
            found = isinstance(handle, DirectoryHandle) and handle.damages
            whole = isinstance(handle, DirectoryHandle) and _at_boundary(bad, good)
            handle.close()
    except StoreError as error:
        return f"found {type(error).__name__}"
    except BrokenError:
        return "unnoticed"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    if found:
        return "found damage"
    if whole:
        return "cut off between records"
    return f"{number}"


def _at_boundary(bad: bytes, good: bytes) -> bool:
    """Whether `bad` is `good` cut off before a record."""
    return good.startswith(bad) and good[len(bad) :].startswith(b"\xffKSR")


def _judge(figures: Figures, subject: Subject, what: str, told: str) -> None:
    figures.add("damages")
    if told.startswith("found"):
        figures.add("found")
    elif told == "cut off between records":
        figures.add(told)
    elif subject.name in PLAIN and (told == "unnoticed" or told.isdigit()):
        figures.add("unnoticed" if told == "unnoticed" else "harmless")
    else:
        figures.expect(False, f"{what}: {told}")
