"""Laws of the samplers that hold draw by draw: exact sizes, equal indices, water levels, refusals."""

from __future__ import annotations

import importlib.util
from fractions import Fraction
from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.samplers import IID, FixedSize, Hybrid, Poisson, Sampler, Top
from coresets.sampling import (
    best_split,
    inclusion_probabilities,
    sample_fixed_size,
    sample_hybrid,
    sample_iid,
    sample_poisson,
    sample_top,
)

SAMPLERS: list[Sampler] = [IID(), Poisson(), FixedSize(), Top(), Hybrid()]
EPS = float(np.finfo(np.float64).eps)

needs_torch = pytest.mark.skipif(importlib.util.find_spec("torch") is None, reason="torch is not installed")


def name_of(value: object) -> str:
    return type(value).__name__


def heavy_rows(*shape: int, seed: int = 0) -> np.ndarray:
    """Heavy-tailed sensitivities, a fifth of them zero, every row with a positive one."""
    rng = np.random.default_rng(seed)
    rows = rng.pareto(1.0, shape) * (rng.random(shape) > 0.2)
    rows[..., -1] += 0.1
    return rows


def other_libraries() -> list[Any]:
    import_torch = pytest.param("torch", marks=needs_torch, id="torch")
    return [import_torch, pytest.param("array_api_strict", id="strict")]


def to_library(name: str, array: np.ndarray) -> Any:
    if name == "torch":
        torch = pytest.importorskip("torch")

        return torch.tensor(array)
    return array_api_strict.asarray(array)


# --------------------------------------------------------------------------- one law everywhere


@pytest.mark.parametrize("library", other_libraries())
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("shape", [(1,), (2,), (100,), (7, 33), (2, 3, 65)], ids=str)
@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
def test_every_library_keeps_the_same_items(
    sampler: Sampler, shape: tuple[int, ...], dtype: Any, library: str
) -> None:
    rows = heavy_rows(*shape).astype(dtype)
    for seed in range(3):
        ours = sampler.draw(rows, 5, seed)
        other = sampler.draw(to_library(library, rows), 5, seed)
        assert np.array_equal(ours.counts, np.asarray(other.counts))
        # Water levels come from differently ordered sums of n terms.
        tolerance = 4 * rows.shape[-1] * float(np.finfo(dtype).eps)
        np.testing.assert_allclose(ours.weights, np.asarray(other.weights), rtol=tolerance)
        np.testing.assert_allclose(ours.probabilities, np.asarray(other.probabilities), rtol=tolerance)
        assert ours.weights.dtype == np.asarray(other.weights).dtype == dtype
        assert np.array_equal(ours.support_size, np.asarray(other.support_size))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
def test_a_batch_is_a_loop_over_its_rows(sampler: Sampler) -> None:
    rows = heavy_rows(3, 4, 29)
    batch = sampler.draw(rows, 6, np.random.default_rng(5))
    generator = np.random.default_rng(5)
    for place in np.ndindex(3, 4):
        row = sampler.draw(rows[place], 6, generator)
        assert np.array_equal(row.counts, batch.counts[place])
        assert np.array_equal(row.mask, batch.mask[place])
        # Totals of a row may be added up in another order: n roundings.
        np.testing.assert_allclose(row.weights, batch.weights[place], rtol=29 * EPS)
        assert row.support_size == batch.support_size[place]


def test_the_fixed_size_sampler_crosses_its_own_block_limits() -> None:
    rows = heavy_rows(40, 1000, seed=3)  # several rows a block of uniforms, several blocks
    batch = sample_fixed_size(rows, 50, rng=1)
    generator = np.random.default_rng(1)
    loop = [sample_fixed_size(row, 50, rng=generator).mask for row in rows]
    assert np.array_equal(batch.mask, np.stack(loop))


