"""Collects the Python examples of README.md and docs/**/*.md as tests."""

from __future__ import annotations

from doctest import ELLIPSIS, NORMALIZE_WHITESPACE

from sybil import Sybil
from sybil.parsers.myst import PythonCodeBlockParser, SkipParser

# pytest's own --doctest-glob takes the closing fence of a code block for expected output.
pytest_collect_file = Sybil(
    parsers=[PythonCodeBlockParser(doctest_optionflags=ELLIPSIS | NORMALIZE_WHITESPACE), SkipParser()],
    patterns=["*.md"],
    excludes=["CHANGELOG.md", "docs/_build/**", ".venv*/**"],
).pytest()
