"""``python -m proofs_check``: starts the command line, or says which extra it lacks."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]

_NEEDED = (
    "click",
    "jinja2",
    "joblib",
    "markupsafe",
    "matplotlib",
    "rich",
)  # the extra `proofs`


def main() -> None:
    """Run the command line; exit 2 where the extra ``proofs`` is missing, 130 when interrupted."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"proofs_check needs {', '.join(missing)}: pip install 'coresets[proofs]'\n")
        sys.exit(2)
    try:
        # Here and not above: the command line needs the packages just looked for, and an
        # interruption while the numerical libraries load must end quietly as well.
        from proofs_check.cli import cli  # noqa: PLC0415

        cli(prog_name="python -m proofs_check")
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted.\n")
        sys.exit(130)


if __name__ == "__main__":
    main()
