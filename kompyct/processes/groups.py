"""Which files tell of the control group that this process is in? Linux, both versions of them."""

from __future__ import annotations

import os
from collections.abc import Callable
from contextlib import suppress


def find_files(name: str, name_1: str, is_readable: Callable[[str], bool]) -> tuple[str, ...]:
    """The file of version 2 and that of version 1, as far as there are, for memory.

    Args:
        name: of the file in version 2.
        name_1: of the file in version 1.
        is_readable: whether a file of that path can be used.
    """
    found = []
    own = dict(_own_groups())
    for kind, root, mount in _mounts():
        group = own.get(kind)
        if group is None:
            continue
        inside = os.path.relpath(group, root) if _is_below(group, root) else "."
        # The group's own file; where it cannot be read, as in a container that sees only a part
        # of the tree, the nearest above that can.
        folder = os.path.normpath(os.path.join(mount, inside))
        while _is_below(folder, mount):
            path = os.path.join(folder, name_1 if kind else name)
            if is_readable(path):
                found.append(path)
                break
            folder = os.path.dirname(folder)
    return tuple(dict.fromkeys(found))


def _is_below(path: str, above: str) -> bool:
    return os.path.commonpath((path, above)) == above


def _own_groups() -> list[tuple[str, str]]:
    """("" or "memory", path of the group): version 2 has no names of controllers."""
    found = []
    with suppress(OSError):
        with open("/proc/self/cgroup", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                _, controllers, path = line.rstrip("\n").split(":", 2)
                if controllers == "" or "memory" in controllers.split(","):
                    found.append(("memory" if controllers else "", path))
    return found


def _mounts() -> list[tuple[str, str, str]]:
    """("" or "memory", root in the file system, where it is mounted)."""
    found = []
    with suppress(OSError):
        with open("/proc/self/mountinfo", encoding="utf-8", errors="surrogateescape") as file:
            for line in file:
                place, _, kind = line.rstrip("\n").partition(" - ")
                words = place.split(" ")
                if kind.startswith("cgroup2 "):
                    found.append(("", words[3], words[4]))
                elif kind.startswith("cgroup ") and "memory" in kind.split(" ")[-1].split(","):
                    found.append(("memory", words[3], words[4]))
    return found
