"""What does each command of `python -m kompyct` do?

Nothing here decodes a snapshot: a store may be looked at without trusting it.
"""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Sequence

from kompyct import tree_commands
from kompyct.codecs import name_of
from kompyct.errors import KompyctError, StoreError
from kompyct.lifecycle import Status
from kompyct.store import segments
from kompyct.store.directory import LOCK, DirectoryStore
from kompyct.store.locks import is_locked
from kompyct.store.segments import Contents, Damage, Located
from kompyct.store.snapshots import Removal, Snapshot
from kompyct.store.trust import check_trust

KEY = "KOMPYCT_KEY_FILE"
"""The environment variable that names the file with the key of a store."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command in `arguments`, by default those of the program.

    Returns: 0; 1 if the store is damaged, or has nothing of the component; 2 if it cannot be read.
    """
    parser = argparse.ArgumentParser(
        prog="kompyct", description="Look at what kompyct keeps, and at supervision trees."
    )
    groups = parser.add_subparsers(dest="group", required=True)
    snapshots = groups.add_parser("snapshots", help="look at the snapshots in a folder")
    commands = snapshots.add_subparsers(dest="command", required=True)
    for name, (run, what) in _COMMANDS.items():
        command = commands.add_parser(name, help=what, description=what)
        command.add_argument("store", metavar="STORE", help="the folder given as store=")
        if name in ("show", "rm"):
            command.add_argument("component", metavar="COMPONENT", help="the component's path")
        command.add_argument(
            "--key-file",
            default=os.environ.get(KEY),
            help=f"the file with the key the store is sealed with; by default ${KEY}",
        )
        command.set_defaults(run=run)
    tree_commands.add_to(groups, run=_tell_of_tree)
    options = parser.parse_args(arguments)
    try:
        code = int(options.run(options))
        sys.stdout.flush()  # here, and not at the interpreter's end, where its error is lost
        return code
    except KompyctError as error:
        print(f"kompyct: {error}", file=sys.stderr)
        return 2
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        if isinstance(error, BrokenPipeError):  # as with `| head`
            return 0
        print(f"kompyct: the output cannot be written: {error.strerror}", file=sys.stderr)
        return 2


def _list(options: argparse.Namespace) -> int:
    """A line for each generation of each component."""
    with _read(options) as contents:
        rows: list[tuple[str, ...]] = [
            ("COMPONENT", "GENERATION", "AGE", "SIZE", "CODEC", "STATUS", "HEALTH")
        ]
        for path in sorted(contents.kept):
            for number, located in enumerate(contents.kept[path]):
                rows.append(_row(located, newest=number == 0))
        rows = [tuple(map(_shown, row)) for row in rows]
        widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
        for row in rows:
            print("  ".join(map(str.ljust, row, widths)).rstrip())
        _tell(contents.damages)
    return 0


def _show(options: argparse.Namespace) -> int:
    """All that is known of a component, but for the values in its snapshots."""
    with _read(options) as contents:
        kept = contents.kept.get(options.component)
        if not kept:
            print(f"kompyct: nothing of {options.component!r} in {options.store}", file=sys.stderr)
            return 1
        for number, located in enumerate(kept):
            if number:
                print()
            for name, value in _facts(located, newest=number == 0):
                print(f"{name + ':':<13}{_shown(value)}")
    return 0


def _verify(options: argparse.Namespace) -> int:
    """Read every record; says what is damaged."""
    with _read(options) as contents:
        kept = [located for generations in contents.kept.values() for located in generations]
        damages = list(contents.damages)
        for located in kept:
            found = segments.read_snapshot(located)
            if isinstance(found, Damage) and found not in damages:
                damages.append(found)
        in_use = is_locked(os.path.join(options.store, LOCK))
        being_written = [damage for damage in damages if damage.torn and in_use]
        damages = [damage for damage in damages if damage not in being_written]
        _tell(damages)
        print(
            f"{len(contents.kept)} components, {len(kept)} snapshots, "
            f"{len(contents.segments)} segments, {len(damages)} damaged places"
            + (", one record is being written" if being_written else "")
        )
    return 1 if damages else 0


