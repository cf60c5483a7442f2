"""The self-balancing walk: against its plain reference, exact enumeration, and the bounds of D1."""

from __future__ import annotations

from itertools import product
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.guarantees import SelfBalancingWalk
from coresets.halving import Aggressive, InnerProducts, Provable, Walked, balanced_signs
from coresets.halving._reference import reference_walk

EPS = float(np.finfo(np.float64).eps)
WALK = SelfBalancingWalk()
seeds = st.integers(0, 2**32 - 1)


def vectors_of(seed: int, n: int, k: int) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, k)) * 2.0 ** rng.integers(-3, 4, (n, 1))


@settings(max_examples=30)
@given(seed=seeds, n=st.integers(1, 200), k=st.integers(1, 6), c=st.sampled_from([0.3, 1.0, 12.0]))
def test_compiled_walks_are_the_one_that_is_written_down(seed: int, n: int, k: int, c: float) -> None:
    vectors = vectors_of(seed, n, k)
    signs = balanced_signs(vectors, Aggressive(c), rng=seed)
    longest = float(np.sqrt(np.max(np.sum(vectors**2, axis=1))))
    assert signs.longest == pytest.approx(longest, rel=10 * k * EPS)
    uniforms = np.random.default_rng(seed).random(n)
    expected, clips, largest = reference_walk(vectors, c * longest**2, uniforms)
    assert np.array_equal(signs.values, expected)
    assert signs.clips == clips
    assert signs.largest == pytest.approx(largest / (c * longest**2), abs=1e3 * n * EPS / min(c, 1.0))
    assert (signs.largest > 1.0) == (clips > 0)
    by_products = balanced_signs(InnerProducts(vectors @ vectors.T), Aggressive(c), rng=seed)
    assert np.array_equal(by_products.values, expected)
    assert by_products.clips == clips


