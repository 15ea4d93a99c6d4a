"""Does what README and docs show work?

Every block that begins with three backticks and `python` is run: those of one page in order, in
one module. What must not run is marked `text`.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    page
    for page in (ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"))
    if "_build" not in page.parts
)
LANGUAGES = {"python", "text", "console", "{eval-rst}", "{toctree}", "{literalinclude}"}

_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_OPENING = re.compile(r"^ *```+([^\s`]+)", re.MULTILINE)
_NAMED = re.compile(r"`([\w/.-]+\.md)`")
_LINK = re.compile(r"\]\(([^)#\s]+)(?:#[^)]*)?\)")


def name_of(page: Path) -> str:
    """How a page is named in a report."""
    return str(page.relative_to(ROOT))


WITH_CODE = [page for page in PAGES if _BLOCK.search(page.read_text())]


@pytest.mark.timeout(20)
@pytest.mark.parametrize("page", WITH_CODE, ids=name_of)
def test_the_code_of_a_page_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """CONVENTIONS 16: Given a page, when its blocks are run in order, then none raises, and what
    they assert is true; the pages themselves say what is expected and why."""
    text = page.read_text()
    module = ModuleType(f"docs_{page.stem.replace('-', '_')}")
    monkeypatch.setitem(sys.modules, module.__name__, module)
    for block in _BLOCK.finditer(text):
        lines_before = text.count("\n", 0, block.start(1))
        code = compile("\n" * lines_before + block[1], str(page), "exec", dont_inherit=True)
        exec(code, vars(module))


def test_the_readme_shows_the_counter_of_the_example() -> None:
    """CONVENTIONS 16: Given the counter in README, then it is the one that `make demo` runs."""
    shown, run = (
        path.read_text().partition("LIMIT = 255")[2].partition("def main(")[0]
        for path in (ROOT / "README.md", ROOT / "examples/unstable_counter/counter.py")
    )
    assert len(shown) > 500
    assert shown == run


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_no_block_escapes_the_test_above(page: Path) -> None:
    """Given a page, then each of its blocks names a language, and no other word for Python."""
    text = page.read_text()
    fences = re.findall(r"^ *```", text, re.MULTILINE)
    openings = _OPENING.findall(text)
    assert set(openings) <= LANGUAGES
    assert len(fences) == 2 * len(openings)
    assert len(_BLOCK.findall(text)) == openings.count("python")


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_between_files_lead_somewhere(page: Path) -> None:
    """Given a page, when a reader on a code host follows a relative link, the file is there."""
    for target in _LINK.findall(page.read_text()):
        if not target.startswith("https://"):
            assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_a_page_that_is_named_exists(page: Path) -> None:
    """Given a page named in `code`, then a reader who has the repository only can open it."""
    for name in _NAMED.findall(page.read_text()):
        assert (ROOT / name).exists() or (page.parent / name).exists(), name