def _remove(options: argparse.Namespace) -> int:
    """Remove all generations of a component; not while a program has the store."""
    with _read(options):  # a folder that is no store is left alone
        pass
    store = DirectoryStore(options.store, trust=_key(options) or "local")
    try:
        if options.component not in store.paths():
            print(f"kompyct: nothing of {options.component!r} in {options.store}", file=sys.stderr)
            return 1
        store.save([Removal(options.component)])
        store.compact()
    finally:
        store.close()
    return 0


def _tell_of_tree(options: argparse.Namespace) -> int:
    """What `lint` or `simulate` has to say."""
    lines, code = options.answer(options)
    for line in lines:
        print(_shown(line))
    return int(code)


_COMMANDS = {
    "ls": (_list, "list the snapshots"),
    "show": (_show, "show what is known of one component"),
    "verify": (_verify, "read everything; the exit code is 1 if something is damaged"),
    "rm": (_remove, "remove the snapshots of one component"),
}


class _Reading:
    """The contents of a store, closed in the end."""

    def __init__(self, contents: Contents) -> None:
        self._contents = contents

    def __enter__(self) -> Contents:
        return self._contents

    def __exit__(self, *_: object) -> None:
        self._contents.close()


def _read(options: argparse.Namespace) -> _Reading:
    contents = segments.read_folder(options.store, _key(options), local=False)
    if not contents.segments and not os.path.lexists(os.path.join(options.store, LOCK)):
        raise StoreError(
            f"{options.store} is no store of snapshots", path=options.store, phase="open"
        )
    return _Reading(contents)


def _key(options: argparse.Namespace) -> bytes:
    if not options.key_file:
        return b""
    try:
        with open(options.key_file, "rb") as file:
            key = file.read()
        check_trust(key)
        return key
    except OSError as error:
        raise StoreError(
            f"{options.key_file}: the key cannot be read: {error.strerror}",
            path=options.key_file,
            phase="open",
            errno=error.errno,
        ) from error


def _row(located: Located, *, newest: bool) -> tuple[str, ...]:
    found = segments.read_snapshot(located)
    return (
        located.path if newest else "",
        str(located.generation),
        _age(located.saved_at),
        _size(found),
        _codec(found),
        located.mark.status.value if newest else "",
        _health(located, found, newest=newest),
    )


def _health(located: Located, found: Snapshot | Damage, *, newest: bool) -> str:
    if isinstance(found, Damage):
        return "damaged"
    mark = located.mark
    if newest and mark.suspect and mark.status is not Status.RETIRED:
        return f"whole, suspect {mark.suspect}"
    return "whole"


def _facts(located: Located, *, newest: bool) -> list[tuple[str, object]]:
    found = segments.read_snapshot(located)
    mark = located.mark
    saved = time.strftime("%Y-%m-%d %H:%M:%S%z", time.localtime(located.saved_at))
    facts: list[tuple[str, object]] = [
        ("component", located.path),
        ("generation", located.generation),
        ("saved", f"{saved}, {_age(located.saved_at)} ago"),
        ("size", _size(found)),
        ("codec", _codec(found)),
        ("function", located.function if located.function else "pickled by value"),
        ("incarnation", mark.incarnation),
        ("sequence", mark.sequence),
        ("python", located.python),
        ("kompyct", located.version),
        ("record", f"{os.path.basename(located.segment.path)}, offset {located.offset}"),
        ("health", found.what if isinstance(found, Damage) else "whole"),
    ]
    if newest:
        facts += [
            ("status", mark.status.value),
            ("started", "yes" if mark.active else "no"),
            ("suspect", mark.suspect),
            ("attempts", mark.attempts),
        ]
    return facts


def _size(found: Snapshot | Damage) -> str:
    if isinstance(found, Damage):
        return "?"
    return "none" if found.data is None else f"{len(found.data)} B"


def _codec(found: Snapshot | Damage) -> str:
    if isinstance(found, Damage):
        return "?"
    return "none" if found.data is None else name_of(found.data)


def _age(saved_at: float) -> str:
    seconds = max(0.0, time.time() - saved_at)
    for size, unit in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _tell(damages: Sequence[Damage]) -> None:
    for damage in damages:
        print(f"damaged: {_shown(damage)}")


def _shown(text: object) -> str:
    """`text` without what a terminal would obey: the store may be somebody else's."""
    return "".join(mark if mark.isprintable() else ascii(mark)[1:-1] for mark in str(text))
