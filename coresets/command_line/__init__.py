"""The command ``coresets``: reduce files, certify models and coresets, ask what the theory asks for."""

from __future__ import annotations

import sys
from importlib.util import find_spec

__all__ = ["main"]

_NEEDED = ("click", "rich")  # the extra `cli`, but for pyarrow, which NPZ files do without


def main() -> None:
    """Run the command line; exit 2 where the extra ``cli`` is missing, 130 when interrupted."""
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        sys.stderr.write(f"coresets needs {', '.join(missing)}: pip install 'coresets[cli]'\n")
        sys.exit(2)
    try:
        # Here and not above: the command line needs the packages just looked for, and an
        # interruption while the numerical libraries load must end quietly as well.
        from coresets.command_line.cli import cli  # noqa: PLC0415

        cli(prog_name="coresets")
    except KeyboardInterrupt:
        sys.stderr.write("Interrupted; nothing was written.\n")
        sys.exit(130)
