"""What can a parent know of its child without asking it?

A page of shared memory with a few whole numbers, each written by one side only and read by the
other at any time, also when its writer is dead; and with the mutex by which that death is seen.
"""

from __future__ import annotations

from kompyct.processes.dying import HOLDER_BYTES
from kompyct.processes.memory import Block

_NUMBERS_BYTES = 256
BOARD_BYTES = _NUMBERS_BYTES + HOLDER_BYTES

# Written by the parent; a cache line of their own.
CONTROL = 0
"""How many frames were sent that the child looks at before its next message."""
TAKEN = 1
"""The sequence of the last announced save when the parent last looked at the saves."""
ORDERED = 2
"""How often the component was told to stop or to end: nothing more is to be taken in hand until
the control frame about that is there."""

# Written by the child.
BEGUN = 8
"""How many messages the child has taken in hand."""
DONE = 9
"""How many of them it has handled: one less than BEGUN while one is in hand."""
POSITION = 10
"""`Cell.position` of the child: messages and ticks, the one in hand included."""
PHASE = 11
"""What is running: an index into PHASES, 0 for nothing."""
SINCE = 13
"""Since when the message in hand is handled, in nanoseconds on the monotonic clock; 0 while none
is. Written only where a limit is to be watched."""
ANNOUNCED = 12
"""The sequence of the last save that the parent was told of."""

PHASES = (None, "create", "start", "receive", "timer", "stop", "kill", "port")
NUMBER_OF = {phase: number for number, phase in enumerate(PHASES)}


class Board:
    """The numbers of one child; `numbers[CONTROL]` and so on."""

    def __init__(self, block: Block) -> None:
        self._block = block
        self.numbers = block.buffer[:_NUMBERS_BYTES].cast("Q")

    @property
    def holder(self) -> memoryview:
        """Memory for the mutex that the child's main thread holds, see `dying`."""
        return self._block.buffer[_NUMBERS_BYTES:BOARD_BYTES]

    @property
    def handle(self) -> int | str:
        """See `Block.handle`."""
        return self._block.handle

    def close(self) -> None:
        """Let the memory go; the numbers can be read no more."""
        self.numbers.release()
        self._block.close()
