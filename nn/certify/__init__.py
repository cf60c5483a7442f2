"""Certificates for pruned networks, whoever pruned them.

Held-out data certify how often a fresh example errs; bounds carried through the layers hold for given
inputs, or for boxes of them, with certainty.
"""

from __future__ import annotations

from nn.certify.bounds import additive, additive_certificate, interval, interval_certificate
from nn.certify.conformal import Conformal, ShareFactor, conformal_factor
from nn.certify.errors import ClassChange, OutputDifference, OutputError
from nn.certify.held_out import HeldOut, errors_on, held_out
from nn.certify.occam import description_bits, occam
from nn.certify.search import Certified, refuse_overlap, smallest_certified

__all__ = [
    "Certified",
    "ClassChange",
    "Conformal",
    "HeldOut",
    "OutputDifference",
    "OutputError",
    "ShareFactor",
    "additive",
    "additive_certificate",
    "conformal_factor",
    "description_bits",
    "errors_on",
    "held_out",
    "interval",
    "interval_certificate",
    "occam",
    "refuse_overlap",
    "smallest_certified",
]
