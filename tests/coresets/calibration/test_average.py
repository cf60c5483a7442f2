"""D7: mean square errors over random queries against quadrature and simulation, and the best weights."""

from __future__ import annotations

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.integrate import dblquad
from scipy.optimize import lsq_linear

from coresets import AbsoluteSum, Accuracy, Coreset, LeastSquares, SensitivityReducer, WeightedSet
from coresets.calibration import EmpiricalQueries, RotationInvariant, average_case_error, average_case_weights
from coresets.guarantees import AverageCaseError
from coresets.homogeneous import Absolute, Identity, LeakyReLU, Link, ReLU

EPS = float(np.finfo(np.float64).eps)
seeds = st.integers(0, 2**32 - 1)
LINKS: list[Link] = [Absolute(), ReLU(), LeakyReLU(0.3), Identity()]


def value_of(link: Link, images: Any) -> Any:
    return np.where(images > 0.0, images, link.slope * images)


def case(n: int = 60, d: int = 3, seed: int = 0) -> tuple[WeightedSet, Coreset]:
    rng = np.random.default_rng(seed)
    data = WeightedSet(rng.standard_t(4, (n, d)), rng.uniform(0.5, 2.0, n))
    kept = np.flatnonzero(rng.random(n) < 0.4)
    weights = data.weights[kept] * rng.uniform(1.0, 4.0, len(kept))
    return data, Coreset(kept, weights, max(1, len(kept)), Accuracy(0.5, 0.1))


def excess(data: WeightedSet, coreset: Coreset) -> Any:
    off = -data.weights.copy()
    off[coreset.indices] += coreset.weights
    return off


@pytest.mark.parametrize("link", LINKS, ids=repr)
@pytest.mark.parametrize("angle", [0.0, 0.4, 1.5, 2.9, math.pi], ids=str)
def test_the_kernel_is_the_integral_over_a_gaussian_plane(link: Link, angle: float) -> None:
    p, q = np.array([2.0, 0.0]), 0.7 * np.array([math.cos(angle), math.sin(angle)])
    found = float(RotationInvariant(link, np.eye(2)).kernel(p[None], q[None])[0, 0])

    def term(a: float, radius: float) -> float:
        x = radius * np.array([math.cos(a), math.sin(a)])
        return float(value_of(link, p @ x) * value_of(link, q @ x)) * radius * math.exp(-0.5 * radius**2)

    quarter = 0.5 * math.pi
    kinks = np.mod([0.0, quarter, 3 * quarter, angle + quarter, angle - quarter], 4 * quarter)
    edges = [*np.unique(kinks), 4 * quarter]
    parts = (dblquad(term, 0.0, 12.0, low, high, epsabs=1e-10)[0] for low, high in pairwise(edges))
    assert found == pytest.approx(sum(parts) / (2.0 * math.pi), abs=1e-7)


@pytest.mark.parametrize("link", LINKS, ids=repr)
def test_the_form_agrees_with_simulation(link: Link) -> None:
    """Relative standard error of the mean of 400,000 squares below 0.4 %; a miss at six of them has
    probability 2e-9."""
    data, coreset = case()
    covariance = np.array([[2.0, 0.3, 0.0], [0.3, 1.0, -0.4], [0.0, -0.4, 0.5]])
    law = RotationInvariant.gaussian(link, covariance)
    found = average_case_error(data, coreset, law)
    rng = np.random.default_rng(0)
    squares = []
    for _ in range(8):
        x = np.linalg.cholesky(covariance) @ rng.standard_normal((3, 50_000))
        squares.append((excess(data, coreset) @ value_of(link, data.points @ x)) ** 2)
    sample = np.concatenate(squares)
    spread = float(sample.std() / math.sqrt(sample.size))
    assert spread < 0.004 * sample.mean()
    assert found.details["mean_square_error"] == pytest.approx(float(sample.mean()), abs=6.0 * spread)


