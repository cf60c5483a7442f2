"""Paths of units: every step against all alternatives, errors against a solver that knows no blocks."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.errors import SolverError
from nn.guarantees.greedy import UnitSelection
from nn.neurons._block_kernels import downdate, quotients
from nn.neurons._elimination import UnitRegression, backward_path, contributions, forward_path

EPS = float(np.finfo(np.float64).eps)
RIDGE = 1e-2  # condition numbers are then at most about 1e5

seeds = st.integers(0, 2**32 - 1)


def regression(rng: np.random.Generator, units: int, width: int, outputs: int) -> UnitRegression:
    """A consumer whose columns have common factors, most of all those of one unit."""
    m = units * width
    rows = rng.normal(size=(40, m)) + 2.0 * rng.normal(size=(40, 2)) @ rng.normal(size=(2, m))
    rows += 2.0 * np.repeat(rng.normal(size=(40, units)), width, axis=1)
    matrix = rows.T @ rows + RIDGE * 40 * np.eye(m)
    return UnitRegression(matrix, rng.normal(size=(m, outputs)), width)


def group(seed: int, units: int) -> list[UnitRegression]:
    rng = np.random.default_rng(seed)
    return [regression(rng, units, width, outputs) for width, outputs in ((3, 2), (1, 4))]


def error(parts: list[UnitRegression], units) -> float:
    """Least squared error by a solver for tall matrices."""
    total = 0.0
    for part in parts:
        root = np.linalg.cholesky(part.matrix).T
        columns = [u * part.width + j for u in units for j in range(part.width)]
        target = root @ part.weights
        fit = root[:, columns] @ np.linalg.lstsq(root[:, columns], target)[0] if columns else 0.0
        total += float(np.sum((target - fit) ** 2))
    return total


def tolerance(parts: list[UnitRegression]) -> float:
    """Rounding of squared errors: of the energy, times what the condition number makes of it."""
    condition = max(float(np.linalg.cond(part.matrix)) for part in parts)
    return 10.0 * EPS * condition * error(parts, [])


@settings(max_examples=20)
@given(seeds, st.integers(1, 6))
def test_each_forward_step_adds_the_unit_that_lowers_the_error_most(seed, units):
    parts = group(seed, units)
    path, slack = forward_path(parts, units), tolerance(parts)
    chosen: list[int] = []
    for step, unit in enumerate(path.order.tolist()):
        rest = [u for u in range(units) if u not in chosen]
        best = min(error(parts, [*chosen, u]) for u in rest)
        chosen.append(unit)
        assert path.errors[step + 1] == pytest.approx(best, abs=slack)
        assert path.errors[step + 1] == pytest.approx(error(parts, chosen), abs=slack)


@settings(max_examples=20)
@given(seeds, st.integers(1, 6))
def test_each_backward_step_removes_the_unit_that_raises_the_error_least(seed, units):
    parts = group(seed, units)
    path, slack = backward_path(parts), tolerance(parts)
    left = list(range(units))
    for count in reversed(range(units)):
        best = min(error(parts, [v for v in left if v != u]) for u in left)
        left.remove(int(path.order[count]))
        assert path.errors[count] == pytest.approx(best, abs=slack)
        assert path.errors[count] == pytest.approx(error(parts, left), abs=slack)


@settings(max_examples=20)
@given(seeds, st.integers(1, 6))
def test_errors_obey_the_theorem_and_so_does_every_step(seed, units):
    parts, theorem = group(seed, units), UnitSelection()
    path, slack = forward_path(parts, units), tolerance(parts)
    products = contributions(parts)
    norms, energy = np.sqrt(np.diagonal(products)), error(parts, [])
    assert products.sum() == pytest.approx(energy, abs=slack)
    spread = theorem.spread(norms, energy)
    assert spread >= 1.0 - 1e-9
    bounds = energy * theorem.relative_squared_error(spread, np.arange(units + 1))
    assert np.all(path.errors <= bounds + slack)
    gains = path.errors[:-1] - path.errors[1:]
    assert np.all(gains >= theorem.least_gain(norms, path.errors[:-1]) - slack)


@settings(max_examples=20)
@given(seeds, st.integers(2, 12))
def test_units_named_in_another_order_are_chosen_all_the_same(seed, units):
    parts = group(seed, units)
    order = np.random.default_rng(seed).permutation(units)
    renamed = []
    for part in parts:
        columns = part.columns(order)
        renamed.append(
            UnitRegression(part.matrix[np.ix_(columns, columns)], part.weights[columns], part.width)
        )
    one, other = forward_path(parts, units), forward_path(renamed, units)
    np.testing.assert_allclose(one.errors, other.errors, atol=tolerance(parts))
    assert one.order[0] == order[other.order[0]]


@settings(max_examples=20)
@given(seeds, st.integers(1, 6))
def test_the_same_consumer_twice_doubles_errors_and_changes_no_choice(seed, units):
    parts = group(seed, units)[:1]
    one, two = forward_path(parts, units), forward_path(parts * 2, units)
    np.testing.assert_array_equal(one.order, two.order)
    np.testing.assert_allclose(2.0 * one.errors, two.errors, atol=tolerance(parts))


@settings(max_examples=20)
@given(seeds, st.integers(1, 6), st.data())
def test_the_error_of_any_set_is_that_of_a_least_squares_solver(seed, units, data):
    parts = group(seed, units)
    kept = data.draw(st.lists(st.integers(0, units - 1), unique=True))
    found = sum(part.squared_error(np.array(kept, dtype=int)) for part in parts)
    assert found == pytest.approx(error(parts, kept), abs=tolerance(parts))


def test_paths_stay_right_when_working_arrays_are_made_smaller():
    parts = group(3, 40)
    slack = tolerance(parts)
    for path in (forward_path(parts, 40), backward_path(parts)):
        assert sorted(path.order.tolist()) == list(range(40))
        for count in (1, 7, 20, 33, 39):
            assert path.errors[count] == pytest.approx(error(parts, path.order[:count]), abs=slack)


def test_a_singular_matrix_is_refused_with_the_remedy():
    part = UnitRegression(np.ones((4, 4)), np.ones((4, 1)), 2)
    with pytest.raises(SolverError, match="larger ridge"):
        forward_path([part], 2)


@settings(max_examples=20)
@given(seeds, st.integers(1, 6), st.integers(1, 9))
def test_compiled_blocks_give_what_a_solver_gives(seed, width, units):
    rng = np.random.default_rng(seed)
    rows, values = rng.normal(size=(units, width, 20)), rng.normal(size=(units, width, 3))
    factor, tilt = rng.normal(size=(2, units, width, width)) / 10.0
    blocks, squares = rows @ rows.transpose(0, 2, 1), values @ values.transpose(0, 2, 1)
    compiled = [np.array(a.transpose(1, 2, 0), order="C") for a in (blocks, squares, factor, tilt)]
    work, found = np.empty((width, width + 1, units)), np.empty(units)
    downdate(*compiled, units)
    blocks = blocks - factor @ factor.transpose(0, 2, 1)
    squares = squares - factor @ tilt.transpose(0, 2, 1) - tilt @ factor.transpose(0, 2, 1)
    lower = np.tril_indices(width)
    slack = 100 * EPS * width * float(np.abs(blocks).max())
    np.testing.assert_allclose(compiled[0][lower].T, blocks[:, lower[0], lower[1]], atol=slack)
    np.testing.assert_allclose(compiled[1][lower].T, squares[:, lower[0], lower[1]], atol=slack)
    assert quotients(compiled[0], compiled[1], work, found, units)
    wanted = np.linalg.solve(blocks, squares).trace(axis1=1, axis2=2)
    condition = float(np.max(np.linalg.cond(blocks)))
    scale = float(
        np.max(np.linalg.norm(squares, axis=(1, 2)) * np.linalg.norm(np.linalg.inv(blocks), axis=(1, 2)))
    )
    np.testing.assert_allclose(found, wanted, atol=100 * EPS * condition * scale)


def test_a_block_that_is_not_definite_is_noticed_among_others():
    blocks = np.array([[[1.0, 1.0], [0.0, 0.0]], [[0.5, 1.0], [1.0, 1.0]]])  # the second one is singular
    work, found = np.empty((2, 3, 2)), np.empty(2)
    assert not quotients(blocks, blocks, work, found, 2)
    assert quotients(blocks, blocks, work, found, 1)
    assert found[0] == pytest.approx(2.0, abs=10 * EPS)


@settings(max_examples=10)
@given(seeds, st.integers(2, 8), st.data())
def test_a_backward_path_that_stops_early_is_the_whole_one_as_far_as_it_goes(seed, units, data):
    parts, least = group(seed, units), data.draw(st.integers(0, units))
    whole, part = backward_path(parts), backward_path(parts, least)
    np.testing.assert_array_equal(part.errors[least:], whole.errors[least:])
    np.testing.assert_array_equal(part.order[least:], whole.order[least:])
    assert sorted(part.order[:least].tolist()) == sorted(whole.order[:least].tolist())
    assert part.errors[0] == pytest.approx(whole.errors[0], abs=tolerance(parts))
    assert np.all(np.isinf(part.errors[1:least]))


@settings(max_examples=10)
@given(seeds, st.integers(1, 8))
def test_squared_norms_are_the_diagonal_of_the_contributions(seed, units):
    for part in group(seed, units):
        scale = EPS * part.matrix.size * float(np.max(part.contributions()))
        np.testing.assert_allclose(part.squared_norms(), np.diagonal(part.contributions()), atol=scale)


def test_of_units_that_are_equal_the_earlier_goes_first():
    # Units 0 and 3 add most, so that others have changed places by the time that equal ones compete.
    weights = np.array([[3.0], [1.0], [1.0], [2.0], [1.0], [1.0]])
    parts = [UnitRegression(np.eye(6), weights, 1)]
    assert forward_path(parts, 6).order.tolist() == [0, 3, 1, 2, 4, 5]
    assert backward_path(parts).order.tolist() == [0, 3, 5, 4, 2, 1]


def test_gains_far_below_the_first_ones_are_still_exact():
    # Each unit is seen on its own, so that gains are squared weights, over 24 orders of magnitude.
    weights = 10.0 ** -np.arange(0.0, 12.0, 0.25)[:, None]
    parts = [UnitRegression(np.eye(len(weights)), weights, 1)]
    path = forward_path(parts, len(weights))
    np.testing.assert_array_equal(path.order, np.arange(len(weights)))
