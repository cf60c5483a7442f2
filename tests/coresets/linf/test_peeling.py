"""Peeling: exact sensitivities as oracle, the published rule, laws, degenerate data, refusals."""

from __future__ import annotations

import math
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from coresets.errors import AssumptionError
from coresets.guarantees.maxima import PeelingSensitivity
from coresets.linf import DesignSupport, InscribedVertices, LInfConstruction, LInfSelection, SymmetricSupport
from coresets.linf.peeling import (
    CertifiedPeeling,
    PeelingRule,
    PublishedPeeling,
    peeling_sensitivities,
)
from coresets.sensitivity import lewis_weights

EPS = float(np.finfo(np.float64).eps)
LP = 1e-7  # accuracy of the linear programmes

seeds = st.integers(0, 2**32 - 1)
CONSTRUCTIONS: list[LInfConstruction] = [SymmetricSupport(), DesignSupport(), InscribedVertices()]
RULES: list[PeelingRule] = [CertifiedPeeling(), CertifiedPeeling(max_rounds=2), PublishedPeeling()]


def exact_sensitivities(rows: np.ndarray) -> np.ndarray:
    """Largest a_i.x subject to sum |a_j.x| <= 1, one linear programme a row."""
    n, d = rows.shape
    constraints = np.block([[rows, -np.eye(n)], [-rows, -np.eye(n)], [np.zeros((1, d)), np.ones((1, n))]])
    limits = np.r_[np.zeros(2 * n), 1.0]
    bounds = [(None, None)] * d + [(0.0, None)] * n
    return np.array(
        [-linprog(np.r_[-row, np.zeros(n)], constraints, limits, bounds=bounds).fun for row in rows]
    )


def problem(seed: int, n: int = 40, d: int = 3) -> tuple[np.ndarray, np.ndarray]:
    rng = np.random.default_rng(seed)
    return rng.standard_t(2, (n, d)), 10.0 ** rng.uniform(-1, 1, n)


@pytest.mark.parametrize("rule", RULES, ids=repr)
@pytest.mark.parametrize("construction", CONSTRUCTIONS, ids=repr)
def test_exact_sensitivities_never_exceed_the_values(
    construction: LInfConstruction, rule: PeelingRule
) -> None:
    points, weights = problem(0)
    values = peeling_sensitivities(points, weights, construction=construction, gap=0.1, rule=rule).values
    assert np.all(exact_sensitivities(points * weights[:, None]) <= values * (1.0 + LP))


@settings(max_examples=15)
@given(seeds, st.integers(1, 25), st.integers(1, 4), st.sampled_from([0.01, 1.0, 10.0]))
def test_exact_sensitivities_never_exceed_the_values_on_random_data(
    seed: int, n: int, d: int, gap: float
) -> None:
    points, weights = problem(seed, n, d)
    if seed % 3 == 0:
        points[:, -1] = points[:, 0]
    weights[::4] = 0.0
    weights[0] = 1.0
    construction = CONSTRUCTIONS[seed % 3]
    values = peeling_sensitivities(points, weights, construction=construction, gap=gap).values
    assert np.all(exact_sensitivities(points * weights[:, None]) <= values * (1.0 + LP))
    assert np.all(values[weights == 0.0] == 0.0)


def test_sets_of_falling_rank_keep_the_values_valid() -> None:
    """After the rows off the plane are peeled the rest spans less; so it does again near the end."""
    rng = np.random.default_rng(1)
    plane = rng.standard_normal((25, 2)) @ np.eye(2, 3)
    line = np.outer(rng.uniform(0.01, 0.02, 6), [1.0, 1.0, 0.0])
    points = np.vstack([plane, line, [[0.1, 0.2, 1.0], [0.3, 0.1, -2.0]]])
    bound = peeling_sensitivities(points)
    assert np.all(exact_sensitivities(points) <= bound.values * (1.0 + LP))
    assert bound.certificates[0].details["rank"] == 3.0
    assert bound.certificates[0].details["left"] == 0.0


def test_totals_fall_from_the_published_to_the_certified_to_lewis_weights() -> None:
    points = np.random.default_rng(2).standard_t(3, (800, 4))
    published = peeling_sensitivities(
        points, construction=InscribedVertices(), gap=0.1, rule=PublishedPeeling()
    ).total
    set_by_set = PeelingSensitivity()
    certified = peeling_sensitivities(points)
    lewis = lewis_weights(points).total
    details = certified.certificates[0].details
    # What T2 gives with the largest factor of any round in every round.
    rounds = int(details["rounds"])
    sizes = np.full(rounds, 800 / rounds)
    plain = set_by_set.total(sizes, np.full(rounds, certified.certificates[0].value), 0)
    assert lewis < certified.total < plain < published
    assert certified.total < 4 * (1.0 + math.log(800))  # r (1 + ln n)
    assert details["total"] == certified.total


def test_the_published_rule_gives_its_constant_by_the_round_and_stops_at_twice_the_square_of_the_rank() -> (
    None
):
    points = np.random.default_rng(3).standard_t(3, (200, 2))
    bound = peeling_sensitivities(points, construction=InscribedVertices(), gap=0.01, rule=PublishedPeeling())
    details = bound.certificates[0].details
    rounds = int(details["rounds"])
    allowed = [min(1.0, 2.0 * 2**1.5 / i) for i in range(1, rounds + 2)]
    assert set(bound.values.tolist()) <= set(allowed)
    assert int(np.count_nonzero(bound.values == allowed[-1])) == details["left"] < 2 * 2**2
    assert np.all(exact_sensitivities(points[:1]) <= 1.0)


