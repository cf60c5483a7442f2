"""The directive ``where-things-are``: page, class, algorithms and attack of every theorem."""

from __future__ import annotations

from docutils import nodes
from sphinx.application import Sphinx
from sphinx.util.docutils import SphinxDirective

from proofs_check.checks import CHECKS
from proofs_check.where import locate


class WhereThingsAre(SphinxDirective):
    """A table with a row for each guarantee, in the order of the checks."""

    def run(self) -> list[nodes.Node]:
        """Write the table in Markdown, and have it parsed where the directive stands."""
        lines = ["| Theorem | Stated in | Used in | Attacked in |", "|---|---|---|---|"]
        for check in CHECKS:
            where, guarantee = locate(check), check.guarantee
            owner = f"{type(guarantee).__module__.partition('.')[0]}.guarantees.{type(guarantee).__name__}"
            used = ", ".join(f"`{path}`" for path in where.used)
            title = guarantee.title.replace("|", "\\|")
            lines.append(
                f"| [{check.key}]({check.key.lower()}.md): {title} | {{py:class}}`~{owner}` | {used} "
                f"| `{where.checked}` |"
            )
        return self.parse_text_to_nodes("\n".join(lines) + "\n")


def setup(app: Sphinx) -> dict[str, bool]:
    """Register the directive."""
    app.add_directive("where-things-are", WhereThingsAre)
    return {"parallel_read_safe": True}