@pytest.mark.parametrize("n", [31, 32, 33, 2047, 2048, 2049, 5000])
def test_draws_with_replacement_agree_with_a_search_in_cumulative_sums(n: int) -> None:
    row = heavy_rows(n, seed=n)
    for scale in (1.0, 1.0 / row.sum()):  # two passes, one pass
        draw = sample_iid(row * scale, 400, rng=8)
        u = np.random.default_rng(8).random(400)
        drawn = np.searchsorted(np.cumsum(row) / np.cumsum(row)[-1], u, side="right")
        assert np.array_equal(draw.counts, np.bincount(drawn, minlength=n))
        assert np.array_equal(draw.indices, np.unique(drawn))
        np.testing.assert_allclose(draw.kept_weights, draw.weights[draw.indices])


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
@pytest.mark.parametrize(
    "view",
    [lambda a: a[:, ::2], np.asfortranarray, lambda a: a.astype(">f8"), lambda a: a.T.copy().T],
    ids=["strided", "fortran", "big_endian", "transposed"],
)
def test_memory_layout_does_not_matter(sampler: Sampler, view: Any) -> None:
    rows = heavy_rows(4, 20)
    seen = view(rows)
    plain = np.ascontiguousarray(seen, dtype=np.float64)
    assert np.array_equal(sampler.draw(seen, 3, 0).mask, sampler.draw(plain, 3, 0).mask)


def test_arrays_that_cannot_be_written_to_are_accepted() -> None:
    row = heavy_rows(50)
    row.flags.writeable = False
    assert sample_poisson(row, 5, rng=0).support_size > 0


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
def test_integer_sensitivities_count_as_float64(sampler: Sampler) -> None:
    draw = sampler.draw([3, 0, 1, 1], 2, 0)
    assert np.array_equal(draw.mask, sampler.draw(np.array([3.0, 0.0, 1.0, 1.0]), 2, 0).mask)
    assert draw.weights.dtype == np.float64


# --------------------------------------------------------------------------- water-filling


def exact_probabilities(row: list[float], size: Fraction) -> list[Fraction]:
    """Water-filling in rational arithmetic: set the largest aside while its share exceeds 1."""
    values = [Fraction(x) for x in row]
    if size >= sum(x > 0 for x in values):
        return [Fraction(int(x > 0)) for x in values]
    order = sorted(range(len(values)), key=lambda i: -values[i])
    total, left = sum(values), size
    for i in order:
        if left * values[i] <= total:
            break
        total, left = total - values[i], left - 1
    return [min(Fraction(1), left * x / total) for x in values]


magnitudes = st.one_of(
    st.just(0.0),
    st.floats(1e-300, 1e300),
    st.integers(-990, 990).map(lambda k: 2.0**k),
    st.sampled_from([1.0, 2.0, 1.0 + EPS, 1e-308, 5e-324]),
)
rows_of_all_magnitudes = st.lists(magnitudes, min_size=1, max_size=16).filter(any)


@settings(max_examples=200, deadline=None)
@given(row=rows_of_all_magnitudes, size=st.floats(0.01, 17.0))
def test_inclusion_probabilities_are_those_of_exact_arithmetic(row: list[float], size: float) -> None:
    exact = [float(p) for p in exact_probabilities(row, Fraction(size))]
    for library in (np, array_api_strict):
        ours = np.asarray(inclusion_probabilities(library.asarray(row, dtype=library.float64), size))
        # n roundings of the total; entries below the normal range carry an absolute error instead.
        smallest = float(np.finfo(np.float64).smallest_subnormal)
        np.testing.assert_allclose(ours, exact, rtol=8 * len(row) * EPS, atol=len(row) * smallest)
        assert np.all(ours[np.asarray(row) == 0.0] == 0.0)


@pytest.mark.parametrize("ratio", [2.0, 1e3, 0.5, 1.0, 1.0 + 1e-9])
@pytest.mark.parametrize("size", [0.25, 1, 7.5, 39, 39.999, 40, 41])
def test_geometric_rows_reach_the_size(ratio: float, size: float) -> None:
    row = ratio ** np.arange(40.0)
    p = inclusion_probabilities(row, size)
    assert abs(p.sum() - min(size, 40)) <= 40 * EPS * 40
    assert p.max() <= 1.0
    exact = [float(x) for x in exact_probabilities(list(row), Fraction(size))]
    np.testing.assert_allclose(p, exact, rtol=8 * 40 * EPS)


