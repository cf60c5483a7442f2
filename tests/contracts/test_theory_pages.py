"""Guarantee, theory page and check are one-to-one, and every citation resolves."""

from __future__ import annotations

import importlib
import importlib.util
import re
from pathlib import Path

import pytest

from coresets.guarantee import Guarantee
from coresets.guarantees import GUARANTEES as ENGINE_GUARANTEES

ROOT = Path(__file__).resolve().parents[2]
# Those of networks need torch; where it is missing, so are their checks.
HAS_TORCH = importlib.util.find_spec("torch") is not None
GUARANTEES: tuple[Guarantee, ...] = (
    *ENGINE_GUARANTEES,
    *(importlib.import_module("nn.guarantees").GUARANTEES if HAS_TORCH else ()),
)

DOCS = ROOT / "docs"
THEORY = DOCS / "theory"

SECTIONS = ["Statement", "Assumptions", "Samplers", "Proof", "Constants", "Source", "Check"]
SHARED = {"index.md", "tails.md"}  # pages that belong to no single guarantee

FRONT_MATTER = re.compile(r"\A---\nkey: (?P<key>\S+)\n---\n\n# (?P<title>.+)\n")
CITATION = re.compile(r"\{cite:[a-z]+\}`([^`]+)`")


def page_of(guarantee: Guarantee) -> Path:
    return THEORY / f"{guarantee.key.lower()}.md"


def keys_of_pages() -> list[str]:
    """Key in the front matter of every page of a guarantee."""
    matches = [FRONT_MATTER.match(path.read_text(encoding="utf-8")) for path in guarantee_pages()]
    assert all(matches), [
        path.name for path, match in zip(guarantee_pages(), matches, strict=True) if not match
    ]
    return [match["key"] for match in matches if match]


def guarantee_pages() -> list[Path]:
    return sorted(path for path in THEORY.glob("*.md") if path.name not in SHARED)


def bibliography() -> list[str]:
    text = (DOCS / "references.bib").read_text(encoding="utf-8")
    return re.findall(r"^@\w+\{([^,\s]+),", text, flags=re.MULTILINE)


def test_keys_of_guarantees_are_unique():
    keys = [guarantee.key for guarantee in GUARANTEES]
    assert len(set(keys)) == len(keys)


@pytest.mark.skipif(not HAS_TORCH, reason="the guarantees of networks need torch")
def test_guarantees_and_theory_pages_are_one_to_one():
    assert sorted(keys_of_pages()) == sorted(guarantee.key for guarantee in GUARANTEES)


def test_guarantees_and_checks_are_one_to_one():
    pytest.importorskip("rich")  # the checks need the extra "proofs"
    checks = importlib.import_module("proofs_check.checks").CHECKS
    assert sorted(check.key for check in checks) == sorted(guarantee.key for guarantee in GUARANTEES)


def test_every_theory_page_is_in_the_table_of_contents():
    listed = re.search(
        r"```\{toctree\}\n(.*?)```", (THEORY / "index.md").read_text(encoding="utf-8"), flags=re.DOTALL
    )
    assert listed
    names = {line for line in listed[1].splitlines() if line and not line.startswith(":")}
    assert names == {path.stem for path in THEORY.glob("*.md")} - {"index"}


@pytest.mark.parametrize("guarantee", GUARANTEES, ids=lambda guarantee: guarantee.key)
class TestPage:
    def test_lies_under_the_key_and_has_the_title_of_the_guarantee(self, guarantee: Guarantee):
        match = FRONT_MATTER.match(page_of(guarantee).read_text(encoding="utf-8"))
        assert match
        assert match["key"] == guarantee.key
        assert match["title"] == f"{guarantee.key}: {guarantee.title}"

    def test_has_the_prescribed_sections_in_order_and_none_of_them_empty(self, guarantee: Guarantee):
        text = page_of(guarantee).read_text(encoding="utf-8")
        parts = re.split(r"^## (.+)$", text, flags=re.MULTILINE)
        assert parts[1::2] == SECTIONS
        assert all(len(body.split()) >= 5 for body in parts[2::2])

    def test_names_the_class_and_the_command_that_attacks_it(self, guarantee: Guarantee):
        text = page_of(guarantee).read_text(encoding="utf-8")
        package = type(guarantee).__module__.partition(".")[0]
        assert f"{{py:class}}`~{package}.guarantees.{type(guarantee).__name__}`" in text
        assert f"`python -m proofs_check explain {guarantee.key}`" in text

    def test_has_a_source_in_the_bibliography(self, guarantee: Guarantee):
        assert guarantee.citation.key in bibliography()
        assert guarantee.citation.key in page_of(guarantee).read_text(encoding="utf-8")


def test_no_key_of_the_bibliography_occurs_twice():
    keys = bibliography()
    assert len(set(keys)) == len(keys)


def test_every_citation_in_the_documentation_resolves():
    cited = {
        key.strip()
        for path in DOCS.rglob("*.md")
        if "_build" not in path.parts
        for group in CITATION.findall(path.read_text(encoding="utf-8"))
        for key in group.split(",")
    }
    assert cited
    assert cited <= set(bibliography())
