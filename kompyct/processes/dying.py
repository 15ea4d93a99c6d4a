"""How is a process seen to die before the kernel has freed its memory?

A pidfd tells of it only after that, which takes some tens of milliseconds for a gigabyte. What a
dying thread gives back first are its robust mutexes, see get_robust_list(2). So the main thread of
each child holds one, in the memory that it shares with its parent; and a thread of the parent
waits for all of them at once, by futex_waitv(2).

That needs Linux 5.16 and the GNU C library. Elsewhere nothing is told here, and what the pidfd
says, later, has to do.
"""

from __future__ import annotations

import ctypes
import errno
import logging
import os
import sys
import threading
from _thread import allocate_lock, get_ident
from collections.abc import Callable
from functools import cache
from typing import Any, Final

_logger = logging.getLogger("kompyct")

HOLDER_BYTES: Final = 64
"""Of the memory for a mutex, with room to spare."""

MOST: Final = 127
"""Processes that are watched at the same time; the kernel takes one more, which is the bell."""

_ATTRIBUTE_BYTES = 64
_PTHREAD_MUTEX_ROBUST = 1
_PTHREAD_PROCESS_SHARED = 1
_WAITERS = 1 << 31
_OWNER_DIED = 1 << 30
_FUTEX_WAKE_PRIVATE = 1 | 128
_FUTEX2_SIZE_U32 = 2
_FUTEX2_PRIVATE = 128
_SYS_FUTEX_WAITV = 449  # everywhere
_SYS_FUTEX = {"x86_64": 202, "aarch64": 98, "riscv64": 98}


class _Waiter(ctypes.Structure):
    """`struct futex_waitv`."""

    _fields_ = (
        ("value", ctypes.c_uint64),
        ("address", ctypes.c_uint64),
        ("flags", ctypes.c_uint32),
        ("reserved", ctypes.c_uint32),
    )


@cache
def _library() -> ctypes.CDLL | None:
    """The C library, if it is known to have what is needed."""
    known = sys.platform == "linux" and sys.maxsize > 1 << 32 and os.uname().machine in _SYS_FUTEX
    try:
        is_gnu = known and bool(os.confstr("CS_GNU_LIBC_VERSION"))
    except ValueError:
        return None
    return ctypes.CDLL(None, use_errno=True) if is_gnu else None


def _system_call(number: int, *arguments: int) -> int:
    """Do it without holding the GIL; returns the error's number, or 0."""
    library = _library()
    assert library is not None
    result = library.syscall(*map(ctypes.c_long, (number, *arguments)))
    return ctypes.get_errno() if result == -1 else 0


def hold(memory: memoryview) -> None:
    """Hold a mutex as long as the calling thread lives, for a `DeathWatch` elsewhere to see.

    A process that this one forks does not hold it. Where it cannot be done, nothing is.

    Args:
        memory: HOLDER_BYTES zeros, shared with the other process, at a multiple of 8 bytes.
    """
    library = _library()
    if library is None:
        return
    attributes = ctypes.create_string_buffer(_ATTRIBUTE_BYTES)
    mutex = (ctypes.c_char * HOLDER_BYTES).from_buffer(memory)
    library.pthread_mutexattr_init(attributes)
    library.pthread_mutexattr_setrobust(attributes, _PTHREAD_MUTEX_ROBUST)
    library.pthread_mutexattr_setpshared(attributes, _PTHREAD_PROCESS_SHARED)
    library.pthread_mutex_init(mutex, attributes)
    library.pthread_mutex_lock(mutex)
    word = ctypes.c_uint32.from_buffer(memory)
    if word.value == threading.get_native_id():  # as the kernel wants it
        word.value |= _WAITERS  # whoever waits did not have to say so in the mutex