def test_rows_that_defeat_the_iteration_are_sorted() -> None:
    # Every pass finds one more sure item, far more often than passes are allowed.
    row = 1e-3 ** np.arange(90.0)
    row = np.concatenate([row, np.full(1000, row[-1] * 1e-3)])
    p = inclusion_probabilities(row, 80.5)
    exact = [float(x) for x in exact_probabilities(list(row), Fraction(80.5))]
    np.testing.assert_allclose(p, exact, rtol=8 * row.size * EPS)


@pytest.mark.parametrize("size", [1.5, 4, 20.0])
def test_probabilities_follow_permutations_and_ignore_scale(size: float) -> None:
    row = heavy_rows(60, seed=2)
    order = np.random.default_rng(1).permutation(60)
    p = inclusion_probabilities(row, size)
    np.testing.assert_allclose(inclusion_probabilities(row[order], size), p[order], rtol=120 * EPS)
    np.testing.assert_allclose(inclusion_probabilities(row * 3e-7, size), p, rtol=120 * EPS)
    assert np.array_equal(inclusion_probabilities(row * 2.0**40, size), p)  # a power of two is exact


def test_sums_of_float32_probabilities_are_accurate_in_float64() -> None:
    # Added in float32, the total of this row would stall at 2**24.
    row = np.ones(2**25, dtype=np.float32)
    p = inclusion_probabilities(row, 2.0**20)
    assert p.dtype == np.float32
    assert p[0] == 2.0**-5
    assert p[-1] == 2.0**-5


def test_each_row_may_have_its_own_size() -> None:
    rows, sizes = heavy_rows(4, 30), np.array([1.5, 3.0, 10.25, 100.0])
    p = inclusion_probabilities(rows, sizes)
    for r in range(4):
        assert np.array_equal(p[r], inclusion_probabilities(rows[r], float(sizes[r])))
    whole = np.array([1, 3, 10, 100])
    assert np.array_equal(
        sample_fixed_size(rows, whole, rng=0).support_size, np.minimum(whole, (rows > 0).sum(axis=-1))
    )
    assert np.array_equal(sample_top(rows, whole).support_size, np.minimum(whole, (rows > 0).sum(axis=-1)))


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
@pytest.mark.parametrize("library", ["numpy", *other_libraries()])
def test_sums_that_overflow_are_rescaled(sampler: Sampler, library: str) -> None:
    row = np.array([1.5e308, 1.5e308, 0.0, 1.7e308, 1e308])
    draw = sampler.draw(row if library == "numpy" else to_library(library, row), 3, 1)
    assert int(np.asarray(draw.counts).sum()) >= 1
    assert np.all(np.isfinite(np.asarray(draw.weights)))
    assert not bool(draw.mask[2])


# --------------------------------------------------------------------------- sizes and sure items


@settings(max_examples=2000, deadline=None)
@given(row=rows_of_all_magnitudes, size=st.integers(1, 18), seed=st.integers(0, 2**32))
def test_fixed_size_keeps_exactly_that_many(row: list[float], size: int, seed: int) -> None:
    values = np.asarray(row)
    draw = sample_fixed_size(values, size, rng=seed)
    p = draw.probabilities
    assert np.all(draw.mask[p >= 1.0])
    assert not np.any(draw.mask[p == 0.0])
    # Sensitivities more than 1e308 times smaller than the others have probability 0 in float64.
    reachable = int((p > 0.0).sum())
    assert draw.support_size == min(size, reachable)
    assert np.all(draw.kept_weights >= 1.0)


