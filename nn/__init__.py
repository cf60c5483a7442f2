"""Coresets for neural networks: pruning of edges and neurons on the engine of :mod:`coresets`.

A neuron is a coreset problem (keep few incoming edges and reweight them), and so is a layer (keep
few neurons and reweight the next layer). The modules of this package need PyTorch, which the extra
``nn`` installs; the package itself imports without it.
"""

from __future__ import annotations

__all__: list[str] = []
