"""Kernels: the few loops in which a pruner spends its time, with one implementation a device."""

from __future__ import annotations

from nn.kernels.dispatch import max_product

__all__ = ["max_product"]
