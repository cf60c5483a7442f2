"""ThiNet: its removals against brute force, its scales against a plain solver."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from nn import KeepCount, KeepRatio
from nn.neurons.thinet import ThiNet, least_squares_scales, removed_greedily

seeds = st.integers(0, 2**32 - 1)
DATA = [torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))]


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    return torch.nn.Sequential(torch.nn.Linear(4, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)).double()


@settings(max_examples=25)
@given(seeds, st.integers(1, 7))
def test_each_removal_keeps_the_sum_of_what_is_removed_smallest(seed, units):
    terms = np.random.default_rng(seed).normal(size=(units, 4))
    before = np.zeros(units, dtype=bool)
    for count in range(1, units + 1):
        removed = removed_greedily(terms @ terms.T, count)
        (new,) = np.flatnonzero(removed & ~before)

        def left(unit, before=before):
            return float(np.sum((terms[before].sum(axis=0) + terms[unit]) ** 2))

        best = min(left(u) for u in np.flatnonzero(~before))
        assert left(new) == pytest.approx(best, rel=1e-9, abs=1e-9)
        before = removed


@settings(max_examples=25)
@given(seeds, st.integers(2, 7))
def test_scales_are_those_of_a_plain_solver(seed, units):
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(units, 20))
    kept = np.arange(units) < max(1, units // 2)
    found = least_squares_scales(terms @ terms.T, kept, 1e-10)
    direct = np.linalg.lstsq(terms[kept].T, terms.sum(axis=0))[0]
    np.testing.assert_allclose(found, direct, rtol=1e-6, atol=1e-6)


def test_scales_never_make_it_worse_and_the_certificate_is_the_error_of_the_network():
    model = network()
    for count in (3, 6, 9):
        pruned = nn.prune(model, ThiNet(), KeepCount(count), calibration=DATA)
        certificate = pruned.plan.groups["0"].certificates[0]
        target = model(DATA[0]).detach()
        error = (pruned.model(DATA[0]) - target).square().sum() / (
            target - model[2].bias.detach()
        ).square().sum()
        assert certificate.value == pytest.approx(float(error.detach()), rel=1e-9)
        assert certificate.value <= certificate.details["without scales"]


def test_units_whose_contributions_cancel_are_removed_together():
    model = network()
    with torch.no_grad():
        model[0].weight[1], model[0].bias[1] = model[0].weight[0], model[0].bias[0]
        model[2].weight[:, 1] = -model[2].weight[:, 0]
        model[2].weight[:, :2] *= 0.2  # small enough for the first of them to go first
    keep = nn.plan(model, ThiNet(), KeepCount(10), calibration=DATA).groups["0"].keep
    assert not bool(keep[:2].any())


def test_without_rescaling_no_weight_changes():
    assert not nn.plan(network(), ThiNet(reweighted=False), KeepRatio(0.5), calibration=DATA).updates


@pytest.mark.parametrize("arguments", [{"ridge": 0.0}, {"patches": 0}])
def test_bad_figures_are_refused(arguments):
    with pytest.raises(ValueError, match=next(iter(arguments))):
        ThiNet(**arguments)
