"""Edge pruners: methods that remove single weights. One file a method."""

from __future__ import annotations

from nn.edges.corenet import Amplification, CoreNet
from nn.edges.dead_units import CleanUp, without_dead_units
from nn.edges.feedback import Feedback
from nn.edges.gradients import SNIP, GraSP, Taylor
from nn.edges.magnitude import Magnitude
from nn.edges.obs import BestPath, OBSBackward
from nn.edges.ols import OLSForward
from nn.edges.random import Random
from nn.edges.refit import Refit
from nn.edges.sipp import Deterministic, Hybrid, Randomised, SiPP, Transfer
from nn.edges.synflow import Adaptive, Exponential, SynFlow
from nn.edges.wanda import Wanda

__all__ = [
    "SNIP",
    "Adaptive",
    "Amplification",
    "BestPath",
    "CleanUp",
    "CoreNet",
    "Deterministic",
    "Exponential",
    "Feedback",
    "GraSP",
    "Hybrid",
    "Magnitude",
    "OBSBackward",
    "OLSForward",
    "Random",
    "Randomised",
    "Refit",
    "SiPP",
    "SynFlow",
    "Taylor",
    "Transfer",
    "Wanda",
    "without_dead_units",
]
