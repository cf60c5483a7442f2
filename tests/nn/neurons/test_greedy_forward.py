"""Greedy means: every step against all alternatives, the rate, and the weights that come out."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import nn
from nn import KeepCount, KeepRatio
from nn.guarantees.greedy import GreedyHull
from nn.neurons.greedy import GreedyForward, greedy_mean, term_probabilities

seeds = st.integers(0, 2**32 - 1)
THEOREM = GreedyHull()


@settings(max_examples=25)
@given(seeds, st.integers(1, 6), st.booleans())
def test_every_step_takes_the_best_term_in_exact_arithmetic(seed, units, equal):
    rng = np.random.default_rng(seed)
    terms = rng.integers(-5, 6, size=(units, 3))
    products = (terms @ terms.T).astype(float)
    weights = rng.integers(1, 5, size=units)
    probabilities = np.full(units, 1.0 / units) if equal else weights / weights.sum()
    exact = [Fraction(1, units) if equal else Fraction(int(w), int(weights.sum())) for w in weights]
    scaled = [[Fraction(int(x)) / p for x in row] for row, p in zip(terms, exact, strict=True)]
    target = [Fraction(int(x)) for x in terms.sum(axis=0)]
    total, counts = [Fraction(0)] * 3, np.zeros(units, dtype=int)
    for step in range(1, 8):
        found = greedy_mean(products, probabilities, units, step)
        new = found.counts - counts
        assert new.sum() == 1
        errors = [
            sum((t + x - step * y) ** 2 for t, x, y in zip(total, phi, target, strict=True)) for phi in scaled
        ]
        chosen = int(np.argmax(new))
        # Rounding may decide between errors that are equal up to it.
        assert float(errors[chosen] - min(errors)) <= 1e-9 * float(max(errors) or 1)
        counts, total = found.counts, [t + x for t, x in zip(total, scaled[chosen], strict=True)]
        error = sum((t / step - y) ** 2 for t, y in zip(total, target, strict=True))
        assert found.squared_error == pytest.approx(float(error), rel=1e-9, abs=1e-9)


@settings(max_examples=25)
@given(seeds, st.integers(1, 12), st.integers(1, 40), st.booleans())
def test_the_error_is_within_the_bound(seed, units, steps, equal):
    rng = np.random.default_rng(seed)
    terms = rng.normal(size=(units, 5)) * np.exp(rng.normal(size=(units, 1)))
    products = terms @ terms.T
    probabilities = term_probabilities(products, equal=equal)
    found = greedy_mean(products, probabilities, units, steps)
    assert found.steps == steps
    energy = float(products.sum())
    variance = THEOREM.variance(np.diagonal(products), energy, probabilities)
    slack = 1e-12 * float(np.abs(products).sum())
    assert found.squared_error <= THEOREM.squared_error(variance, steps) + slack
    np.testing.assert_allclose(found.factors, found.counts / (steps * probabilities))
    direct = float(np.sum((terms.T @ (found.factors - 1.0)) ** 2))
    assert found.squared_error == pytest.approx(direct, abs=slack)


@given(seeds, st.integers(1, 8))
@settings(max_examples=20)
def test_terms_of_one_length_have_the_smallest_variance(seed, units):
    rng = np.random.default_rng(seed)
    squares = np.exp(rng.normal(size=units))
    best = np.sqrt(squares) / np.sqrt(squares).sum()
    other = rng.dirichlet(np.ones(units))
    assert THEOREM.variance(squares, 0.0, best) == pytest.approx(float(np.sqrt(squares).sum() ** 2))
    assert THEOREM.variance(squares, 0.0, best) <= THEOREM.variance(squares, 0.0, other) * (1 + 1e-12)


def test_the_general_bound_is_the_harmonic_sum():
    assert THEOREM.excess(6.0, 3) == pytest.approx(6.0 * (1 + 1 / 2 + 1 / 3) / 3)
    assert THEOREM.excess(6.0, 1) == THEOREM.squared_error(6.0, 1)
    with pytest.raises(ValueError, match="steps"):
        THEOREM.squared_error(1.0, 0)


def network() -> torch.nn.Sequential:
    torch.manual_seed(0)
    layers = torch.nn.Linear(4, 12), torch.nn.ReLU(), torch.nn.Linear(12, 3)
    return torch.nn.Sequential(*layers).double()


DATA = [torch.randn(50, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))]


@pytest.mark.parametrize("equal", [False, True])
def test_the_certificate_is_the_error_of_the_network(equal):
    model = network()
    pruned = nn.prune(model, GreedyForward(equal=equal), KeepRatio(0.5), calibration=DATA)
    certificate = pruned.plan.groups["0"].certificates[0]
    target = model(DATA[0]).detach()
    error = (pruned.model(DATA[0]) - target).square().sum() / (target - model[2].bias.detach()).square().sum()
    assert certificate.value == pytest.approx(float(error.detach()), rel=1e-9)
    assert certificate.holds
    assert certificate.details["steps"] >= pruned.plan.kept


def test_with_all_units_the_error_falls_as_steps_go_on():
    model = network()
    certificate = nn.plan(model, GreedyForward(), KeepCount(12), calibration=DATA).groups["0"].certificates[0]
    assert certificate.value < 1e-2


def test_units_that_no_step_wants_are_named_and_counts_stay_exact():
    model = network()
    with torch.no_grad():
        model[2].weight[:, 2:] = 0.0
    plan = nn.plan(model, GreedyForward(), KeepCount(5), calibration=DATA)
    assert plan.kept == 5
    assert any("wanted" in note for note in plan.notes)


def test_groups_that_are_concatenated_are_both_rescaled():
    class Joined(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.left, self.right = torch.nn.Linear(4, 5), torch.nn.Linear(4, 5)
            self.join = torch.nn.Linear(10, 3)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.join(torch.relu(torch.cat([self.left(x), self.right(x)], dim=1)))

    torch.manual_seed(2)
    model = Joined().double()
    plan = nn.plan(model, GreedyForward(), KeepRatio(0.6), calibration=DATA)
    ratio = (plan.updates["join.weight"] / model.join.weight).detach()
    for offset, name in ((0, "left"), (5, "right")):
        kept = torch.nonzero(plan.groups[name].keep).flatten() + offset
        assert bool((ratio[:, kept] - 1.0).abs().max() > 1e-6)
        torch.testing.assert_close(ratio[:, kept], ratio[:1, kept].expand(3, -1))


def test_bad_arguments_are_refused():
    with pytest.raises(ValueError, match="patches"):
        GreedyForward(patches=0)
    with pytest.raises(TypeError, match="LAMP"):
        GreedyForward(allocation=nn.LAMP())
