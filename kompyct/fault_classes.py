"""Is an exception a fault, and may the component come back from it?"""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum

from kompyct.errors import Benign, Recoverable, Unrecoverable


class FaultClass(Enum):
    """How an exception is treated. Source: Kompact's `HandlerError`."""

    BENIGN = "benign"
    RECOVERABLE = "recoverable"
    UNRECOVERABLE = "unrecoverable"


def classify(
    exception: BaseException, declared: Mapping[type[BaseException], FaultClass]
) -> FaultClass:
    """How `exception` is treated, given what its component's class declares.

    The most specific class that is declared, or is one of the three of `kompyct.errors`, decides.
    """
    for cls in type(exception).__mro__:
        if cls in declared:
            return declared[cls]
        if cls in _OWN_CLASSES:
            return _OWN_CLASSES[cls]
    return FaultClass.RECOVERABLE


_OWN_CLASSES: Mapping[type, FaultClass] = {
    Benign: FaultClass.BENIGN,
    Recoverable: FaultClass.RECOVERABLE,
    Unrecoverable: FaultClass.UNRECOVERABLE,
}
