"""Before which opcodes may a switch between two threads matter?

A switch before an opcode that touches nothing but its own frame (`LOAD_FAST`, a jump) equals a
switch before the next opcode, so only the others are counted; and only in modules whose objects
threads share. Fewer still are hot: those that load or store what the protocols are made of.
"""

from __future__ import annotations

import dis
import os
from types import CodeType

import kompyct
from tests.harness.stand_ins import Ready

Place = tuple[int, CodeType, int]
"""A player, and before which offset in which code it was stopped."""


def switches(code: CodeType, *, hot_only: bool, every_opcode: bool) -> bytes:
    """For each offset in `code` whether a switch there may matter; empty: nowhere."""
    file = code.co_filename
    if hot_only and (file in _FILES or code is Ready.wake.__code__):
        hot = bytearray(len(code.co_code))
        for instruction in dis.get_instructions(code):
            name = str(instruction.argval).split(" + ")[-1]  # 3.12: "NULL|self + name"
            hot[instruction.offset] = name in _HOT and instruction.opname in _ACCESS
        return bytes(hot)
    if every_opcode and file.startswith(_PACKAGE):
        return b"\1" * len(code.co_code)
    if file in _FILES or code is Ready.wake.__code__:
        matters = bytearray(len(code.co_code))
        for instruction in dis.get_instructions(code):
            matters[instruction.offset] = instruction.opname not in _PRIVATE
        return bytes(matters)
    return b""


def describe(place: Place) -> str:
    """A place in words."""
    player, code, offset = place
    instruction = next(i for i in dis.get_instructions(code) if i.offset == offset)
    positions = [*code.co_positions()][offset // 2]
    file = os.path.basename(code.co_filename)
    where = f"{file}:{positions[0]} in {code.co_qualname}"
    return f"player {player} before {instruction.opname} {instruction.argrepr} at {where}"


_PACKAGE = os.path.dirname(kompyct.__file__)

_CORE = (
    "backends/__init__", "backends/pool", "cell", "channels", "claims", "component", "creation",
    "deadline", "ending", "faulting", "groups", "mailbox", "messages", "names", "recovery", "ref",
    "registry", "runtime", "signals", "store/snapshots", "stored", "supervisor", "timers",
    "triggering", "waiting", "watching", "writer",
)  # fmt: skip
"""Modules in which players are stopped; the others touch nothing that threads share."""

_FILES = frozenset(os.path.join(_PACKAGE, *f"{name}.py".split("/")) for name in _CORE)

_PRIVATE = frozenset((
    "BINARY_OP", "BUILD_LIST", "BUILD_MAP", "BUILD_TUPLE", "CACHE", "CHECK_EXC_MATCH",
    "COPY", "COPY_FREE_VARS", "EXTENDED_ARG", "IS_OP", "JUMP_BACKWARD",
    "JUMP_BACKWARD_NO_INTERRUPT", "JUMP_FORWARD", "KW_NAMES", "LIST_TO_TUPLE",
    "LOAD_CLOSURE", "LOAD_CONST", "LOAD_DEREF", "LOAD_FAST", "LOAD_FAST_LOAD_FAST",
    "LOAD_GLOBAL", "MAKE_CELL", "MAKE_FUNCTION", "NOP", "POP_EXCEPT",
    "POP_JUMP_BACKWARD_IF_NONE", "POP_JUMP_BACKWARD_IF_NOT_NONE",
    "POP_JUMP_FORWARD_IF_NONE", "POP_JUMP_FORWARD_IF_NOT_NONE", "POP_JUMP_IF_NONE",
    "POP_JUMP_IF_NOT_NONE", "POP_TOP", "PRECALL", "PUSH_EXC_INFO", "PUSH_NULL",
    "RAISE_VARARGS", "RERAISE", "RESUME", "RETURN_CONST", "RETURN_VALUE",
    "SETUP_ANNOTATIONS", "STORE_DEREF", "STORE_FAST", "SWAP", "UNPACK_SEQUENCE",
))  # fmt: skip
"""Opcodes that touch their own frame, or objects only it knows. `BINARY_OP` reads numbers here."""

_ACCESS = frozenset((
    "LOAD_ATTR", "LOAD_FAST", "LOAD_METHOD", "STORE_ATTR",
))  # fmt: skip

_HOT = frozenset((
    "_behind", "_cells", "_closed", "_deadlines", "_names", "_of", "_on", "_over", "_pending",
    "_queue", "_resting", "_retry", "_running", "_waiting", "_writing", "append", "asleep", "box",
    "control", "flag", "has_asks", "idle", "ready", "settled", "touched", "woken",
))  # fmt: skip
"""What the protocols are made of: of senders, turns, workers, watchers, and the store's writer."""
