"""What carries the Poisson bounds over to pivotal sampling: smaller moments, of sums and of matrices."""

from __future__ import annotations

import math
from collections.abc import Iterator
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.linalg import expm, logm

from coresets.sampling import sample_fixed_size

EPS = float(np.finfo(np.float64).eps)

# ---- E1-F: pivotal sampling has smaller exponential moments than Poisson sampling


Carriers = list[tuple[Fraction, int]]


def tournament(
    carriers: Carriers, winners: Carriers | None = None
) -> Iterator[tuple[Fraction, frozenset[int]]]:
    """All outcomes, with their probabilities, of knock-out rounds between neighbouring carriers.

    A carrier is a probability and the item it belongs to; ``winners`` have finished this round.
    """
    winners = winners or []
    if len(carriers) + len(winners) == 1:
        probability, item = (carriers + winners)[0]
        assert probability in (0, 1)  # the probabilities add up to an integer
        yield Fraction(1), frozenset([item] if probability else [])
        return
    if len(carriers) < 2:  # the next round; who is left without a partner goes last
        yield from tournament(winners + carriers)
        return
    (a, i), (b, j), *later = carriers
    both = a + b
    branches: list[tuple[Fraction, list[int], tuple[Fraction, int]]]
    if both < 1:  # the winner carries everything, the loser is dropped
        first = a / both if both else Fraction(0)
        branches = [(first, [], (both, i)), (1 - first, [], (both, j))]
    else:  # the winner is kept, the loser carries the rest
        first = (1 - b) / (2 - both) if both < 2 else Fraction(0)
        branches = [(first, [i], (both - 1, j)), (1 - first, [j], (both - 1, i))]
    for chance, kept, carrier in branches:
        if chance:
            for probability, outcome in tournament(later, [*winners, carrier]):
                yield chance * probability, outcome.union(kept)


SMALL = [
    [Fraction(1, 2)] * 4,
    [Fraction(1, 3), Fraction(2, 3), Fraction(1, 4), Fraction(3, 4)],
    [Fraction(2, 5)] * 5,
    [Fraction(9, 10), Fraction(3, 10), Fraction(1, 10), Fraction(1, 2), Fraction(1, 5)],
    [Fraction(1, 7), Fraction(2, 7), Fraction(4, 7), Fraction(5, 7), Fraction(3, 7), Fraction(6, 7)],
]


@pytest.mark.parametrize("pi", SMALL)
def test_duels_keep_the_inclusion_probabilities_and_the_size(pi: list[Fraction]) -> None:
    outcomes = list(tournament([(p, i) for i, p in enumerate(pi)]))
    assert sum(chance for chance, _ in outcomes) == 1
    assert all(len(kept) == sum(pi) for _, kept in outcomes)
    for i, p in enumerate(pi):
        assert sum(chance for chance, kept in outcomes if i in kept) == p


def exponential_moments(pi: list[Fraction], factors: list[Fraction]) -> tuple[Fraction, Fraction]:
    """E prod of the factors of the kept items: pivotal, and Poisson with the same probabilities."""
    pivotal = sum(
        (chance * math.prod((factors[i] for i in kept), start=Fraction(1))
         for chance, kept in tournament([(p, i) for i, p in enumerate(pi)])),
        Fraction(0),
    )  # fmt: skip
    return pivotal, math.prod((1 - p + p * f for p, f in zip(pi, factors, strict=True)), start=Fraction(1))


@pytest.mark.parametrize("pi", SMALL)
@given(st.data())
@settings(max_examples=40)
def test_exponential_moments_are_dominated_for_either_sign(pi: list[Fraction], data: st.DataObject) -> None:
    # exp(lambda c_i) with c_i >= 0: all factors at least 1, or all in (0, 1]; exact arithmetic.
    larger = data.draw(st.lists(st.fractions(1, 50, max_denominator=20), min_size=len(pi), max_size=len(pi)))
    for factors in (larger, [1 / f for f in larger]):
        pivotal, poisson = exponential_moments(pi, factors)
        assert pivotal <= poisson


def test_domination_fails_when_losses_take_both_signs() -> None:
    """Two items of probability 1/2 and opposite signs: kept together never, so always far out."""
    pivotal, poisson = exponential_moments([Fraction(1, 2)] * 2, [Fraction(10), Fraction(1, 10)])
    assert pivotal > poisson


@pytest.mark.parametrize("pi", SMALL)
def test_the_sampler_only_returns_outcomes_of_the_tournament(pi: list[Fraction]) -> None:
    n = len(pi)
    values = np.array([float(p) for p in pi])
    draw = sample_fixed_size(np.tile(values, (200, 1)), int(sum(pi)), rng=0)
    possible = {kept for _, kept in tournament([(p, i) for i, p in enumerate(pi)])}
    seen = {frozenset(np.flatnonzero(row).tolist()) for row in np.asarray(draw.mask)}
    assert np.allclose(draw.probabilities, values, rtol=n * 8 * EPS)
    assert seen <= possible


# ---- MC under fixed-size sampling: the concavity behind the matrix moments


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("d", [2, 3, 5])
def test_the_matrix_pessimistic_estimator_is_concave_along_an_exchange(seed: int, d: int) -> None:
    """z -> tr exp(L + log(C1 + z D1) + log(C2 - z D2)) with D1, D2 positive semidefinite."""
    rng = np.random.default_rng([seed, d])

    def psd(rank: int) -> np.ndarray:
        factor = rng.standard_normal((d, rank))
        return factor @ factor.T

    symmetric = rng.standard_normal((d, d))
    L, D1, D2 = symmetric + symmetric.T, psd(1), psd(rng.integers(1, d + 1))
    C1, C2 = np.eye(d) + psd(d), np.eye(d) + D2 + psd(d)
    grid = np.linspace(0.0, 1.0, 9)
    values = np.array(
        [float(np.trace(expm(L + logm(C1 + z * D1).real + logm(C2 - z * D2).real))) for z in grid]
    )
    curvature = values[2:] - 2.0 * values[1:-1] + values[:-2]
    # Logarithm and exponential are accurate to a modest multiple of EPS in the largest value.
    assert np.all(curvature <= 1e4 * EPS * d * values.max())
