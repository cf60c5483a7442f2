"""The formulas of B1, B2, B3 and B5, their inverses and their extremes."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nn.gram import Gram
from nn.guarantees.reconstruction import BackwardElimination, EveryInput, ForwardSelection, HardFeedback

B1, B2, B3, B5 = ForwardSelection(), BackwardElimination(), EveryInput(), HardFeedback()


def test_every_theorem_has_a_key_and_a_statement():
    for theorem, key in ((B1, "B1"), (B2, "B2"), (B3, "B3"), (B5, "B5")):
        assert theorem.key == key
        assert theorem.statement.endswith(".")
        assert theorem.assumptions


@given(st.floats(1.0, 1e6), st.floats(1e-3, 1.0))
def test_b1_s_size_is_the_least_that_promises_epsilon(spread, epsilon):
    k = B1.size(spread, epsilon)
    assert B1.relative_squared_error(spread, k) <= epsilon**2 * (1 + 1e-12)
    assert k == 0 or B1.relative_squared_error(spread, k - 1) > epsilon**2
    assert abs(k - spread * (1 / epsilon**2 - 1)) <= 1 + 1e-9 * k


def test_b1_is_never_vacuous_and_starts_at_the_whole_error():
    assert B1.relative_squared_error(5.0, 0) == 1.0
    assert np.all(np.diff(B1.relative_squared_error(5.0, np.arange(100))) < 0)
    with pytest.raises(ValueError, match="spread"):
        B1.size(0.0, 0.5)
    with pytest.raises(ValueError, match="epsilon"):
        B1.size(1.0, 1.5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 8))
def test_the_spread_is_at_least_one_and_the_number_of_edges_for_equal_independent_ones(seed, m):
    rng = np.random.default_rng(seed)
    gram = Gram.of(rng.normal(size=(1, 6, m)))
    w = rng.normal(size=(1, 3, m))
    spread = B1.spread(w, gram.diagonal[:, None, :], gram.squared_errors(w))
    assert np.all(spread >= 1 - 1e-12)
    assert B1.spread(np.ones(m), np.ones(m), float(m)) == pytest.approx(m)
    assert B1.spread(np.zeros(m), np.ones(m), 0.0) == 1.0


@given(st.integers(1, 50), st.floats(0.01, 1.0), st.data())
def test_b2_is_a_share_below_its_logarithmic_form(edges, mu, data):
    kept = data.draw(st.integers(1, edges))
    bound = B2.relative_squared_error(edges, kept, mu)
    assert 0.0 <= bound <= 1.0
    assert bound <= math.log(edges / kept) / mu + 1e-12


def test_b2_keeps_the_exact_error_of_equal_independent_edges():
    # equal contributions, no correlation: an error of (m - k) / m, which is where the bound is attained
    for kept in range(8):
        assert B2.relative_squared_error(7, kept, 1.0) == pytest.approx(1 - kept / 7)


@pytest.mark.parametrize("arguments", [(3, 4, 0.5), (3, -1, 0.5), (3, 1, 0.0)])
def test_b2_refuses_what_cannot_be(arguments):
    with pytest.raises(ValueError, match=r"kept|eigenvalue"):
        B2.relative_squared_error(*arguments)


@given(st.integers(0, 2**32 - 1), st.integers(1, 6))
def test_b3_holds_for_random_inputs_and_is_attained(seed, m):
    rng = np.random.default_rng(seed)
    gram = Gram.of(rng.normal(size=(1, 5, m)), ridge=float(10 ** rng.uniform(-3, 0)))
    difference = rng.normal(size=(1, 2, m))
    inputs = 100 * rng.normal(size=(1, 7, m))
    error = gram.squared_errors(difference)
    bound = B3.error(gram.leverages(inputs)[:, None, :], error[:, :, None])
    change = np.abs(np.einsum("gnm,gvm->gnv", difference, inputs))
    assert np.all(change <= bound * (1 + 1e-9))
    worst = difference @ gram.matrix  # one input for each neuron
    change = np.abs(np.einsum("gnm,gnm->gn", difference, worst))
    np.testing.assert_allclose(change, B3.error(gram.leverages(worst), error), rtol=1e-8)


def test_b5_s_threshold_form():
    assert B5.squared_error([1.0, 0.0, 2.0]) == 5.0
    assert B5.squared_error_from_threshold(2.0, 3) == 12.0
    with pytest.raises(ValueError, match="negative"):
        B5.squared_error_from_threshold(-1.0, 3)