class DeathWatch:
    """Waits for the deaths of many processes on one thread, which begins with the first.

    It never tells twice of one, and may not tell at all: of more than MOST at once, or where the
    kernel refuses the call. A process that becomes another program (`exec`) is told of as well:
    whether it is dying, /proc says.

    Args:
        name: of the thread.
        tell: called there with what was given to `watch`, when that has begun to die.
    """

    def __init__(self, name: str, tell: Callable[[Any], object]) -> None:
        self._name = name
        self._tell = tell
        self._mutex = allocate_lock()  # protects all that follows; `_bell` rings under it
        self._watched: list[tuple[Any, memoryview, int]] = []  # with the address of that
        self._thread: threading.Thread | None = None
        self._closed = _library() is None
        self._bell = ctypes.c_uint32(0)

    def watch(self, about: Any, memory: memoryview) -> bool:
        """Tell when the process dies whose main thread holds the mutex in `memory`; any thread.

        Args:
            memory: as given to `hold` there; kept mapped until that is told, or until `close`.

        Returns:
            False if nobody holds it yet, or any more.
        """
        with self._mutex:
            word = memory[:4].cast("I")
            if not word[0] & _WAITERS or word[0] & _OWNER_DIED:
                return False
            if self._closed:
                return True
            address = ctypes.addressof(ctypes.c_uint32.from_buffer(word))
            self._watched.append((about, word, address))
            if self._thread is not None:
                self._ring()
                return True
            self._thread = threading.Thread(target=self._wait, name=self._name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError:  # there is none to be had: it is seen later
            self.close()
        return True

    def forget(self, about: Any) -> None:
        """It has died, and need not be told: whatever it has written over its mutex."""
        with self._mutex:
            self._watched = [entry for entry in self._watched if entry[0] is not about]

    def close(self) -> None:
        """Tell of nothing more; from any thread."""
        with self._mutex:
            self._closed = True
            self._watched.clear()
            thread = self._thread
            if thread is not None:
                self._ring()
        if thread is not None and thread.ident not in (None, get_ident()):
            thread.join(1.0)

    def _ring(self) -> None:
        self._bell.value += 1
        number = _SYS_FUTEX[os.uname().machine]
        _system_call(number, ctypes.addressof(self._bell), _FUTEX_WAKE_PRIVATE, 1)

    def _wait(self) -> None:
        waiters = (_Waiter * (MOST + 1))()
        while True:
            if self._tell_died():
                continue
            count = self._fill(waiters)
            if not count:
                return
            failed = _system_call(_SYS_FUTEX_WAITV, ctypes.addressof(waiters), count, 0, 0, 0)
            if failed not in (0, errno.EAGAIN, errno.EINTR):
                _logger.debug("deaths are seen later: futex_waitv: %s", os.strerror(failed))
                self.close()

    def _tell_died(self) -> bool:
        """Tell of who has died; whether there was somebody."""
        died: list[Any] = []
        with self._mutex:
            watched, self._watched = self._watched, []
            for entry in watched:  # one look at each: it may die just now
                if entry[1][0] & _OWNER_DIED:
                    died.append(entry[0])
                else:
                    self._watched.append(entry)
        for about in died:
            self._tell(about)
        return bool(died)

    def _fill(self, waiters: ctypes.Array[_Waiter]) -> int:
        """Say what is to be waited for; returns how many, 0 if it is closed.

        Each with the value that says that all is as it was: what has changed since, or is added
        from now on, ends the wait at once.
        """
        with self._mutex:
            if self._closed:  # looked at with the bell, or its last ring would not be heard
                return 0
            _set(waiters[0], ctypes.addressof(self._bell), self._bell.value, _FUTEX2_PRIVATE)
            watched = self._watched[:MOST]
            for number, (_, word, address) in enumerate(watched, 1):
                _set(waiters[number], address, word[0] & ~_OWNER_DIED)
            return 1 + len(watched)


def _set(waiter: _Waiter, address: int, value: int, flags: int = 0) -> None:
    waiter.address = address
    waiter.value = value
    waiter.flags = _FUTEX2_SIZE_U32 | flags