def test_a_published_bound_that_is_not_proved_is_an_assumption_error() -> None:
    """The smallest point of a geometric sequence bounds the others by huge factors only."""

    class Poor:
        def select(self, points: np.ndarray, gap: float) -> LInfSelection:
            order = np.argsort(np.abs(points[:, 0]))[:1]  # the smallest, in one dimension
            return LInfSelection(order, np.ones(1), math.inf)

    points = np.geomspace(1.0, 1e6, 30)[:, None]
    with pytest.raises(AssumptionError, match=r"the published bound .* is below"):
        peeling_sensitivities(points, construction=Poor(), rule=PublishedPeeling())
    values = peeling_sensitivities(points, construction=Poor()).values
    assert np.all(exact_sensitivities(points) <= values * (1.0 + LP))


@pytest.mark.parametrize("limit", [1, 3])
def test_a_limit_on_rounds_leaves_the_rest_with_the_next_bound(limit: int) -> None:
    points = np.random.default_rng(4).standard_t(3, (100, 3))
    bound = peeling_sensitivities(points, rule=CertifiedPeeling(max_rounds=limit))
    full = peeling_sensitivities(points)
    assert bound.certificates[0].details["rounds"] == limit
    assert bound.certificates[0].details["left"] > 0
    assert np.all(bound.values >= full.values)  # more rounds only add evidence


@settings(max_examples=10)
@given(seeds)
def test_values_do_not_change_under_invertible_maps_and_scaled_weights(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points, weights = problem(seed, 30, 2)
    plain = peeling_sensitivities(points, weights).total
    # A choice between points of nearly equal norm may fall the other way, so totals agree roughly.
    moved = peeling_sensitivities(points @ np.linalg.qr(rng.standard_normal((2, 2)))[0], weights * 7.0).total
    absorbed = peeling_sensitivities(points * weights[:, None]).total
    assert moved == pytest.approx(plain, rel=0.2)
    assert absorbed == pytest.approx(plain, rel=0.2)


def test_zero_rows_and_zero_weights_have_no_share() -> None:
    points = np.array([[1.0, 0.0], [0.0, 0.0], [0.0, 2.0], [3.0, 1.0]])
    values = peeling_sensitivities(points, [1.0, 1.0, 1.0, 0.0]).values
    np.testing.assert_array_equal(values, [1.0, 0.0, 1.0, 0.0])
    nothing = peeling_sensitivities(np.zeros((3, 2)))
    assert nothing.total == 0.0
    assert nothing.certificates[0].details["rounds"] == 0.0


@pytest.mark.parametrize("points", [np.eye(4), np.array([[2.0, 3.0]]), np.eye(2, 5)])
def test_independent_rows_all_have_share_one(points: np.ndarray) -> None:
    np.testing.assert_array_equal(peeling_sensitivities(points).values, 1.0)


def test_duplicates_share() -> None:
    """Copies of one point: round i takes one of them (or several), and shares fall."""
    bound = peeling_sensitivities(np.ones((10, 1)))
    assert np.all(bound.values >= 0.1 * (1.0 - 10 * EPS))
    assert bound.total < 10.0


def torch_array(values: np.ndarray) -> Any:
    return pytest.importorskip("torch").asarray(values)


@pytest.mark.parametrize("convert", [torch_array, array_api_strict.asarray], ids=["torch", "strict"])
def test_other_libraries_get_the_same_values_in_their_own_arrays(convert: Any) -> None:
    points, weights = problem(5, 60, 2)
    foreign = peeling_sensitivities(convert(points), convert(weights))
    assert type(foreign.values) is type(convert(points))
    np.testing.assert_array_equal(np.asarray(foreign.values), peeling_sensitivities(points, weights).values)


def test_float32_values_are_not_below_those_in_float64() -> None:
    points = np.random.default_rng(6).standard_normal((80, 2)).astype(np.float32)
    rounded = peeling_sensitivities(points).values
    assert rounded.dtype == np.float32
    assert np.all(rounded.astype(np.float64) >= peeling_sensitivities(points.astype(np.float64)).values)
    assert rounded.max() == 1.0


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"weights": [1.0, -1.0]}, ValueError, r"weights\[1\] = -1 is negative"),
        ({"weights": [1.0]}, ValueError, "weights has shape"),
        ({"gap": -1.0}, ValueError, "gap = -1 is not positive"),
        ({"construction": DesignSupport}, TypeError, "construction"),
        ({"rule": PublishedPeeling}, TypeError, "rule"),
        ({"rule": "published"}, TypeError, "rule"),
    ],
)
def test_bad_arguments_are_refused_with_their_value(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        peeling_sensitivities(np.eye(2), **arguments)


@pytest.mark.parametrize(("limit", "error"), [(0, ValueError), (1.5, TypeError)])
def test_a_limit_on_rounds_is_a_positive_integer(limit: Any, error: type[Exception]) -> None:
    with pytest.raises(error, match="max_rounds"):
        CertifiedPeeling(max_rounds=limit)


def test_batches_are_refused() -> None:
    with pytest.raises(ValueError, match=r"points has shape \(2, 3, 4\)"):
        peeling_sensitivities(np.zeros((2, 3, 4)))
