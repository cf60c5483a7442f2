from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest

from proofs_check.geometry_oracles import (
    Frame,
    Kept,
    best_design,
    exact_rank,
    facet_normals,
    inscribed_ratio,
    log_det,
    moment_residual,
    variances,
)

EPS = float(np.finfo(np.float64).eps)
ROUNDING = 1e4 * EPS  # well-conditioned matrices of a few rows
CONIC = 1e-3  # relative gap of the conic solver's design, squared since determinants are flat at the top


def cloud(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)) * 2.0 ** np.arange(d)


MEAN, SECOND, BOTH, CONE = Kept((1,)), Kept((2,)), Kept((1, 2)), Kept((1,), mass=False)


class TestFrame:
    @pytest.mark.parametrize("symmetric", [True, False])
    def test_uniform_weights_have_the_identity_for_second_moments(self, symmetric: bool) -> None:
        frame = Frame.of(cloud(30, 3) + (0.0 if symmetric else 100.0), symmetric=symmetric)
        assert frame.points.T @ frame.points / 30 == pytest.approx(np.eye(3), abs=1e3 * ROUNDING)
        if not symmetric:
            assert np.abs(frame.points.mean(axis=0)).max() <= 1e3 * ROUNDING

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_map_and_back_are_inverse_on_the_hull(self, symmetric: bool) -> None:
        flat = cloud(20, 2) @ np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 5.0]]) + 3.0 * (not symmetric)
        frame = Frame.of(flat, symmetric=symmetric)
        assert frame.rank == 2
        assert (flat - frame.origin) @ frame.map == pytest.approx(frame.points, abs=ROUNDING * 1e3)
        assert frame.points @ frame.back + frame.origin == pytest.approx(flat, abs=ROUNDING * 1e3)

    def test_an_ellipsoid_in_the_hull_is_told_from_one_outside_it(self) -> None:
        flat = cloud(20, 2) @ np.array([[1.0, 2.0, -1.0], [0.0, 1.0, 5.0]])
        inside = flat.T @ flat
        frame = Frame.of(flat, symmetric=True)
        assert frame.off_hull(np.zeros(3), inside) <= ROUNDING
        assert frame.off_hull(np.zeros(3), inside + np.eye(3)) > 1e-4
        assert frame.off_hull(np.array([1.0, 0.0, 0.0]), inside) > 1e-3

    def test_a_shape_keeps_its_quadratic_form(self) -> None:
        points = cloud(15, 3) + 5.0
        frame = Frame.of(points, symmetric=False)
        shape = np.cov(points.T)
        expected = np.einsum("ij,ji->i", points - 5.0, np.linalg.solve(shape, (points - 5.0).T))
        moved = frame.points - frame.center(np.full(3, 5.0))
        found = np.einsum("ij,ji->i", moved, np.linalg.solve(frame.shape(shape), moved.T))
        assert found == pytest.approx(expected, rel=1e3 * ROUNDING)

    def test_one_point_has_no_coordinates(self) -> None:
        assert Frame.of([[1.0, 2.0]], symmetric=False).rank == 0
        assert Frame.of([[1.0, 2.0]], symmetric=True).rank == 1


class TestDesign:
    def test_variances_add_up_to_the_rank(self) -> None:
        points, weights = cloud(12, 3), np.full(12, 1.0 / 12.0)
        assert weights @ variances(points, weights) == pytest.approx(3.0, rel=ROUNDING)

    def test_a_design_that_misses_a_direction_has_infinite_variances(self) -> None:
        assert np.all(np.isinf(variances(np.eye(2), np.array([1.0, 0.0]))))

    @pytest.mark.parametrize("rank", [1, 2, 4])
    def test_the_best_design_has_equal_variances_where_it_is_positive(self, rank: int) -> None:
        points = cloud(25, rank)
        design = best_design(points)
        assert design.sum() == pytest.approx(1.0, rel=ROUNDING)
        assert variances(points, design).max() <= rank * (1.0 + CONIC)
        uniform = np.full(25, 0.04)
        assert log_det(points.T @ (design[:, None] * points)) > log_det(
            points.T @ (uniform[:, None] * points)
        )

    def test_the_determinant_of_an_indefinite_matrix_has_no_logarithm(self) -> None:
        assert log_det(np.diag([1.0, -1.0])) == -np.inf
        assert log_det(np.diag([2.0, 3.0])) == pytest.approx(np.log(6.0), rel=ROUNDING)


