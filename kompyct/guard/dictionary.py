"""What is the dictionary that `launch` and `rescue` are given?"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from contextlib import contextmanager
from pickle import dumps
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from kompyct import codecs
from kompyct.errors import ArgumentError, GuardError
from kompyct.guard.arrays import Arrays, checked_dtype, from_content, is_array
from kompyct.guard.handed import UNCHANGEABLE, HandedOut
from kompyct.guard.shared import SharedStore, Slot
from kompyct.processes.exits import ProcessExit

if TYPE_CHECKING:
    import numpy

_NOTHING: Final = object()


class GuardedDict(MutableMapping[Any, Any]):
    """A dictionary whose content outlives the program that writes it.

    Values are encoded when they are assigned, and each read gives a new copy. To change a value
    in place use `edit`; a change to a copy that is not assigned again is not kept, and is warned
    of (`LostChangeWarning`) when its key is used next, or at the end. An `array` needs neither.

    Any thread of the guarded program may use it. A process that it forks may not.

    Attributes:
        store: the encoded values by key.
        exit: in `rescue` after `start`, how the program ended; otherwise None.
    """

    exit: ProcessExit | None = None

    def __init__(self, managed_dict: MutableMapping[Any, bytes]) -> None:
        """
        Args:
            managed_dict: the encoded values by key, of which this is a view.
        """
        self.store = managed_dict
        shared = managed_dict if isinstance(managed_dict, SharedStore) else None
        self._shared = shared
        self._put = shared.put if shared is not None else self._put_joined
        # For the fast way of assigning, which goes past the lock.
        self._slots: Mapping[Any, Slot] = shared.slots if shared is not None else {}
        self._overwrite = shared.overwrite if shared is not None else _cannot
        self._arrays = Arrays(shared) if shared is not None else None
        self._pid = shared.pid if shared is not None else 0
        self._handed = HandedOut(managed_dict)
        self._given = self._handed.values
        # Protects all of the above. Entered again by `edit`, and by handlers of signals.
        self._lock = shared.lock if shared is not None else threading.RLock()

    def __getitem__(self, key: Any) -> Any:
        """A copy of the value; of an array of `array`, in the guarded program, itself.

        Raises:
            KeyError: there is none.
            SnapshotError, VersionError: it cannot be built again.
            GuardError: this is a forked child of the guarded program.
        """
        self._check()
        with self._lock:
            data = self.store[key]
            if is_array(data):
                return self._arrays.get(key) if self._arrays is not None else from_content(data)
            self._handed.check(key)
            value = codecs.decode(data)
            if type(value) not in UNCHANGEABLE:
                self._handed.remember(key, value)
            return value

    def __setitem__(self, key: Any, value: Any) -> None:
        """Store a copy of `value`; when this returns, it is safe from this program's death.

        Raises:
            SnapshotError: it cannot be encoded.
            OSError: there is no memory for it; the value before is still there.
            GuardError: this is a forked child of the guarded program.
        """
        slot = self._slots.get(key)
        if slot is None or not slot.limit:
            parts = codecs.encode_in_parts(value)
        else:
            # The value before was small. As it is copied anyway, buffers need not be put beside.
            try:
                data = dumps(value, 5)
            except Exception as error:
                parts = (codecs.by_cloudpickle(value, error),)
            else:
                if self._overwrite(key, slot, data, self._given):
                    return
                parts = (data,)
        self._check()
        with self._lock:
            self._put(key, parts)
            self._handed.forget(key)
            if self._arrays is not None:
                self._arrays.forget(key)

    def __delitem__(self, key: Any) -> None:
        self._check()
        with self._lock:
            del self.store[key]
            self._handed.forget(key)
            if self._arrays is not None:
                self._arrays.forget(key)

    def __iter__(self) -> Iterator[Any]:
        self._check()
        with self._lock:
            return iter(list(self.store))

    def __len__(self) -> int:
        return len(self.store)

    def __contains__(self, key: object) -> bool:
        return key in self.store

    def __repr__(self) -> str:
        return f"<{type(self).__name__} with {len(self)} keys>"  # values may be secret

    def __reduce__(self) -> NoReturn:
        raise GuardError(
            "the guarded dictionary belongs to one process and cannot be sent to another; send "
            "the values, or collect the other's results and assign them here"
        )

    @contextmanager
    def edit(self, key: Any, default: Any = _NOTHING) -> Iterator[Any]:
        """A copy of the value to be changed in place, stored when the `with` block ends.

        No other thread changes the dictionary meanwhile. If the block raises, nothing is stored.

        Args:
            default: what to begin with where there is no value.

        Raises:
            KeyError: there is no value, and no `default`.
        """
        self._check()
        with self._lock:
            if default is not _NOTHING and key not in self.store:
                value = default
            else:
                data = self.store[key]
                value = self[key] if is_array(data) else codecs.decode(data)
            yield value
            if not (key in self.store and is_array(self.store[key])):
                self[key] = value

    def array(
        self, name: Any, shape: int | Sequence[int], dtype: Any = float
    ) -> numpy.ndarray[Any, Any]:
        """The numpy array whose memory is the guarded memory: new and all zeros, or the one there.

        Assigning to its elements is all that is needed, and costs nothing more. What is not
        done is to make several elements change at once: a program that dies between two of them
        leaves the one changed and the other not. In `rescue` it is a copy.

        Args:
            name: its key.
            shape: the lengths of its axes.
            dtype: numpy's name or type of an element: a plain number.

        Raises:
            ArgumentError: there is something else under that key.
            ArgumentTypeError: elements are objects, or have fields.
            BackendMissingError: numpy is not installed.
            OSError: there is no memory for it.
            GuardError: this is a forked child of the guarded program.
        """
        self._check()
        wanted = (shape,) if isinstance(shape, int) else tuple(map(int, shape))
        kind = checked_dtype(name, dtype)
        with self._lock:
            if name not in self.store:
                if self._arrays is None:
                    raise GuardError(f"there is no array {name!r}, and none can be made here")
                return self._arrays.make(name, wanted, kind)
            found = self[name] if is_array(self.store[name]) else None
            if found is None or found.shape != wanted or found.dtype != kind:
                what = "no array" if found is None else f"{found.dtype} of shape {found.shape}"
                raise ArgumentError(
                    f"array {name!r} is to be {kind} of shape {wanted}, and there is {what} "
                    "under that key; delete it first, or take another"
                )
            return cast("numpy.ndarray[Any, Any]", found)

    def check_changes(self) -> None:
        """Warn now of values that were changed after they were read, and not stored."""
        if self._pid and self._pid != os.getpid():
            return  # a forked child that returns where its parent will
        self._check()
        with self._lock:
            self._handed.check_all()

    def _put_joined(self, key: Any, parts: Sequence[bytes | memoryview]) -> None:
        self.store[key] = b"".join(parts)

    def _check(self) -> None:
        """Refuse a forked child, and see that from now on each thread takes the lock."""
        if self._shared is not None:
            if self._pid != os.getpid():
                self._refuse_process()
            self._shared.share()

    def _refuse_process(self) -> NoReturn:
        raise GuardError(
            f"the guarded dictionary belongs to process {self._pid}, and this is its forked child "
            f"{os.getpid()}; send results to that process and assign them there"
        )


def _cannot(*_: object) -> bool:
    return False
