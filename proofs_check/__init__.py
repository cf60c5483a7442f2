"""Attempts to refute the guarantees of :mod:`coresets` and :mod:`nn`, and of constructions of your own.

Each check fixes its false-alarm rate and the failure rate that it must detect before it runs, and
must also catch the faults that are planted for it. A check can refute a theorem; it never proves one.
"""

from __future__ import annotations

__all__: list[str] = []
