"""L-infinity coresets: exact factors by linear programmes, sizes, laws, degenerate data, refusals."""

from __future__ import annotations

import math
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from coresets.ellipsoid import AddOnly
from coresets.errors import SolverError
from coresets.linf import (
    DesignSupport,
    InscribedVertices,
    LInfConstruction,
    LInfSelection,
    SymmetricSupport,
    linf_coreset,
)
from coresets.linf._factors import affine_moments, linear_moments, one_sided_factor, two_sided_factor
from coresets.linf._vertices import sparse_combinations

EPS = float(np.finfo(np.float64).eps)
# The programmes are solved to 1e-7 in constraints of right-hand side 1, so optima are known to this.
LP = 1e-6

CONSTRUCTIONS: list[LInfConstruction] = [
    SymmetricSupport(),
    SymmetricSupport(reduce=False),
    DesignSupport(),
    InscribedVertices(),
]
by_construction = pytest.mark.parametrize("construction", CONSTRUCTIONS, ids=repr)
seeds = st.integers(0, 2**32 - 1)


def name_of(value: object) -> str:
    return type(value).__name__


def exact_factor(points: np.ndarray, kept: np.ndarray, *, one_sided: bool = False) -> float:
    """Largest p.x over all p and all x with |q.x| <= 1, or q.x <= 1, for the kept q."""
    constraints = kept if one_sided else np.vstack([kept, -kept])
    worst = 0.0
    for point in points:
        solved = linprog(-point, constraints, np.ones(len(constraints)), bounds=(None, None), method="highs")
        if solved.status in (2, 3, 4):  # x = 0 is feasible, so it is unbounded
            return math.inf
        worst = max(worst, -solved.fun)
    return worst


def cloud(seed: int, n: int = 40, d: int = 3, shift: float = 0.0) -> np.ndarray:
    return np.random.default_rng(seed).standard_t(3, (n, d)) + shift


def deficient(seed: int) -> np.ndarray:
    return cloud(seed, d=2) @ np.random.default_rng(seed + 1).standard_normal((2, 4))


CASES = {
    "heavy tails": cloud(0),
    "far from the origin": cloud(1, shift=50.0),
    "rank deficient": deficient(2),
    "affine hull misses the origin": np.column_stack([cloud(3, d=2), np.ones(40)]),
    "fewer points than columns": cloud(4, n=3, d=5),
    "line": np.arange(-3.0, 8.0)[:, None],
    "duplicates": np.repeat(cloud(5, n=6), 4, axis=0),
    "one point": np.array([[3.0, -4.0]]),
    "one location": np.full((5, 2), 2.0),
    "zero rows and columns": np.pad(cloud(6, n=10, d=2), ((0, 3), (0, 2))),
    "circle": np.stack([np.cos(np.arange(60.0)), np.sin(np.arange(60.0))], axis=1),
}
by_case = pytest.mark.parametrize("points", CASES.values(), ids=CASES.keys())


# --- factors --------------------------------------------------------------------------------------


@by_construction
@by_case
def test_exact_factors_never_exceed_the_certified_one(
    construction: LInfConstruction, points: np.ndarray
) -> None:
    kept = linf_coreset(points, construction=construction, gap=0.05)
    assert exact_factor(points, points[kept.indices]) <= kept.factor * (1.0 + LP)
    assert kept.certificate.holds
    assert kept.certificate.value == kept.factor


@settings(max_examples=25)
@given(seeds, st.integers(1, 4), st.integers(1, 30), st.sampled_from([1e-3, 0.3, 1.0, 5.0]))
def test_exact_factors_never_exceed_the_certified_one_on_random_data(
    seed: int, d: int, n: int, gap: float
) -> None:
    points = cloud(seed, n, d, shift=seed % 3)
    construction = CONSTRUCTIONS[seed % len(CONSTRUCTIONS)]
    kept = linf_coreset(points, construction=construction, gap=gap)
    assert exact_factor(points, points[kept.indices]) <= kept.factor * (1.0 + LP)
    assert kept.certificate.holds


