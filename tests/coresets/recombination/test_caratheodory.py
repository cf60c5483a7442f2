"""Caratheodory reduction against exact rational arithmetic, its support, its laws and its refusals."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from coresets import Accuracy, LeastSquares, WeightedSet
from coresets.recombination import ConeSum, ExactLeastSquares, Mean, Preserve, SecondMoment, caratheodory
from coresets.weighted_set import to_host

EPS = float(np.finfo(np.float64).eps)
ALL: list[Preserve] = [Mean(), ConeSum(), SecondMoment(), SecondMoment(mean=True)]

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")

Matrix = list[list[Fraction]]


def exact(values: Any) -> list[Fraction]:
    return [Fraction(float(v)) for v in values]


def exact_moment(points: np.ndarray, weights: np.ndarray) -> tuple[Fraction, list[Fraction], list[Fraction]]:
    """Mass, mean and variances, without any rounding."""
    w = exact(weights)
    mass = sum(w, Fraction(0))
    mean, variance = [], []
    for column in points.T:
        x = exact(column)
        m = sum((a * b for a, b in zip(w, x, strict=True)), Fraction(0)) / mass
        mean.append(m)
        variance.append(sum((a * (b - m) ** 2 for a, b in zip(w, x, strict=True)), Fraction(0)) / mass)
    return mass, mean, variance


def error_of_mean(points: np.ndarray, weights: np.ndarray, indices: Any, kept: Any) -> float:
    """Largest error of mass (relative) and mean (in standard deviations), in exact arithmetic."""
    mass, mean, variance = exact_moment(points, weights)
    new_mass, new_mean, _ = exact_moment(points[indices], kept)
    worst = abs(float(new_mass / mass - 1))
    for a, b, v in zip(mean, new_mean, variance, strict=True):
        error = abs(float(a - b))
        if v > 0:
            worst = max(worst, error / float(v) ** 0.5)
        elif a != 0:  # a constant column: its size is the only unit there is
            worst = max(worst, error / abs(float(a)))
    return worst


def null_vector(rows: Matrix) -> list[Fraction] | None:
    """A combination of the rows that vanishes, not all 0; None if they are independent."""
    reduced: list[tuple[int, list[Fraction], list[Fraction]]] = []
    for i, row in enumerate(rows):
        vector = list(row)
        combination = [Fraction(int(i == j)) for j in range(len(rows))]
        for pivot, base, how in reduced:
            factor = vector[pivot] / base[pivot]
            if factor:
                vector = [a - factor * b for a, b in zip(vector, base, strict=True)]
                combination = [a - factor * b for a, b in zip(combination, how, strict=True)]
        pivot = next((j for j, v in enumerate(vector) if v), -1)
        if pivot < 0:
            return combination
        reduced.append((pivot, vector, combination))
    return None


def exact_caratheodory(rows: Matrix, weights: list[Fraction]) -> dict[int, Fraction]:
    """The textbook proof in rational arithmetic: move along null vectors until none is left."""
    alive = {i: w for i, w in enumerate(weights) if w > 0}
    while True:
        names = list(alive)
        null = null_vector([rows[i] for i in names])
        if null is None:
            return alive
        if not any(v > 0 for v in null):
            null = [-v for v in null]
        step = min(alive[i] / v for i, v in zip(names, null, strict=True) if v > 0)
        alive = {i: alive[i] - step * v for i, v in zip(names, null, strict=True)}
        alive = {i: w for i, w in alive.items() if w > 0}


def lifted(points: np.ndarray, preserve: Preserve) -> Matrix:
    rows = []
    for point in points:
        x = exact(point)
        row: list[Fraction] = []
        if preserve.lift.quadratic:
            row += [a * b for i, a in enumerate(x) for b in x[i:]]
        if preserve.lift.linear:
            row += x
        if preserve.lift.constant:
            row.append(Fraction(1))
        rows.append(row)
    return rows


@st.composite
def clouds(draw: st.DrawFn, largest: int = 400) -> tuple[np.ndarray, np.ndarray]:
    """Points and weights: any size and rank, offsets, scales over ten orders, duplicates, masses of 0."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    n, d = draw(st.integers(1, largest)), draw(st.integers(1, 6))
    rank = draw(st.integers(1, d))
    points = rng.integers(-8, 9, (n, rank)) @ rng.integers(-3, 4, (rank, d)) * 1.0
    if draw(st.booleans()):
        points += rng.standard_normal((n, d))
    if draw(st.booleans()):
        points *= 10.0 ** rng.uniform(-10, 0, d)
    if draw(st.booleans()):
        points += 1e6 * rng.standard_normal(d)
    if draw(st.booleans()):
        points = points[rng.integers(0, n, n)]
    weights = 10.0 ** rng.uniform(-draw(st.sampled_from([0, 2, 12])), 0, n)
    if draw(st.booleans()):
        weights[rng.random(n) < 0.4] = 0.0
        weights[rng.integers(n)] = 1.0
    return points, weights