@settings(max_examples=20)
@given(seed=seeds, n=st.integers(2, 60), r=st.integers(1, 5))
def test_pairs_under_a_polynomial_kernel_are_walked_as_their_features(seed: int, n: int, r: int) -> None:
    rng = np.random.default_rng(seed)
    units = rng.standard_normal((n, r))
    units /= np.maximum(1.0, np.linalg.norm(units, axis=1, keepdims=True))
    scales = 2.0 ** rng.integers(-3, 1, n).astype(np.float64)
    weights = rng.dirichlet(np.ones(3))
    order = rng.permutation(n)
    first, second = order[::2], np.full((n + 1) // 2, -1)
    second[: n // 2] = order[1::2]
    features = np.hstack(
        [
            np.full((n, 1), weights[0] ** 0.5),
            weights[1] ** 0.5 * units,
            weights[2] ** 0.5 * (units[:, :, None] * units[:, None, :]).reshape(n, -1),
        ]
    )
    scaled = features * scales[:, None]
    vectors = scaled[first] - np.where(second[:, None] >= 0, scaled[second], 0.0)
    lengths = np.linalg.norm(vectors, axis=1)
    for walked in (Walked(units, weights), Walked(features @ features.T)):
        found = walked.lengths(scales, first, second)
        # Differences of squared lengths of at most 1.
        assert found**2 == pytest.approx(lengths**2, abs=100 * features.shape[1] * EPS)
        signs = walked.signs(scales, first, second, 3.0, np.random.default_rng(seed))
        uniforms = np.random.default_rng(seed).random(len(first))
        expected, clips, _ = reference_walk(vectors, 3.0 * np.max(lengths) ** 2, uniforms)
        assert np.array_equal(signs.values, expected)
        assert signs.clips == clips


def law_of(vectors: np.ndarray, a: float) -> dict[tuple[int, ...], float]:
    """Probability of every sequence of signs."""
    law = {}
    for signs in product([-1, 1], repeat=len(vectors)):
        total, probability = np.zeros(vectors.shape[1]), 1.0
        for sign, v in zip(signs, vectors, strict=True):
            up = min(1.0, max(0.0, 0.5 - float(total @ v) / (2.0 * a)))
            probability *= up if sign > 0 else 1.0 - up
            total += sign * v
        law[signs] = probability
    return law


@settings(max_examples=15)
@given(seed=seeds, n=st.integers(1, 9), k=st.integers(1, 3), rate=st.floats(-3.0, 3.0))
def test_exponential_moments_obey_d1_exactly_where_nothing_can_clip(
    seed: int, n: int, k: int, rate: float
) -> None:
    """a >= n b^2 excludes clips, so that the idealised process is the walk itself."""
    rng = np.random.default_rng(seed)
    vectors, f = vectors_of(seed, n, k), rng.standard_normal(n)
    square = float(np.max(np.sum(vectors**2, axis=1)))
    factor = float(max(n, 2))
    law = law_of(vectors, factor * square)
    moment = sum(p * np.exp(rate * float(np.dot(s, f))) for s, p in law.items())
    assert np.log(moment) <= 0.5 * rate**2 * WALK.proxy(vectors, f, factor=factor) + 1e3 * EPS
    xi = rng.standard_normal(k)
    explained = vectors @ xi
    moment = sum(p * np.exp(rate * float(np.dot(s, explained)) / 10.0) for s, p in law.items())
    proxy = WALK.exact_proxy(float(np.linalg.norm(xi)), square**0.5, factor=factor)
    assert np.log(moment) <= 0.5 * (rate / 10.0) ** 2 * proxy + 1e3 * EPS


@settings(max_examples=10)
@given(seed=seeds, n=st.integers(1, 8), c=st.floats(0.05, 3.0))
def test_every_sign_has_mean_zero_clips_or_not(seed: int, n: int, c: float) -> None:
    vectors = vectors_of(seed, n, 2)
    law = law_of(vectors, c * float(np.max(np.sum(vectors**2, axis=1))))
    assert sum(law.values()) == pytest.approx(1.0, abs=2**n * n * EPS)
    mean = sum(p * np.asarray(s, dtype=np.float64) for s, p in law.items())
    assert mean == pytest.approx(np.zeros(n), abs=2**n * n * EPS)


@settings(max_examples=30)
@given(seed=seeds, n=st.integers(1, 40), k=st.integers(1, 5), factor=st.floats(1.2, 30.0))
def test_the_proxy_is_the_ridge_form_and_its_minimum(seed: int, n: int, k: int, factor: float) -> None:
    rng = np.random.default_rng(seed)
    vectors, f = rng.standard_normal((n, k)), rng.standard_normal(n)
    a = factor * float(np.max(np.sum(vectors**2, axis=1)))
    ridge = a * (1.0 - 1.0 / factor)
    closed = a * float(f @ np.linalg.solve(vectors @ vectors.T + ridge * np.eye(n), f))
    tau = factor / (factor - 1.0)
    xi = np.linalg.solve(a * np.eye(k) + tau * vectors.T @ vectors, tau * vectors.T @ f)
    least = a * float(xi @ xi) + tau * float(np.sum((f - vectors @ xi) ** 2))
    found = WALK.proxy(vectors, f, factor=factor)
    tolerance = 1e4 * n * EPS * max(1.0, a / ridge)
    assert found == pytest.approx(closed, rel=tolerance)
    assert found == pytest.approx(least, rel=tolerance)
    assert found <= tau * float(f @ f) * (1.0 + tolerance)  # never worse than independent signs


def test_zero_vectors_get_independent_signs() -> None:
    signs = balanced_signs(np.zeros((2000, 2)), rng=0)
    assert signs.clips == 0
    assert signs.longest == 0.0
    assert abs(int(signs.values.sum())) < 6 * 2000**0.5
    assert WALK.proxy(np.zeros((3, 1)), np.ones(3), factor=2.0) == pytest.approx(6.0)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_vectors_of_any_scale_get_the_same_signs(scale: float) -> None:
    vectors = vectors_of(1, 100, 3)
    plain, scaled = balanced_signs(vectors, rng=0), balanced_signs(vectors * scale, rng=0)
    # Their squares leave the range of floats.
    assert scaled.longest == pytest.approx(plain.longest * scale, rel=100 * EPS)
    assert np.array_equal(plain.values, scaled.values)


def test_an_aggressive_walk_clips_and_says_so() -> None:
    vectors = vectors_of(2, 2000, 4)
    assert balanced_signs(vectors, Aggressive(0.05), rng=0).clips > 0
    provable = balanced_signs(vectors, Provable(0.01), rng=0)
    assert provable.clips == 0
    assert provable.certificate.holds
    assert provable.factor == WALK.factor(2000, 0.01)


def test_steps_shared_with_others_raise_the_threshold() -> None:
    assert Provable(0.1, steps=10**6).factor(5) == WALK.factor(10**6, 0.1)
    with pytest.raises(ValueError, match="raise its steps"):
        Provable(0.1, steps=10).factor(11)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda: balanced_signs(np.zeros(3), rng=0), ValueError, r"vectors has shape \(3,\)"),
        (lambda: balanced_signs([[np.nan]], rng=0), ValueError, "not finite"),
        (lambda: balanced_signs(np.eye(2), Provable, rng=0), TypeError, "pass Provable"),  # type: ignore[arg-type]
        (lambda: balanced_signs(np.eye(2), rng=None), TypeError, "not a source of randomness"),
        (lambda: InnerProducts(np.ones((2, 3))), ValueError, r"inner products of shape \(n, n\)"),
        (lambda: InnerProducts([[1.0, 2.0], [0.0, 1.0]]), ValueError, "not symmetric"),
        (lambda: InnerProducts([[-1.0]]), ValueError, "negative entry"),
        (lambda: Aggressive(0.0), ValueError, "c = 0 is not positive"),
        (lambda: Provable(1.0), ValueError, "delta = 1"),
        (lambda: Provable(0.1, steps=0), ValueError, "steps = 0 is too small"),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        call()