def test_the_symmetric_factor_is_between_the_roots_of_the_rank_and_of_its_promise() -> None:
    """The mean of the squared norms over the design is the rank, so the largest is no less."""
    for gap in (1e-4, 0.1, 1.0):
        kept = linf_coreset(cloud(7, 300, 5), gap=gap)
        assert math.sqrt(5.0) * (1.0 - 100 * EPS) <= kept.factor <= math.sqrt(5.0 * (1.0 + gap))


@by_case
def test_exact_one_sided_factors_never_exceed_the_certified_one(points: np.ndarray) -> None:
    for construction in CONSTRUCTIONS:
        kept = linf_coreset(points, construction=construction)
        if kept.one_sided_factor is not None:
            exact = exact_factor(points, points[kept.indices], one_sided=True)
            assert exact <= kept.one_sided_factor * (1.0 + LP)


def test_points_around_the_origin_have_a_one_sided_factor_and_distant_ones_have_none() -> None:
    around = cloud(8, 200, 2)
    symmetric = np.vstack([around, -around])
    kept = linf_coreset(symmetric, construction=DesignSupport(), gap=1e-6)
    assert kept.one_sided_factor is not None
    # The centre is the origin, where the factor is rho2, the rank up to the gap and its shift.
    assert kept.one_sided_factor == pytest.approx(2.0, rel=0.1)
    for distant in (around + 100.0, np.column_stack([around, np.ones(200)])):
        assert linf_coreset(distant, construction=DesignSupport()).one_sided_factor is None


def test_distant_points_may_have_no_one_sided_factor_at_all() -> None:
    """None is not caution: x may take the kept points below zero while another stays above."""
    points = np.array([[1.0, 0.0], [0.0, 1.0], [0.6, 0.6]])
    assert math.isinf(exact_factor(points, points[1:], one_sided=True))
    assert one_sided_factor(points, points[1:], np.full(2, 0.5)) is None


# --- sizes ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("d", [2, 3])
def test_reduced_supports_are_at_most_those_of_caratheodory(d: int) -> None:
    """Points of a sphere are all active, so designs are not sparse by themselves."""
    sphere = np.random.default_rng(0).standard_normal((300, d))
    sphere /= np.linalg.norm(sphere, axis=1)[:, None]
    assert linf_coreset(sphere, gap=1e-3).size <= d * (d + 1) // 2 + 1
    assert linf_coreset(sphere, construction=DesignSupport(), gap=1e-3).size <= d * (d + 3) // 2 + 1
    assert linf_coreset(sphere, construction=InscribedVertices(), gap=1e-3).size <= 2 * d * (d + 1)


def test_the_add_only_design_at_gap_one_keeps_fewer_points() -> None:
    points = np.random.default_rng(1).standard_normal((500, 8))
    tight, loose = (
        linf_coreset(points),
        linf_coreset(points, construction=SymmetricSupport(AddOnly()), gap=1.0),
    )
    assert 8 <= loose.size < tight.size
    assert tight.factor < loose.factor <= math.sqrt(2.0 * 8)