@settings(max_examples=15)
@given(seed=seeds, link=st.sampled_from(LINKS))
def test_queries_that_span_all_signs_give_the_error_of_the_matrix(seed: int, link: Link) -> None:
    data, coreset = case(seed=seed)
    queries = np.random.default_rng(seed).standard_normal((40, 3))

    class Sum:
        def costs(self, data: WeightedSet, query: Any) -> Any:
            return value_of(link, data.points @ query)

    found = average_case_error(data, coreset, EmpiricalQueries(Sum(), queries))
    costs = value_of(link, data.points @ queries.T)
    errors, full = excess(data, coreset) @ costs, data.weights @ costs
    scale = float(np.mean((data.weights @ np.abs(costs)) ** 2))
    assert found.details["mean_square_error"] == pytest.approx(
        float(np.mean(errors**2)), abs=1e3 * EPS * scale
    )
    assert found.details["mean_square_cost"] == pytest.approx(float(np.mean(full**2)), abs=1e3 * EPS * scale)


def test_blocks_make_no_difference() -> None:
    data, coreset = case(1100, 2)
    law = RotationInvariant(Absolute(), np.eye(2))
    whole = law.kernel(data.points, data.points)
    off = excess(data, coreset)
    found = average_case_error(data, coreset, law).details
    assert found["mean_square_error"] == pytest.approx(
        off @ whole @ off, abs=1e3 * EPS * found["mean_square_cost"]
    )


@settings(max_examples=10)
@given(seed=seeds, scale=st.sampled_from([0.5, 4.0]))
def test_the_relative_error_does_not_change_with_scales(seed: int, scale: float) -> None:
    data, coreset = case(seed=seed)
    root = np.random.default_rng(seed).standard_normal((3, 3))
    before = average_case_error(data, coreset, RotationInvariant(ReLU(), root)).value
    longer = average_case_error(data, coreset, RotationInvariant(ReLU(), scale * root)).value
    assert longer == pytest.approx(before, rel=1e3 * EPS)
    turned = np.linalg.qr(np.random.default_rng(seed + 1).standard_normal((3, 3)))[0]
    assert average_case_error(data, coreset, RotationInvariant(ReLU(), root @ turned)).value == pytest.approx(
        before, rel=1e6 * EPS
    )


def test_whitened_queries_are_isotropic_where_the_data_are() -> None:
    data, _ = case(400, 3)
    s = AbsoluteSum().sensitivities(data).values
    for factors, law in (
        (data.weights, RotationInvariant.whitened(Absolute(), data)),
        (data.weights**2 / s, RotationInvariant.whitened(Absolute(), data, s)),
    ):
        rows = law.embedded(data)
        np.testing.assert_allclose((rows * factors[:, None]).T @ rows, np.eye(3), atol=1e3 * EPS)


def test_a_coreset_of_everything_errs_nowhere() -> None:
    data, _ = case()
    everything = Coreset(np.arange(60), data.weights, 60, Accuracy.exact())
    assert average_case_error(data, everything, RotationInvariant(ReLU(), np.eye(3))).value == 0.0


# ---- the best weights


