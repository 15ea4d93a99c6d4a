"""How does a snapshot become bytes, and a value again?

Snapshots are pickled at every level of durability, so that recovery sees the same value after an
exception as after a power cut (S-28).
"""

from __future__ import annotations

import pickle
from typing import Any

from kompyct.errors import SnapshotError


def encode(value: Any) -> bytes:
    """`value` by pickle protocol 5, or by cloudpickle where that cannot.

    Raises:
        SnapshotError: neither can.
    """
    try:
        return pickle.dumps(value, 5)
    except Exception:  # pickle raises TypeError, AttributeError and whatever __reduce__ raises
        import cloudpickle  # the one owner of it; 25 ms that most programs never need

        try:
            return bytes(cloudpickle.dumps(value, 5))
        except Exception as error:
            raise SnapshotError(
                f"a snapshot of type {type(value).__qualname__} cannot be pickled "
                f"({type(error).__name__}); save plain data"
            ) from error


def decode(data: bytes) -> Any:
    """The value that `encode` was given: a new copy at each call.

    Raises:
        SnapshotError: it cannot be built again.
    """
    try:
        return pickle.loads(data)
    except Exception as error:
        raise SnapshotError(
            f"a snapshot of {len(data)} bytes cannot be decoded ({type(error).__name__}); "
            "see the cause"
        ) from error
