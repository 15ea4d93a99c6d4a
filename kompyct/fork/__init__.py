"""How can something dangerous be tried in a copy of the process, and fallen back from?

`process_snapshot` forks. The copy goes on with the program while the original waits; when the copy
ends, however it does, the original goes on from where the snapshot was taken, as if nothing had
happened since. `snapshot` is the same function under the name that its ancestor gave it.
"""

from kompyct.fork.copies import (
    ProcessSnapshot,
    format_snapshot_list,
    is_in_snapshot,
    print_snapshot_list,
    process_snapshot,
    revert_to_snapshot,
)
from kompyct.fork.debugging import set_trace
from kompyct.fork.roots import not_in_snapshot, root_only

snapshot = process_snapshot

__all__ = [
    "ProcessSnapshot",
    "format_snapshot_list",
    "is_in_snapshot",
    "not_in_snapshot",
    "print_snapshot_list",
    "process_snapshot",
    "revert_to_snapshot",
    "root_only",
    "set_trace",
    "snapshot",
]