@settings(max_examples=100, deadline=None)
@given(clouds())
def test_mass_and_mean_are_kept_in_exact_arithmetic(cloud: tuple[np.ndarray, np.ndarray]) -> None:
    points, weights = cloud
    coreset = caratheodory(points, weights)
    (evidence,) = coreset.certificates
    assert evidence.holds
    # A weight rounds by eps / 2, which moves the mean by that times the distance of its point, and
    # kept points may lie farther out than a standard deviation: the certificate knows how far.
    assert error_of_mean(points, weights, coreset.indices, coreset.weights) <= evidence.value + 2 * EPS


@settings(max_examples=60, deadline=None)
@given(clouds(largest=60), st.sampled_from(ALL))
def test_support_is_a_subset_with_mass_no_larger_than_ambient_dimension(
    cloud: tuple[np.ndarray, np.ndarray], preserve: Preserve
) -> None:
    points, weights = cloud
    coreset = caratheodory(points, weights, preserve=preserve)
    assert coreset.support_size <= preserve.most_points(points.shape[1])
    assert np.all(np.diff(coreset.indices) > 0)
    assert np.all(weights[coreset.indices] > 0.0)
    assert np.all(coreset.weights > 0.0)
    assert coreset.accuracy == Accuracy.exact()


@settings(max_examples=30, deadline=None)
@given(st.integers(1, 2000), st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_support_is_at_most_rank_plus_one(n: int, seed: int, d: int, rank: int) -> None:
    rng = np.random.default_rng(seed)
    rank = min(rank, d)
    # Small integers, so that the rank is that of the mathematics and not of rounding.
    points = 1.0 * rng.integers(-9, 10, (n, rank)) @ rng.integers(-3, 4, (rank, d))
    weights = rng.uniform(0.5, 1.5, n)
    affine = int(np.linalg.matrix_rank(points - points[0]))
    linear = int(np.linalg.matrix_rank(points))
    assert caratheodory(points, weights).support_size <= Mean().most_points(affine)
    assert caratheodory(points, weights, preserve=ConeSum()).support_size <= ConeSum().most_points(linear)
    for preserve, r in ((SecondMoment(), linear), (SecondMoment(mean=True), affine)):
        assert caratheodory(points, weights, preserve=preserve).support_size <= preserve.most_points(r)


@pytest.mark.parametrize("preserve", ALL, ids=str)
@pytest.mark.parametrize("n", [1, 3, 7, 20, 60])
def test_moments_and_support_agree_with_the_rational_reference(preserve: Preserve, n: int) -> None:
    rng = np.random.default_rng(n)
    points, weights = rng.integers(-20, 21, (n, 2)) / 4.0, rng.integers(1, 9, n) / 8.0
    rows, masses = lifted(points, preserve), exact(weights)
    reference = exact_caratheodory(rows, masses)
    coreset = caratheodory(points, weights, preserve=preserve)
    assert coreset.support_size <= len(rows[0])
    assert len(reference) <= len(rows[0])
    for j in range(len(rows[0])):
        goal = sum((w * row[j] for w, row in zip(masses, rows, strict=True)), Fraction(0))
        assert goal == sum((w * rows[i][j] for i, w in reference.items()), Fraction(0))
        ours = zip(coreset.indices, exact(coreset.weights), strict=True)
        reached = sum((w * rows[i][j] for i, w in ours), Fraction(0))
        size = sum((w * abs(row[j]) for w, row in zip(masses, rows, strict=True)), Fraction(0))
        # One rounding a weight, and a condition number of the final points of less than a hundred.
        assert abs(float(reached - goal)) <= 100 * EPS * float(size)


@pytest.mark.parametrize("offset", [0.0, 1e6])
@pytest.mark.parametrize("deviation", [1.0, 1e-3])
def test_offsets_cost_no_digits(offset: float, deviation: float) -> None:
    rng = np.random.default_rng(3)
    points = deviation * rng.standard_normal((3000, 4)) + offset
    weights = rng.uniform(0.5, 1.5, 3000)
    coreset = caratheodory(points, weights)
    assert coreset.support_size == 5
    assert error_of_mean(points, weights, coreset.indices, coreset.weights) <= 1e-14


@pytest.mark.parametrize("d", [1, 7, 40])
@pytest.mark.parametrize("n", [50, 5000, 100_000])
def test_generic_points_leave_exactly_the_dimension(n: int, d: int) -> None:
    points = np.random.default_rng(n + d).standard_normal((n, d))
    assert caratheodory(points).support_size == d + 1
    assert caratheodory(points, preserve=ConeSum()).support_size == d


DEGENERATE = {
    "one point": np.array([[3.0, -1.0]]),
    "two points": np.array([[0.1, 0.2], [0.3, 0.4]]),
    "all equal": np.full((500, 3), 0.1),
    "zeros": np.zeros((10, 2)),
    "a constant column": np.column_stack([np.arange(300.0), np.full(300, 0.1)]),
    "collinear": np.outer(np.arange(200.0), [1.0, 2.0, 3.0]),
    "duplicated": np.repeat(np.eye(4), 50, axis=0),
    "an outlier": np.vstack([np.random.default_rng(0).standard_normal((300, 2)), [[1e12, -1e12]]]),
    "near overflow": np.random.default_rng(1).standard_normal((300, 2)) * 1e307,
    "near underflow": np.random.default_rng(2).standard_normal((300, 2)) * 1e-300,
    "a late giant": np.vstack([np.random.default_rng(3).standard_normal((5000, 2)), [[1e200, 1.0]]]),
}


@pytest.mark.parametrize("points", DEGENERATE.values(), ids=DEGENERATE.keys())
@pytest.mark.parametrize("preserve", ALL, ids=str)
def test_degenerate_points_are_certified(points: np.ndarray, preserve: Preserve) -> None:
    coreset = caratheodory(points, preserve=preserve)
    (evidence,) = coreset.certificates
    assert evidence.holds
    if preserve == Mean() and 1e-100 < np.abs(points).max() < 1e100:
        weights = np.ones(len(points))
        assert error_of_mean(points, weights, coreset.indices, coreset.weights) <= evidence.value + 2 * EPS


def test_equal_points_become_one_with_all_the_mass() -> None:
    coreset = caratheodory(np.full((77, 2), 0.3), np.full(77, 0.25))
    assert coreset.support_size == 1
    np.testing.assert_array_equal(coreset.weights, [77 * 0.25])


def test_the_sum_of_zeros_is_kept_by_no_point() -> None:
    assert caratheodory(np.zeros((5, 2)), preserve=ConeSum()).support_size == 0


def test_a_point_with_nearly_all_the_mass_is_no_obstacle() -> None:
    rng = np.random.default_rng(4)
    points, weights = rng.standard_normal((2000, 3)), np.ones(2000)
    weights[700] = 1e12
    coreset = caratheodory(points, weights)
    assert 700 in coreset.indices
    # In units of a standard deviation that this point makes about 2e-5.
    assert error_of_mean(points, weights, coreset.indices, coreset.weights) <= 1e-13


def test_kept_points_spread_no_more_than_the_data() -> None:
    rng = np.random.default_rng(19)
    for points in (rng.standard_normal((5000, 6)), rng.standard_t(2, (5000, 6)) + 3.0):
        coreset = caratheodory(points)
        scaled = (points - points.mean(axis=0)) / points.std(axis=0)
        spread = coreset.weights @ np.sum(scaled[coreset.indices] ** 2, axis=1)
        assert spread <= np.sum(scaled**2) * (1.0 + 1e-6)  # the elimination's own tolerance is 1e-9 a step


@pytest.mark.parametrize("mean", [False, True])
def test_second_moments_are_kept_in_whitened_units(mean: bool) -> None:
    rng = np.random.default_rng(5)
    points = rng.standard_normal((4000, 5)) @ rng.standard_normal((5, 5)) + 1.0
    weights = rng.uniform(0.0, 2.0, 4000)
    coreset = caratheodory(points, weights, preserve=SecondMoment(mean=mean))
    rows = np.column_stack([points, np.ones(4000)]) if mean else points
    factor = np.linalg.qr(rows * np.sqrt(weights)[:, None], mode="r")
    kept = np.linalg.solve(factor.T, rows[coreset.indices].T).T
    gram = (kept * coreset.weights[:, None]).T @ kept
    # Both QR and the triangular solve are backward stable: errors of n eps at a condition of about 30.
    np.testing.assert_allclose(gram, np.eye(len(gram)), rtol=0.0, atol=30 * 4000 * EPS)
    assert abs(coreset.total_weight / weights.sum() - 1.0) <= 64 * EPS


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize("penalty", [0.0, 10.0])
def test_least_squares_and_ridge_have_the_same_solution(intercept: bool, penalty: float) -> None:
    rng = np.random.default_rng(6)
    points = rng.standard_normal((3000, 4)) + 2.0
    labels = points @ [1.0, -2.0, 0.5, 3.0] + 4.0 + rng.standard_normal(3000)
    data = WeightedSet(points, rng.uniform(0.1, 2.0, 3000), labels)
    coreset = ExactLeastSquares(intercept=intercept).reduce(data, accuracy=Accuracy(0.1, 0.1), rng=0)
    assert coreset.support_size == (21 if intercept else 16)

    def solution(part: WeightedSet) -> np.ndarray:
        rows = np.column_stack([part.points, np.ones(part.n)]) if intercept else part.points
        gram = (rows * part.weights[:, None]).T @ rows + penalty * np.eye(rows.shape[1])
        return np.linalg.solve(gram, rows.T @ (part.weights * part.labels))

    # Normal equations: eps times a condition number of about 100, times n for plain sums.
    np.testing.assert_allclose(solution(coreset.of(data)), solution(data), rtol=3000 * 100 * EPS)
    (achieved,) = LeastSquares(intercept=intercept).certify(data, coreset)
    assert achieved.value <= 1e-11


def test_exact_least_squares_refuses_a_size_that_exactness_exceeds() -> None:
    data = WeightedSet(np.random.default_rng(7).standard_normal((100, 3)))
    assert ExactLeastSquares().reduce(data, size=7).support_size == 7
    with pytest.raises(ValueError, match=r"size = 6 is too small: exactness takes 7 rows"):
        ExactLeastSquares().reduce(data, size=6)


@pytest.mark.parametrize("preserve", ALL, ids=str)
def test_permutation_duplication_and_splitting_change_no_moment(preserve: Preserve) -> None:
    rng = np.random.default_rng(8)
    points, weights = rng.standard_normal((900, 3)), rng.uniform(0.5, 1.5, 900)
    order, share = rng.permutation(900), rng.uniform(0.0, 1.0, 900)
    variants = {
        "permuted": (points[order], weights[order]),
        "duplicated": (np.repeat(points, 2, axis=0), np.repeat(weights / 2.0, 2)),
        "split": (np.vstack([points, points]), np.concatenate([weights * share, weights * (1.0 - share)])),
        "with points of no mass": (np.vstack([points, 1e9 * points]), np.append(weights, np.zeros(900))),
    }
    goal = preserve.lift.features(points).T @ weights
    for name, (p, w) in variants.items():
        coreset = caratheodory(p, w, preserve=preserve)
        reached = preserve.lift.features(p[coreset.indices]).T @ coreset.weights
        # Plain sums of 1800 terms of size about 1.
        np.testing.assert_allclose(reached, goal, rtol=0.0, atol=1800 * weights.sum() * EPS, err_msg=name)


@pytest.mark.parametrize("preserve", [Mean(), SecondMoment(mean=True)], ids=str)
def test_weights_serve_any_affine_image_of_the_points(preserve: Preserve) -> None:
    rng = np.random.default_rng(9)
    points, weights = rng.standard_normal((500, 3)), rng.uniform(0.5, 1.5, 500)
    image = points @ rng.standard_normal((3, 3)) + rng.standard_normal(3)
    for first, second in ((points, image), (image, points)):
        coreset = caratheodory(first, weights, preserve=preserve)
        goal = preserve.lift.features(second).T @ weights
        reached = preserve.lift.features(second[coreset.indices]).T @ coreset.weights
        np.testing.assert_allclose(reached, goal, rtol=0.0, atol=100 * 500 * weights.sum() * EPS)


def test_scaling_by_a_power_of_two_changes_nothing() -> None:
    points = np.random.default_rng(10).standard_normal((700, 3))
    plain, scaled = caratheodory(points), caratheodory(points * [2.0**-40, 1.0, 2.0**30])
    np.testing.assert_array_equal(plain.indices, scaled.indices)
    np.testing.assert_array_equal(plain.weights, scaled.weights)


def test_a_result_is_its_own_reduction() -> None:
    points = np.random.default_rng(11).standard_normal((300, 4))
    first = caratheodory(points)
    again = caratheodory(points[first.indices], first.weights)
    np.testing.assert_array_equal(again.indices, np.arange(5))
    np.testing.assert_allclose(again.weights, first.weights, rtol=1e-12)


def test_the_linear_program_of_the_kept_points_is_feasible() -> None:
    rng = np.random.default_rng(12)
    points = rng.standard_normal((200, 3))
    coreset = caratheodory(points)
    lifted_points = np.column_stack([points[coreset.indices], np.ones(4)])
    goal = np.append(points.sum(axis=0), 200.0)
    answer = linprog(np.zeros(4), A_eq=lifted_points.T, b_eq=goal, bounds=(0, None))
    assert answer.status == 0
    # Four independent points: the weights are unique.
    np.testing.assert_allclose(coreset.weights, answer.x, rtol=1e-8)


@pytest.mark.parametrize("order", ["C", "F"])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_layout_and_precision_of_the_input_do_not_matter(order: Any, dtype: Any) -> None:
    points = np.random.default_rng(13).standard_normal((2000, 3)).astype(dtype)
    weights = np.random.default_rng(14).uniform(0.5, 1.5, 2000).astype(dtype)
    coreset = caratheodory(np.asarray(points, order=order), weights)
    assert coreset.weights.dtype == np.float64
    expected = caratheodory(points.astype(np.float64), weights.astype(np.float64))
    np.testing.assert_array_equal(coreset.indices, expected.indices)
    np.testing.assert_allclose(coreset.weights, expected.weights, rtol=1e-10)
    skipped = np.zeros((4000, 3), dtype)
    skipped[::2] = points
    np.testing.assert_array_equal(caratheodory(skipped[::2], weights).indices, expected.indices)


@needs_torch
def test_tensors_come_back_as_tensors() -> None:
    import torch  # noqa: PLC0415 - optional

    points = np.random.default_rng(15).standard_normal((400, 3)).astype(np.float32)
    coreset = caratheodory(torch.tensor(points, requires_grad=True), torch.ones(400))
    assert isinstance(coreset.weights, torch.Tensor)
    assert coreset.weights.dtype == torch.float64
    np.testing.assert_array_equal(to_host(coreset.indices), caratheodory(points).indices)


def test_bad_input_is_refused_with_the_remedy() -> None:
    points = np.ones((3, 2))
    with pytest.raises(ValueError, match=r"points\[1, 0\] = nan is not finite"):
        caratheodory(np.array([[1.0, 2.0], [np.nan, 0.0]]))
    with pytest.raises(ValueError, match=r"weights\[2\] = -1 is negative"):
        caratheodory(points, [1.0, 1.0, -1.0])
    with pytest.raises(ValueError, match="weights are all zero"):
        caratheodory(points, np.zeros(3))
    with pytest.raises(ValueError, match=r"points has shape \(1, 3, 2\); pass \(n, d\)"):
        caratheodory(points[None])
    with pytest.raises(TypeError, match=r"preserve is the class Mean; pass an instance, Mean\(\)"):
        caratheodory(points, preserve=Mean)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"preserve = 'mean'; pass Mean\(\), ConeSum\(\) or SecondMoment\(\)"):
        caratheodory(points, preserve="mean")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="mean = 1; pass True or False"):
        SecondMoment(mean=1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="intercept = 'yes'"):
        ExactLeastSquares(intercept="yes")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data is a ndarray; wrap the points in a WeightedSet"):
        ExactLeastSquares().reduce(points)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"accuracy = 0.1; pass Accuracy\(epsilon, delta\)"):
        ExactLeastSquares().reduce(WeightedSet(points), accuracy=0.1)  # type: ignore[arg-type]


def test_inputs_are_left_as_they_were() -> None:
    points, weights = np.random.default_rng(16).standard_normal((300, 2)), np.ones(300)
    copies = points.copy(), weights.copy()
    points.flags.writeable = weights.flags.writeable = False
    for preserve in ALL:
        caratheodory(points, weights, preserve=preserve)
    np.testing.assert_array_equal(points, copies[0])
    np.testing.assert_array_equal(weights, copies[1])