@settings(max_examples=200, deadline=None)
@given(row=rows_of_all_magnitudes, size=st.integers(1, 18), seed=st.integers(0, 2**32))
def test_no_sampler_keeps_an_item_of_sensitivity_zero(row: list[float], size: int, seed: int) -> None:
    values = np.asarray(row)
    for sampler in SAMPLERS:
        draw = sampler.draw(values, size, seed)
        assert not np.any(draw.mask & (values == 0.0))
        assert np.array_equal(draw.mask, draw.weights > 0.0)
        assert np.array_equal(draw.mask, draw.counts > 0)
        if isinstance(sampler, IID):
            assert draw.counts.sum() == size
        elif size >= (values > 0).sum():
            assert np.array_equal(draw.weights, (values > 0) * 1.0)
        elif isinstance(sampler, Hybrid):
            assert draw.counts.sum() == size


def test_fixed_size_holds_for_many_rows_of_wild_magnitudes() -> None:
    rng = np.random.default_rng(0)
    rows = 10.0 ** rng.uniform(-150, 150, (5000, 60))
    sizes = rng.integers(1, 61, 5000)
    draw = sample_fixed_size(rows, sizes, rng=1)
    assert np.array_equal(draw.support_size, sizes)


@pytest.mark.parametrize("n", [10, 1000, 100_000])
def test_equal_probabilities_of_one_half_do_not_upset_the_count(n: int) -> None:
    # Every duel of the first round sits on the boundary a + b = 1.
    assert sample_fixed_size(np.ones(n), n // 2, rng=0).support_size == n // 2
    assert sample_fixed_size(np.full(n, 0.1), n // 3, rng=0).support_size == n // 3


def test_sure_items_are_always_kept_with_weight_one() -> None:
    row = np.array([100.0, 1.0, 80.0, 1.0, 1.0, 1.0])
    for sampler in (Poisson(), FixedSize()):
        for seed in range(50):
            draw = sampler.draw(row, 3, seed)
            assert draw.mask[[0, 2]].all()
            assert draw.weights[0] == draw.weights[2] == 1.0


def test_top_prefers_the_lowest_index_among_equals() -> None:
    row = np.array([1.0, 2.0, 1.0, 2.0, 2.0, 0.0])
    assert sample_top(row, 2).indices.tolist() == [1, 3]
    assert sample_top(row, 4).indices.tolist() == [0, 1, 3, 4]
    assert sample_top(row, 9).indices.tolist() == [0, 1, 2, 3, 4]
    batch = sample_top(np.stack([row, row[::-1]]), np.array([2, 4]))
    assert batch.mask[0].nonzero()[0].tolist() == [1, 3]
    assert batch.mask[1].nonzero()[0].tolist() == [1, 2, 3, 4]


# --------------------------------------------------------------------------- the best split


@settings(max_examples=200, deadline=None)
@given(
    row=st.lists(st.one_of(st.just(0.0), st.floats(1e-6, 10.0)), min_size=1, max_size=25).filter(any),
    size=st.integers(1, 30),
)
def test_the_split_minimises_its_error_bound(row: list[float], size: int) -> None:
    k = int(best_split(np.asarray(row), size))
    assert k == int(best_split(array_api_strict.asarray(row), size))
    positive = sum(x > 0 for x in row)
    if size >= positive:
        assert k == positive
        return
    ordered = sorted(map(Fraction, row), reverse=True)

    def error(split: int) -> Fraction:
        rest = sum(ordered[split:], Fraction(0))
        return rest / (size - split)

    best = min(error(split) for split in range(min(size, len(row))))
    assert 0 <= k < size
    assert float(error(k)) <= float(best) * (1 + 8 * len(row) * EPS)


def test_a_hybrid_draw_keeps_its_top_for_certain_and_draws_the_rest() -> None:
    rows = heavy_rows(20, 50, seed=9)
    rows /= rows.sum(axis=-1, keepdims=True)
    split = best_split(rows, 12)
    assert split.max() > 0
    draw = sample_hybrid(rows, 12, rng=4)
    for r in range(20):
        top = np.argsort(-rows[r], kind="stable")[: split[r]]
        assert np.all(draw.weights[r, top] == 1.0)
        assert draw.counts[r].sum() == 12
        rest = np.delete(np.arange(50), top)
        np.testing.assert_allclose(draw.probabilities[r, rest].sum(), 1.0, rtol=50 * EPS)
