"""The formulas behind i-SpaSP: their extremes, their inverses, and brute force."""

from __future__ import annotations

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.guarantees import (
    BlockPursuit,
    CoherenceIsometry,
    ExactSupport,
    Isometry,
    MonotoneSupports,
    PolynomialDecay,
    PrunedInOrder,
    SummedPursuit,
)

SEEDS = st.integers(0, 2**32 - 1)
POWERS = st.floats(0.1, 0.95)


@given(st.floats(0.0, 0.45), st.floats(0.0, 0.5), st.floats(0.1, 10.0), st.floats(0.0, 10.0))
def test_the_bound_solves_the_recursion_of_one_step(small, more, head, tail):
    isometry = Isometry(3, small, small + more * (0.98 - 2.0 * small))
    theorem, seen = SummedPursuit(), head
    for t in range(8):
        bound = theorem.missed(isometry, head, tail, t)
        assert seen <= bound * (1 + 1e-12)
        seen = isometry.contraction * seen + 2.0 * (1.0 + small) * tail


@pytest.mark.parametrize(("small", "large"), [(0.5, 0.5), (0.0, 1.0), (0.3, math.inf), (math.inf, math.inf)])
def test_nothing_is_proved_where_the_map_may_not_contract(small, large):
    isometry = Isometry(2, small, large)
    assert BlockPursuit().missed(isometry, 1.0, 0.1, 100) == math.inf
    assert PolynomialDecay().residual(isometry, 1.0, 0.5) == math.inf
    assert ExactSupport().iterations(isometry, 1.0, 1.0, 0.0) is None
    with pytest.raises(ValueError, match="not below 1"):
        PolynomialDecay().iterations(isometry, 100.0, 1.0, 0.5)


def test_an_isometry_finds_the_largest_units_in_one_step():
    isometry = Isometry(4, 0.0, 0.0)
    assert isometry.tail_factor == 2.0
    assert SummedPursuit().missed(isometry, 5.0, 0.0, 1) == 0.0
    assert ExactSupport().iterations(isometry, 5.0, 1.0, 0.1) == 1


@given(st.lists(st.floats(0.0, 100.0), min_size=1, max_size=20), st.integers(1, 8))
def test_the_tail_is_that_of_the_definition(sizes, units):
    left = sorted(sizes, reverse=True)[units:]
    expected = math.sqrt(sum(Fraction(x) ** 2 for x in left)) + sum(left) / math.sqrt(units)
    assert SummedPursuit().tail(sizes, units) == pytest.approx(expected, rel=1e-12)
    assert SummedPursuit().head(sizes, units) <= math.sqrt(sum(x * x for x in sizes)) * (1 + 1e-12)


@given(SEEDS, POWERS, st.integers(1, 30))
def test_the_least_magnitude_bounds_the_tail_of_any_sizes(seed, p, units):
    rng = np.random.default_rng(seed)
    sizes = rng.random(60) ** rng.uniform(0.5, 8.0)
    theorem = PolynomialDecay()
    radius = theorem.magnitude(sizes, p)
    ranks = np.arange(1, 61)
    assert np.all(np.sort(sizes)[::-1] <= radius * ranks ** (-1.0 / p) * (1 + 1e-12))
    assert SummedPursuit().tail(sizes, units) <= theorem.tail(radius, p, units) * (1 + 1e-12)
    assert SummedPursuit().head(sizes, units) <= radius * math.sqrt(2.0 / (2.0 - p)) * (1 + 1e-12)


@given(st.floats(0.01, 0.99), POWERS, st.integers(1, 200))
def test_the_number_of_iterations_is_the_least_that_is_enough(rho, p, units):
    theorem, isometry = PolynomialDecay(), Isometry(units, 0.0, rho)
    head, level = 1e3, theorem.tail(1.0, p, units)
    t = theorem.iterations(isometry, head, 1.0, p)
    assert rho**t * head <= level
    assert t == 0 or rho ** (t - 1) * head > level


@given(SEEDS, st.integers(1, 3))
def test_coherence_bounds_the_constants_of_all_sets_of_units(seed, block):
    rng = np.random.default_rng(seed)
    units = 6
    second = np.linalg.qr(rng.normal(size=(20, units * block)))[0]
    second = second + 0.1 * rng.normal(size=second.shape)
    gram = second.T @ second - np.eye(units * block)
    table = np.array(
        [
            [np.linalg.norm(gram[i : i + block, j : j + block], 2) for j in range(0, units * block, block)]
            for i in range(0, units * block, block)
        ]
    )
    for order in range(1, units + 1):
        seen = 0.0
        for some in itertools.combinations(range(units), order):
            columns = [unit * block + offset for unit in some for offset in range(block)]
            seen = max(seen, np.abs(np.linalg.eigvalsh(gram[np.ix_(columns, columns)])).max())
        assert seen <= CoherenceIsometry().constant(table, order) * (1 + 1e-12)
    assert CoherenceIsometry().constant(table, 50) == CoherenceIsometry().constant(table, units)


def test_coherence_is_the_coarser_form_and_the_same_for_equal_products():
    theorem = CoherenceIsometry()
    table = 0.1 * (1.0 - np.eye(7))
    for order in range(1, 8):
        assert theorem.constant(table, order) == pytest.approx(theorem.from_coherence(0.1, order))
    with pytest.raises(ValueError, match="square"):
        theorem.constant(np.ones((2, 3)), 1)
    with pytest.raises(ValueError, match="negative"):
        theorem.from_coherence(-0.1, 2)


def test_the_number_of_iterations_is_one_more_than_the_sums_of_places_are_apart():
    for units, kept in itertools.product(range(1, 7), range(1, 7)):
        if kept <= units:
            sums = {sum(some) for some in itertools.combinations(range(units), kept)}
            assert MonotoneSupports().most_iterations(units, kept) == max(sums) - min(sums) + 1
    with pytest.raises(ValueError, match="more than there are"):
        MonotoneSupports().most_iterations(3, 4)


@given(SEEDS, st.integers(1, 4), st.floats(1.0, 1.2))
def test_errors_of_a_chain_are_weighted_by_what_follows(seed, hidden, lipschitz):
    rng = np.random.default_rng(seed)
    residuals, norms = rng.random(hidden), rng.random(hidden) * 3.0
    expected = 0.0
    for layer in range(hidden):
        product = 1.0
        for later in range(layer + 1, hidden):
            product *= lipschitz * norms[later]
        expected += residuals[layer] * product
    assert PrunedInOrder().error(residuals, norms, lipschitz) == pytest.approx(expected, rel=1e-12)
    with pytest.raises(ValueError, match="one of each"):
        PrunedInOrder().error(residuals, norms[1:])


@pytest.mark.parametrize("arguments", [(0, 0.1, 0.1), (1, -0.1, 0.1), (1, 0.1, math.nan)])
def test_constants_that_cannot_be_are_refused(arguments):
    with pytest.raises(ValueError, match=r"units|small|large"):
        Isometry(*arguments)
    with pytest.raises(ValueError, match="non-negative"):
        SummedPursuit().tail([1.0, -1.0], 1)
