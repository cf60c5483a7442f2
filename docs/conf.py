"""Configuration of Sphinx; `make docs` builds with warnings as errors."""

from __future__ import annotations

import re
import sys
from importlib.metadata import version as _version
from pathlib import Path
from typing import Any

from docutils import nodes
from sphinx import addnodes
from sphinx.application import Sphinx

sys.path.insert(0, str(Path(__file__).parent / "_extensions"))

project = "coresets"
author = "The coresets developers"
copyright = "2026, The coresets developers"
release = _version("coresets")
version = release

extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.mathjax",
    "sphinx.ext.napoleon",
    "sphinx.ext.viewcode",
    "sphinx_copybutton",
    "sphinx_design",
    "sphinxcontrib.bibtex",
    "where_things_are",
]
exclude_patterns = ["_build", "studies/*/table.md", "studies/*/chosen.md"]

myst_enable_extensions = ["amsmath", "colon_fence", "deflist", "dollarmath"]
myst_heading_anchors = 3

bibtex_bibfiles = ["references.bib"]
bibtex_default_style = "alpha"
bibtex_reference_style = "author_year"

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
napoleon_google_docstring = False
napoleon_use_ivar = True  # attributes that are annotated too would otherwise be listed twice

copybutton_prompt_text = r">>> |\.\.\. |\$ "
copybutton_prompt_is_regexp = True

html_theme = "furo"
html_title = "coresets"


def _mend_docstring(*event: Any) -> None:
    """Make plain text of what reStructuredText would take for markup of its own.

    Absolute values |x| are no substitutions. References are numbered within a docstring, and
    footnotes within a page, so the former become enumerated lists.
    """
    lines: list[str] = event[-1]
    literal_indent: int | None = None
    for i, line in enumerate(lines):
        text = line.strip()
        indent = len(line) - len(line.lstrip())
        if text and literal_indent is not None and indent <= literal_indent:
            literal_indent = None
        if literal_indent is None and not text.startswith((">>>", "...")):
            parts = re.split(r"(``.*?``)", line)
            mended = "".join(p if p.startswith("``") else p.replace("|", r"\|") for p in parts)
            mended = re.sub(r"^(\s*)\.\. \[(\d+)\]", r"\1\2.", mended)
            lines[i] = re.sub(r"\[(\d+)\]_", r"[\1]", mended)
        if text.endswith("::"):
            literal_indent = indent


def _plain_shapes(_app: Sphinx, doctree: nodes.document) -> None:
    """Do not take the n of a shape (n,) for an attribute of that name."""
    for reference in list(doctree.findall(addnodes.pending_xref)):
        if reference.get("refdomain") == "py" and len(reference["reftarget"]) == 1:
            reference.replace_self(reference.children)


def setup(app: Sphinx) -> None:
    """Connect the two hooks; the first before napoleon, whose priority is 500."""
    app.connect("autodoc-process-docstring", _mend_docstring, priority=400)
    app.connect("doctree-read", _plain_shapes)