@settings(max_examples=10)
@given(seed=seeds, link=st.sampled_from(LINKS[:3]))
def test_the_best_weights_are_those_of_a_bounded_least_squares_solver(seed: int, link: Link) -> None:
    data, coreset = case(40, 2, seed)
    queries = np.random.default_rng(seed).standard_normal((60, 2))

    class Sum:
        def costs(self, data: WeightedSet, query: Any) -> Any:
            return np.abs(value_of(link, data.points @ query))

    ridge = 1e-2
    found = average_case_weights(data, coreset, EmpiricalQueries(Sum(), queries), ridge=ridge)
    rows = np.abs(value_of(link, data.points @ queries.T)).T / math.sqrt(60)
    part = rows[:, coreset.indices] * coreset.weights
    penalty = math.sqrt(ridge * float(np.mean(np.sum(part**2, axis=0))))
    k = part.shape[1]
    reference = lsq_linear(
        np.vstack([part, penalty * np.eye(k)]),
        np.concatenate([rows @ data.weights, np.full(k, penalty)]),
        bounds=(0.0, np.inf),
        tol=1e-14,
        method="bvls",
    )
    weights = np.zeros(40)
    weights[found.indices] = found.weights
    # A strictly convex problem with a modulus of a hundredth of the mean diagonal entry.
    np.testing.assert_allclose(weights[coreset.indices], coreset.weights * reference.x, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("link", LINKS[:3], ids=repr)
def test_the_best_weights_err_no_more_than_the_drawn_and_say_by_how_much(link: Link) -> None:
    data = WeightedSet(np.random.default_rng(0).standard_normal((1500, 4)))
    drawn = SensitivityReducer(AbsoluteSum(), calibration=None).reduce(data, size=150, rng=0)
    law = RotationInvariant.whitened(link, data)
    best = average_case_weights(data, drawn, law)
    evidence = best.certificates[-1]
    assert evidence.holds
    assert evidence.details["violation"] <= 1e-6
    before, after = (average_case_error(data, c, law).value for c in (drawn, best))
    assert evidence.value == pytest.approx(after, rel=1e-6)
    assert evidence.details["before"] == pytest.approx(before, rel=1e-6)
    assert after < 0.5 * before
    assert best.support_size == drawn.support_size - evidence.details["dropped"]
    # What is known for all queries is no better, and nothing where a point was dropped.
    assert best.accuracy.epsilon >= evidence.details["eta"]


def test_a_large_ridge_keeps_the_drawn_weights() -> None:
    data, coreset = case()
    law = RotationInvariant(ReLU(), np.eye(3))
    kept = average_case_weights(data, coreset, law, ridge=1e9)
    np.testing.assert_allclose(kept.weights, coreset.weights, rtol=1e-6)


def test_duplicated_points_share_their_weight() -> None:
    points = np.repeat(np.random.default_rng(0).standard_normal((30, 2)), 2, axis=0)
    data = WeightedSet(points)
    coreset = Coreset(np.arange(0, 60), np.ones(60), 60, Accuracy.exact())
    best = average_case_weights(data, coreset, RotationInvariant(Absolute(), np.eye(2)))
    np.testing.assert_allclose(best.weights, 1.0, rtol=1e-6)


# ---- arguments


def test_shares_of_bad_queries_are_those_of_chebyshev() -> None:
    law = AverageCaseError()
    assert law.exceeded(0.1, 0.05) == 1.0
    assert law.exceeded(0.0, 0.05) == 0.0
    with pytest.raises(ValueError, match="pass rms >= 0 and error > 0"):
        law.exceeded(0.1, 0.0)


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        (lambda d, c: average_case_error(d, c, RotationInvariant), TypeError, "pass RotationInvariant"),
        (lambda d, c: average_case_weights(d, c, None), TypeError, "pass RotationInvariant"),
        (
            lambda d, c: average_case_error(d, d, RotationInvariant(ReLU(), np.eye(3))),
            TypeError,
            "pass a Coreset",
        ),
        (
            lambda d, c: average_case_error(d, c, RotationInvariant(ReLU(), np.eye(2))),
            ValueError,
            "root has 2 rows",
        ),
        (lambda d, c: RotationInvariant(ReLU, np.eye(2)), TypeError, "is no link"),
        (lambda d, c: RotationInvariant(ReLU(), np.ones(2)), ValueError, "pass a matrix"),
        (
            lambda d, c: RotationInvariant.gaussian(ReLU(), np.ones((2, 3))),
            ValueError,
            "pass a square matrix",
        ),
        (
            lambda d, c: RotationInvariant.gaussian(ReLU(), [[1.0, 2.0], [0.0, 1.0]]),
            ValueError,
            "not symmetric",
        ),
        (lambda d, c: RotationInvariant.gaussian(ReLU(), -np.eye(2)), ValueError, "eigenvalue -1"),
        (lambda d, c: EmpiricalQueries(LeastSquares, np.eye(3)), TypeError, "has no costs"),
        (lambda d, c: EmpiricalQueries(LeastSquares(), np.empty((0, 3))), ValueError, "at least one query"),
        (
            lambda d, c: average_case_weights(d, c, RotationInvariant(ReLU(), np.eye(3)), ridge=0.0),
            ValueError,
            "ridge = 0 is not positive",
        ),
    ],
)
def test_bad_arguments_are_named(call: Any, error: type[Exception], message: str) -> None:
    data, coreset = case()
    with pytest.raises(error, match=message):
        call(data, coreset)


def test_a_coreset_of_other_data_is_refused() -> None:
    data, coreset = case()
    smaller = WeightedSet(data.points[:5], data.weights[:5])
    with pytest.raises(IndexError, match="outside the 5 points"):
        average_case_error(smaller, coreset, RotationInvariant(ReLU(), np.eye(3)))
    free = Coreset(None, np.ones(2), 2, Accuracy(0.1, 0.1), points=np.eye(3)[:2])
    with pytest.raises(TypeError, match="free points"):
        average_case_error(data, free, RotationInvariant(ReLU(), np.eye(3)))
