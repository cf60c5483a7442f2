"""Edge pruners: methods that remove single weights. One file a method."""

from __future__ import annotations

from nn.edges.gradients import SNIP, GraSP, Taylor
from nn.edges.magnitude import Magnitude
from nn.edges.random import Random
from nn.edges.synflow import Adaptive, Exponential, SynFlow

__all__ = ["SNIP", "Adaptive", "Exponential", "GraSP", "Magnitude", "Random", "SynFlow", "Taylor"]