@given(seeds)
@settings(max_examples=20)
def test_sparse_combinations_represent_their_targets_with_few_points(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = rng.standard_normal((30, 3))
    targets = rng.dirichlet(np.ones(30), 4) @ points * 0.9 + 0.1 * points.mean(axis=0)
    combinations = sparse_combinations(points, targets)
    assert np.all(combinations >= 0.0)
    assert np.all((combinations > 0.0).sum(axis=1) <= 4)
    np.testing.assert_allclose(combinations.sum(axis=1), 1.0, rtol=0, atol=4 * EPS)
    np.testing.assert_allclose(combinations @ points, targets, rtol=0, atol=1e-6)


def test_a_target_outside_the_hull_is_a_solver_error() -> None:
    with pytest.raises(SolverError, match="vertex 0 of the inscribed ellipsoid was not found"):
        sparse_combinations(np.eye(2), np.array([[5.0, 5.0]]))


# --- the certificate by itself --------------------------------------------------------------------


@settings(max_examples=25)
@given(seeds, st.integers(1, 4), st.integers(1, 12))
def test_any_design_on_spanning_points_proves_factors(seed: int, d: int, k: int) -> None:
    rng = np.random.default_rng(seed)
    kept = rng.standard_normal((k, d))
    points = np.vstack([kept, rng.standard_normal((15, k)) @ kept])
    design = rng.dirichlet(np.ones(k))
    proved = two_sided_factor(points, kept, design)
    assert proved.rank == min(k, d)
    assert proved.factor >= 1.0
    assert 0.0 < proved.heaviest <= 1.0 + 10 * EPS
    x = rng.standard_normal((d, 200))
    all_costs, kept_costs = np.abs(points @ x), np.abs(kept @ x)
    assert np.all(all_costs.max(axis=0) <= proved.factor * kept_costs.max(axis=0) * (1.0 + 1e-9))
    tails = proved.norms * proved.heaviest
    assert np.all(all_costs <= np.outer(tails, kept_costs.sum(axis=0)) * (1.0 + 1e-9) + 1e-12)


@settings(max_examples=25)
@given(seeds)
def test_factors_do_not_change_under_invertible_maps_and_reflections(seed: int) -> None:
    rng = np.random.default_rng(seed)
    points = cloud(seed, 30, 3)
    design = rng.dirichlet(np.ones(8))
    signs, turn = rng.choice([-1.0, 1.0], (30, 1)), rng.standard_normal((3, 3))
    scales = 10.0 ** rng.integers(-5, 6, 3)
    plain = two_sided_factor(points, points[:8], design)
    # Relative error of squared norms in coordinates whose condition number is that of the map.
    tolerance = 1e3 * EPS * np.linalg.cond(turn) * np.linalg.cond(points[:8] * np.sqrt(design)[:, None])
    for moved in (points * signs, points @ turn, points * scales):
        proved = two_sided_factor(moved, moved[:8], design)
        np.testing.assert_allclose(proved.norms, plain.norms, rtol=tolerance)
        assert proved.heaviest == pytest.approx(plain.heaviest, rel=tolerance)


def test_moments_are_recomputed_whitened() -> None:
    kept, design = cloud(0, 20, 3, shift=7.0), np.full(20, 0.05)
    linear, affine = linear_moments(kept, design), affine_moments(kept, design)
    for moments in (linear, affine):
        coordinates = moments.coordinates(kept)
        np.testing.assert_allclose((coordinates.T * design) @ coordinates, np.eye(3), rtol=0, atol=1e-13)
    np.testing.assert_allclose(affine.origin + affine.offset, kept.mean(axis=0), rtol=20 * EPS)


def test_dropping_the_only_point_in_a_direction_is_found_out() -> None:
    points = np.vstack([cloud(0, 20, 2) @ np.eye(2, 3), [[0.0, 0.0, 1e-6]]])

    class Careless:
        def select(self, points: np.ndarray, gap: float) -> LInfSelection:
            found = SymmetricSupport().select(points, gap)
            kept = found.indices != 20
            return LInfSelection(found.indices[kept], found.weights[kept], found.promise)

    with pytest.raises(SolverError, match="away from the span of the"):
        linf_coreset(points, construction=Careless())
    assert 20 in linf_coreset(points).indices


def test_dropping_a_contact_point_raises_the_certified_factor() -> None:
    points = cloud(0, 200, 3)
    full = linf_coreset(points)
    for dropped in range(full.size):
        fewer, design = np.delete(full.indices, dropped), np.delete(full.weights, dropped)
        worse = two_sided_factor(points, points[fewer], design / design.sum()).factor
        assert worse > full.factor
        assert exact_factor(points, points[fewer]) <= worse * (1.0 + LP)


def test_one_location_has_no_one_sided_factor() -> None:
    assert one_sided_factor(np.full((3, 2), 2.0), np.full((1, 2), 2.0), np.ones(1)) is None


# --- degenerate data, arrays, refusals ------------------------------------------------------------


@by_construction
def test_all_zero_points_are_kept_by_one_of_them(construction: LInfConstruction) -> None:
    kept = linf_coreset(np.zeros((4, 2)), construction=construction)
    assert (kept.indices.tolist(), kept.factor, kept.one_sided_factor, kept.rank) == ([0], 1.0, 1.0, 0)


@by_construction
def test_columns_over_ten_orders_of_magnitude_change_nothing(construction: LInfConstruction) -> None:
    points = cloud(9, 200, 3)
    plain = linf_coreset(points, construction=construction)
    scaled = linf_coreset(points * [1e-5, 1.0, 1e5], construction=construction)
    assert scaled.rank == plain.rank == 3
    assert scaled.factor <= plain.certificate.bound
    assert scaled.certificate.holds


@by_construction
@pytest.mark.parametrize("unit", [1e-200, 1e200])
def test_the_unit_of_the_points_does_not_matter(construction: LInfConstruction, unit: float) -> None:
    points = cloud(13, 50, 3)
    plain = linf_coreset(points, construction=construction)
    assert linf_coreset(points * unit, construction=construction).factor == pytest.approx(
        plain.factor, rel=0.05
    )


def test_two_points_far_from_the_origin_span_one_dimension_about_their_mean() -> None:
    pair = np.array([[-27792.67472348, -28737.00230767], [-27784.98544191, -28728.67576834]])
    assert affine_moments(pair, np.full(2, 0.5)).rank == 1
    assert linf_coreset(pair, construction=InscribedVertices()).size == 2


def test_a_promise_that_is_not_kept_is_a_solver_error_with_the_coreset() -> None:
    class Boastful:
        def select(self, points: np.ndarray, gap: float) -> LInfSelection:
            return SymmetricSupport().select(points, gap)._replace(promise=1.0)

    points = cloud(14, 50, 3)
    with pytest.raises(SolverError, match=r"the certified factor .* is above the 1 that a gap") as caught:
        linf_coreset(points, construction=Boastful())
    kept = caught.value.result
    assert exact_factor(points, points[kept.indices]) <= kept.factor * (1.0 + LP)


def test_points_on_a_common_offset_keep_their_digits() -> None:
    points = cloud(10, 100, 2)
    near = linf_coreset(points, construction=DesignSupport(), gap=1e-3)
    far = linf_coreset(points + 1e6, construction=DesignSupport(), gap=1e-3)
    assert far.certificate.holds
    assert near.one_sided_factor is not None
    assert far.one_sided_factor is None


def torch_array(values: np.ndarray) -> Any:
    return pytest.importorskip("torch").asarray(values)


@pytest.mark.parametrize("convert", [torch_array, array_api_strict.asarray], ids=["torch", "strict"])
def test_other_libraries_get_the_same_coreset_in_their_own_arrays(convert: Any) -> None:
    points = cloud(11, 100, 3)
    plain, foreign = linf_coreset(points), linf_coreset(convert(points))
    assert type(foreign.indices) is type(convert(points))
    np.testing.assert_array_equal(np.asarray(foreign.indices), plain.indices)
    np.testing.assert_array_equal(np.asarray(foreign.weights), plain.weights)
    assert foreign.factor == plain.factor


def test_float32_and_integers_are_taken_as_exact() -> None:
    points = np.round(cloud(12, 50, 2) * 8.0) / 8.0
    plain = linf_coreset(points)
    assert linf_coreset(points.astype(np.float32)).factor == plain.factor
    assert linf_coreset((points * 8.0).astype(int)).factor == pytest.approx(plain.factor, rel=1e-9)


def test_the_representation_tells_size_and_factors() -> None:
    text = repr(linf_coreset(np.eye(2)))
    assert text == "LInfCoreset(size=2, factor=1.414, one_sided_factor=none, rank=2)"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"gap": 0.0}, ValueError, "gap = 0 is not positive"),
        ({"gap": math.nan}, ValueError, "gap = nan is not finite"),
        ({"gap": "tight"}, TypeError, "gap = 'tight' is not a real number"),
        ({"construction": SymmetricSupport}, TypeError, "has no method select of an instance"),
        ({"construction": "symmetric"}, TypeError, "has no method select of an instance"),
    ],
)
def test_bad_arguments_are_refused_with_their_value(
    arguments: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        linf_coreset(np.eye(2), **arguments)


@pytest.mark.parametrize("points", [np.zeros(3), np.zeros((2, 3, 4)), [[math.inf]], np.zeros((0, 2))])
def test_bad_points_are_refused(points: Any) -> None:
    with pytest.raises(ValueError, match="points"):
        linf_coreset(points)


@pytest.mark.parametrize("construction", [SymmetricSupport, DesignSupport])
def test_reduce_that_is_no_truth_value_is_refused(construction):
    with pytest.raises(TypeError, match="reduce = 'no'"):
        construction(reduce="no")
