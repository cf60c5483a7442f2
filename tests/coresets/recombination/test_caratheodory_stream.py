"""The one-pass Caratheodory reduction: moments of everything pushed, wherever the blocks lie."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.errors import SolverError
from coresets.recombination import CaratheodoryStream, ConeSum, Mean, Preserve, SecondMoment, caratheodory
from coresets.recombination._frame import Lift
from coresets.recombination._moments import added, moments_of, pair, times

MEAN = Mean()
EPS = float(np.finfo(np.float64).eps)
ALL: list[Preserve] = [Mean(), ConeSum(), SecondMoment(), SecondMoment(mean=True)]


def exact_mean(points: np.ndarray, weights: np.ndarray) -> tuple[Fraction, list[Fraction]]:
    w = [Fraction(float(v)) for v in weights]
    mass = sum(w, Fraction(0))
    sums = [sum((a * Fraction(float(b)) for a, b in zip(w, x, strict=True)), Fraction(0)) for x in points.T]
    return mass, [s / mass for s in sums]


def pushed(blocks: list[np.ndarray], weights: list[Any] | None = None, preserve: Preserve = MEAN) -> Any:
    stream = CaratheodoryStream(preserve=preserve)
    for i, block in enumerate(blocks):
        stream.push(block, None if weights is None else weights[i])
    return stream


@settings(max_examples=40, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    lengths=st.lists(st.integers(1, 60), min_size=1, max_size=25),
    d=st.integers(1, 4),
    drift=st.sampled_from([0.0, 1.0, 1e6]),
)
def test_mass_and_mean_of_all_blocks_are_kept_in_exact_arithmetic(
    seed: int, lengths: list[int], d: int, drift: float
) -> None:
    rng = np.random.default_rng(seed)
    blocks = [rng.standard_normal((m, d)) + drift * rng.standard_normal(d) for m in lengths]
    weights = [rng.uniform(0.1, 1.0, m) for m in lengths]
    stream = pushed(blocks, weights)
    coreset = stream.result()
    points, masses = np.vstack(blocks), np.concatenate(weights)
    assert coreset.support_size <= d + 1
    np.testing.assert_array_equal(points[stream.indices], coreset.points)
    mass, mean = exact_mean(points, masses)
    new_mass, new_mean = exact_mean(coreset.points, coreset.weights)
    assert abs(float(new_mass / mass - 1)) <= 4 * EPS
    (evidence,) = coreset.certificates
    assert evidence.holds
    deviation = np.sqrt(
        np.average((points - np.average(points, axis=0, weights=masses)) ** 2, axis=0, weights=masses)
    )
    for a, b, s in zip(mean, new_mean, deviation, strict=True):
        assert abs(float(a - b)) <= (evidence.value + 2 * EPS) * s * (1.0 + 1e-6)


@pytest.mark.parametrize("preserve", ALL, ids=str)
def test_a_stream_keeps_what_a_reduction_in_memory_keeps(preserve: Preserve) -> None:
    rng = np.random.default_rng(0)
    points, weights = rng.standard_normal((3000, 3)) + 1.0, rng.uniform(0.5, 1.5, 3000)
    stream = pushed(np.array_split(points, 17), np.array_split(weights, 17), preserve)
    coreset, whole = stream.result(), caratheodory(points, weights, preserve=preserve)
    assert coreset.support_size <= preserve.most_points(3)
    reached = preserve.lift.features(coreset.points).T @ coreset.weights
    goal = preserve.lift.features(points[whole.indices]).T @ whole.weights
    # Features of size up to 20 in units of the mass, and whitening with a condition number of about 3.
    np.testing.assert_allclose(reached, goal, rtol=0.0, atol=1e4 * EPS * weights.sum())
    assert coreset.certificates[0].holds


def test_rounding_does_not_pile_up_over_many_blocks() -> None:
    rng = np.random.default_rng(1)
    blocks = [rng.standard_normal((16, 2)) for _ in range(400)]
    (evidence,) = pushed(blocks).result().certificates
    assert evidence.value - evidence.details["rounding"] <= 4 * EPS


@pytest.mark.parametrize("preserve", ALL, ids=str)
def test_one_point_at_a_time_is_the_same_stream(preserve: Preserve) -> None:
    points = np.random.default_rng(2).standard_normal((60, 2))
    coreset = pushed(np.split(points, 60), preserve=preserve).result()
    reached = preserve.lift.features(coreset.points).T @ coreset.weights
    np.testing.assert_allclose(
        reached, preserve.lift.features(points).sum(axis=0), rtol=0.0, atol=1e4 * EPS * 60
    )


def test_memory_does_not_grow_with_the_stream() -> None:
    stream = CaratheodoryStream()
    for seed in range(50):
        stream.push(np.random.default_rng(seed).standard_normal((200, 3)))
        assert stream._weights.size <= 5 * 4
    assert stream.count == 50 * 200


def test_more_may_be_pushed_after_a_result() -> None:
    points = np.random.default_rng(3).standard_normal((90, 2))
    stream = pushed([points[:50]])
    first = stream.result()
    assert first.total_weight == pytest.approx(50.0, rel=4 * EPS)
    np.testing.assert_array_equal(stream.result().weights, first.weights)
    stream.push(points[50:])
    with pytest.raises(ValueError, match="points were pushed since"):
        _ = stream.indices
    np.testing.assert_allclose(
        stream.result().weights @ stream.result().points, points.sum(axis=0), atol=90 * EPS * 4
    )


def test_blocks_without_mass_count_and_weigh_nothing() -> None:
    points = np.random.default_rng(4).standard_normal((30, 2))
    stream = pushed([points, 1e9 * points, points], [np.ones(30), np.zeros(30), np.ones(30)])
    assert stream.result().total_weight == pytest.approx(60.0, rel=4 * EPS)
    assert np.all((stream.indices < 30) | (stream.indices >= 60))


def test_equal_points_become_one() -> None:
    coreset = pushed([np.full((40, 3), 0.1)] * 5).result()
    assert coreset.support_size == 1
    np.testing.assert_array_equal(coreset.weights, [200.0])


def test_bad_input_is_refused_with_the_remedy() -> None:
    stream = CaratheodoryStream()
    with pytest.raises(ValueError, match="nothing with mass was pushed"):
        stream.result()
    with pytest.raises(ValueError, match="points were pushed since, or none at all"):
        _ = stream.indices
    stream.push(np.ones((3, 2)))
    with pytest.raises(ValueError, match=r"points has shape \(3, 4\); pass \(m, 2\)"):
        stream.push(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"weights has shape \(2,\); expected \(3,\)"):
        stream.push(np.ones((3, 2)), np.ones(2))
    with pytest.raises(ValueError, match=r"weights\[0\] = -1 is negative"):
        stream.push(np.ones((3, 2)), [-1.0, 0.0, 0.0])
    with pytest.raises(SolverError, match="left the range of float64"):
        stream.push(np.array([[1e300, 1.0], [-1e300, 1.0]]))
    assert stream.count == 3
    with pytest.raises(TypeError, match=r"preserve = None; pass Mean\(\)"):
        CaratheodoryStream(preserve=None)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="no point is left"):
        pushed([np.zeros((3, 2))], preserve=ConeSum()).result()


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1e50, 1e50).filter(lambda v: v == 0 or abs(v) > 1e-50), min_size=4, max_size=4))
def test_pairs_hold_twice_the_digits(values: list[float]) -> None:
    a, b = (added(pair(x), pair(y * 2.0**-53)) for x, y in (values[:2], values[2:]))
    exact = [Fraction(float(p[0])) + Fraction(float(p[1])) for p in (a, b)]
    total, product = added(a, b), times(a, b)
    scale = abs(exact[0]) + abs(exact[1])
    error = Fraction(float(total[0])) + Fraction(float(total[1])) - exact[0] - exact[1]
    assert abs(error) <= 4 * Fraction(EPS) ** 2 * scale
    error = Fraction(float(product[0])) + Fraction(float(product[1])) - exact[0] * exact[1]
    assert abs(error) <= 8 * Fraction(EPS) ** 2 * abs(exact[0] * exact[1])


@pytest.mark.parametrize("quadratic", [False, True])
def test_moving_moments_to_another_origin_loses_nothing(quadratic: bool) -> None:
    rng = np.random.default_rng(5)
    lift = Lift(quadratic=quadratic, linear=True, constant=True)
    block = moments_of(rng.standard_normal((50, 2)) + 1e6, rng.uniform(0.5, 1.5, 50), np.ones(2), lift)
    back = block.about(np.zeros(2)).about(block.origin)
    for name in ("mass", "first", "second"):
        before, after = getattr(block, name), getattr(back, name)
        # Squared offsets are 1e12 times the moments: twice the precision leaves plenty.
        np.testing.assert_allclose(
            after.sum(axis=0), before.sum(axis=0), rtol=1e-13, atol=1e-13, err_msg=name
        )
