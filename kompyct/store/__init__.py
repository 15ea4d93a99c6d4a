"""How is state kept in files?

A value in one file: `open_store`. The snapshots of components: `DirectoryStore`.
"""

from kompyct.store.atomic import AtomicStore, open_store
from kompyct.store.formats import AbstractFormatBstr, AbstractFormatFile, WrapBinaryFormat

__all__ = [
    "AbstractFormatBstr",
    "AbstractFormatFile",
    "AtomicStore",
    "WrapBinaryFormat",
    "open_store",
]