class TestHull:
    def test_facets_of_a_cube_are_its_axes(self) -> None:
        corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
        normals = facet_normals(corners)
        assert np.sort(np.abs(normals), axis=1) == pytest.approx(
            np.tile([0.0, 0.0, 1.0], (len(normals), 1)), abs=ROUNDING
        )

    @pytest.mark.parametrize(("radius", "expected"), [(0.5, 0.5), (1.0, 1.0), (1.5, 1.5)])
    def test_a_ball_in_a_cube_reaches_as_far_as_its_radius(self, radius: float, expected: float) -> None:
        corners = np.stack(np.meshgrid(*[[-1.0, 1.0]] * 3), axis=-1).reshape(-1, 3)
        assert inscribed_ratio(np.zeros(3), radius**2 * np.eye(3), corners) == pytest.approx(
            expected, rel=ROUNDING
        )

    def test_no_direction_gives_a_larger_ratio(self) -> None:
        points, shape, center = cloud(20, 3), np.diag([0.04, 0.1, 0.5]), np.array([0.1, 0.0, -0.1])
        found = inscribed_ratio(center, shape, points)
        directions = np.random.default_rng(1).standard_normal((20_000, 3))
        reach = np.sqrt(np.einsum("ij,jk,ik->i", directions, shape, directions))
        searched = np.max(reach / np.max((points - center) @ directions.T, axis=0))
        assert 0.9 * found <= searched <= found * (1.0 + ROUNDING)

    def test_a_centre_outside_the_hull_is_infinitely_far_off(self) -> None:
        assert inscribed_ratio(np.array([9.0, 0.0, 0.0]), np.eye(3), cloud(10, 3)) == np.inf

    def test_on_a_line_the_hull_is_an_interval(self) -> None:
        points = np.array([[-1.0], [3.0], [0.5]])
        assert inscribed_ratio(np.array([1.0]), np.array([[1.0]]), points) == pytest.approx(0.5)
        assert inscribed_ratio(np.array([2.0]), np.array([[4.0]]), points) == pytest.approx(2.0)

    def test_a_flat_hull_holds_no_ellipsoid(self) -> None:
        assert inscribed_ratio(np.zeros(2), np.eye(2), np.array([[1.0, 1.0], [-1.0, -1.0]])) == np.inf
        with pytest.raises(ValueError, match="fewer than 2 dimensions"):
            facet_normals(np.array([[1.0, 1.0], [-1.0, -1.0]]))


class TestExact:
    @pytest.mark.parametrize(
        ("rows", "rank"),
        [
            (np.eye(3), 3),
            ([[1.0, 2.0], [2.0, 4.0]], 1),
            (np.zeros((2, 3)), 0),
            ([[1.0, 1e-18], [1.0, 0.0]], 2),  # an inverse in floats would see one row twice
            (np.array([[1, 2, 3], [4, 5, 6], [7, 8, 9]]), 2),
        ],
    )
    def test_rank_is_that_of_the_numbers_as_they_are(self, rows: object, rank: int) -> None:
        assert exact_rank(rows) == rank  # type: ignore[arg-type]

    @pytest.mark.parametrize("kept", [MEAN, SECOND, BOTH, CONE])
    def test_equal_weightings_differ_in_no_moment(self, kept: Kept) -> None:
        points, weights = cloud(8, 2), np.arange(1.0, 9.0)
        assert moment_residual(points, weights, weights, kept) == 0.0

    def test_a_displaced_mean_is_measured_in_standard_deviations(self) -> None:
        points = np.array([[-1.0], [1.0]]) * 4.0 + 1e6
        # The mean moves by half a standard deviation: masses 1/2, 1/2 become 1/4, 3/4.
        assert moment_residual(points, [1.0, 1.0], [0.5, 1.5], MEAN) == pytest.approx(0.5, rel=EPS)

    def test_lost_mass_is_measured_against_the_whole(self) -> None:
        points = np.array([[-1.0], [1.0], [0.0]])
        assert moment_residual(points, [1.0, 1.0, 2.0], [1.0, 1.0, 1.0], MEAN) == 0.25
        assert moment_residual(points, [1.0, 1.0, 2.0], [1.0, 1.0, 1.0], CONE) == 0.0

    def test_a_second_moment_that_moves_is_seen_at_order_two_only(self) -> None:
        points = np.array([[-2.0], [-1.0], [1.0], [2.0]])
        before, after = [0.0, 1.0, 1.0, 0.0], [1.0, 0.0, 0.0, 1.0]
        assert moment_residual(points, before, after, MEAN) == 0.0
        assert moment_residual(points, before, after, BOTH) == 3.0

    def test_second_moments_alone_are_taken_about_the_origin(self) -> None:
        points = np.array([[-2.0], [1.0], [2.0]])
        assert moment_residual(points, [1.0, 1.0, 0.0], [0.0, 1.0, 1.0], SECOND) == 0.0
        assert moment_residual(points, [1.0, 1.0, 0.0], [0.0, 1.0, 1.0], BOTH) > 1.0
        assert moment_residual(points, [1.0, 1.0, 0.0], [1.0, 1.0, 1.0], SECOND) == pytest.approx(0.8)

    def test_a_direction_without_spread_may_not_gain_any(self) -> None:
        points = np.array([[0.0], [0.0], [1.0]])
        assert moment_residual(points, [1.0, 1.0, 0.0], [1.0, 0.5, 0.5], MEAN) == np.inf

    def test_no_digit_is_lost_beside_large_numbers(self) -> None:
        points = np.array([[1e16], [1e16 + 2.0], [-1e16]])
        tiny = float(Fraction(1, 2**52))
        found = moment_residual(points, [1.0, 1.0, 1.0], [1.0 - tiny, 1.0 + tiny, 1.0], MEAN)
        spread = np.std([1e16, 1e16 + 2.0, -1e16])
        assert found == pytest.approx(2.0 * tiny / 3.0 / spread, rel=1e-9)
