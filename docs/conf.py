"""How are the pages of `docs/` built?"""

import re
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent))

from sphinx.ext.napoleon import Config, GoogleDocstring

import kompyct  # the version is written once, in the package

project = "kompyct"
author = "the kompyct authors"
copyright = "2026, the kompyct authors"
version = release = kompyct.__version__

extensions = ["myst_parser", "sphinx.ext.autodoc"]
exclude_patterns = ["_build"]
html_theme = "furo"
html_title = f"kompyct {release}"
html_show_sourcelink = False

default_role = "literal"  # docstrings write names in single backticks
myst_heading_anchors = 3
myst_enable_extensions = ["deflist"]

autodoc_member_order = "bysource"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True

_SECTIONS = Config(napoleon_use_ivar=True, napoleon_use_rtype=False)
_RETURNS = re.compile(r"^Returns: (.+)$", re.MULTILINE)


def _read_sections(
    app: Any, what: str, name: str, found: object, options: Any, lines: list[str]
) -> None:
    """Make lists of `Args:`, `Returns:` and `Raises:`.

    As the extension napoleon does, but for two things: the text of `Returns:` may stand beside
    it, and what precedes a colon in the docstring of a property is not taken for its type.
    """
    text = _RETURNS.sub(r"Returns:\n    \1", "\n".join(lines))
    kind = "method" if what in ("property", "attribute") else what
    lines[:] = GoogleDocstring(text, _SECTIONS, app, kind, name, found, options).lines()


def setup(app: Any) -> None:
    """Called by Sphinx."""
    app.connect("autodoc-process-docstring", _read_sections)
