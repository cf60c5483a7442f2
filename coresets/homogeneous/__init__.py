"""Sums of positively homogeneous functions: absolute values, ReLUs, layers of neurons.

Losses for the engine with sizes by T4 and T5, the balance that a relative error for ReLUs needs, and a
diagnosis of data for which every bound that holds for all queries says nothing (T7).
"""

from __future__ import annotations

from coresets.homogeneous.balance import RELU_BALANCE, ReLUBalance, relu_balance
from coresets.homogeneous.diagnosis import Vacuity, vacuity
from coresets.homogeneous.losses import (
    Absolute,
    AbsoluteSum,
    HomogeneousSum,
    Identity,
    LeakyReLU,
    Link,
    ReLU,
    ReLUSum,
)

__all__ = [
    "RELU_BALANCE",
    "Absolute",
    "AbsoluteSum",
    "HomogeneousSum",
    "Identity",
    "LeakyReLU",
    "Link",
    "ReLU",
    "ReLUBalance",
    "ReLUSum",
    "Vacuity",
    "relu_balance",
    "vacuity",
]
