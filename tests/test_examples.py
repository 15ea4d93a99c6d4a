"""What do the examples say to arguments that they cannot take?"""

from __future__ import annotations

import runpy
import sys
from pathlib import Path

import pytest

# The example, its arguments, and what it says: which argument, its value, and the way out.
REFUSED = (
    ("buncher", ["nonsense"], ("backend", "'nonsense'", "thread")),
    ("buncher", ["thread", "pool"], ("arguments: pool", "[{{thread,pool,process}}]")),
    ("counters", ["3"], ("backend", "'3'", "pool")),
    ("guarded_program", ["--values", "-1"], ("--values", "'-1'", "whole number from 0")),
    ("guarded_program", ["--crash-at", "-2"], ("--crash-at", "'-2'", "whole number from -1")),
    ("guarded_program", ["--folder", "{file}"], ("--folder", "{file}", "give a folder")),
    ("guarded_program", ["--folder", "{file}/below"], ("--folder", "{file}", "give a folder")),
    ("service", ["--port", "65536"], ("--port", "'65536'", "from 0 to 65535")),
    ("service", ["--port", "1.5"], ("--port", "'1.5'", "whole number")),
    ("service", ["--fault-every", "-1"], ("--fault-every", "'-1'", "from 0")),
    ("service", ["--max-restarts", "many"], ("--max-restarts", "'many'", "from 0")),
    ("service.load", ["--port", "0"], ("--port", "'0'", "from 1 to 65535")),
    ("service.load", ["--requests", "0"], ("--requests", "'0'", "from 1")),
    ("service.load", ["--clients", "0"], ("--clients", "'0'", "from 1")),
    ("try_it_in_a_copy", ["all"], ("arguments: all", "usage: python -m ", "[-h]")),
    ("unstable_counter", ["-1"], ("seconds", "'-1'", "number from 0")),
    ("unstable_counter", ["x"], ("seconds", "'x'", "number from 0")),
    ("unstable_counter", ["nan"], ("seconds", "'nan'", "number from 0")),
    ("unstable_counter", ["inf"], ("seconds", "'inf'", "number from 0")),
    ("unstable_counter", ["0", "{file}"], ("store", "{file} is a file", "path of a folder")),
    ("unstable_counter", ["0", "{file}/below"], ("store", "{file}/below", "folder")),
    ("unstable_counter", ["0", ""], ("store", "''", "give")),
    ("unstable_native", ["2"], ("arguments: 2", "usage: python -m ", "[-h]")),
    ("weather_station", ["1e99"], ("seconds", "'1e99'", "to 86400")),
    ("weather_station", ["1", "2"], ("arguments: 2", "[seconds]")),
)


@pytest.mark.parametrize(("name", "arguments", "said"), REFUSED)
def test_a_wrong_argument_is_refused_by_name_with_its_value_and_the_way_out(
    name: str,
    arguments: list[str],
    said: tuple[str, ...],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Given an argument that cannot be, then it ends with 2, argparse's own, and says so on the
    last line; a wrong number of them is said with the usage. Nothing has run, and no traceback
    is seen."""
    file = tmp_path / "file"
    file.write_text("in the way")
    module = f"examples.{name}"
    for loaded in (module, f"{module}.__main__"):
        monkeypatch.delitem(sys.modules, loaded, raising=False)  # it would run an old copy
    monkeypatch.setattr(sys, "argv", [module, *(text.format(file=file) for text in arguments)])
    with pytest.raises(SystemExit) as ended:
        runpy.run_module(module, run_name="__main__", alter_sys=True)
    assert ended.value.code == 2
    out, complaint = capsys.readouterr()
    assert out == ""
    usage, last = complaint.rsplit("\n", 2)[:2]
    assert last.startswith(f"python -m {module}: error: ")
    for part in said:
        assert part.format(file=file) in (f"{usage}\n{last}" if "arguments:" in said[0] else last)
