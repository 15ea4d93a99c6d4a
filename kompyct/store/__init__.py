"""How is state kept in files?

A value in one file: `open_store`. The snapshots of components: a `SnapshotStore`, which is a
`DirectoryStore` if a system is given a path.
"""

from kompyct.store.atomic import AtomicStore, open_store
from kompyct.store.directory import DirectoryStore
from kompyct.store.formats import AbstractFormatBstr, AbstractFormatFile, WrapBinaryFormat
from kompyct.store.snapshots import Mark, MemoryStore, Removal, Snapshot, SnapshotStore

__all__ = [
    "AbstractFormatBstr",
    "AbstractFormatFile",
    "AtomicStore",
    "DirectoryStore",
    "Mark",
    "MemoryStore",
    "Removal",
    "Snapshot",
    "SnapshotStore",
    "WrapBinaryFormat",
    "open_store",
]
