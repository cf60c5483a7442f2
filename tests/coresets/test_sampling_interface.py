"""The interface of the samplers: sources of randomness, refusals, and what a draw offers."""

from __future__ import annotations

import importlib.util
import pickle
from typing import Any

import array_api_strict
import numpy as np
import pytest
from array_api_compat import array_namespace

from coresets._sampling_arrays import _increments
from coresets.guarantee import Scheme
from coresets.samplers import IID, FixedSize, Hybrid, Poisson, Sampler, Top
from coresets.sampling import (
    Draw,
    inclusion_probabilities,
    poisson_from_probabilities,
    sample_fixed_size,
    sample_poisson,
)

NUMPY = array_namespace(np.empty(0))  # with the names of the standard, which old versions lack

SAMPLERS: list[Sampler] = [IID(), Poisson(), FixedSize(), Top(), Hybrid()]
RANDOM = [sampler for sampler in SAMPLERS if not isinstance(sampler, Top)]


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


# --------------------------------------------------------------------------- randomness


@pytest.mark.parametrize("sampler", RANDOM, ids=name_of)
def test_a_seed_repeats_and_a_generator_advances(sampler: Sampler) -> None:
    rows = heavy_rows(8, 200)
    assert np.array_equal(sampler.draw(rows, 20, 3).mask, sampler.draw(rows, 20, np.int64(3)).mask)
    assert np.array_equal(
        sampler.draw(rows, 20, 3).mask, sampler.draw(rows, 20, np.random.SeedSequence(3)).mask
    )
    generator = np.random.default_rng(3)
    first, second = sampler.draw(rows, 20, generator), sampler.draw(rows, 20, generator)
    assert not np.array_equal(first.mask, second.mask)


@pytest.mark.parametrize(
    ("sampler", "per_row"), [(Poisson(), 50), (FixedSize(), 49), (IID(), 6), (Hybrid(), 6)], ids=str
)
def test_each_row_takes_a_known_number_of_uniforms(sampler: Sampler, per_row: int) -> None:
    for rows in (heavy_rows(7, 50), np.eye(7, 50)):  # rows that keep everything take as many
        generator, reference = np.random.default_rng(0), np.random.default_rng(0)
        sampler.draw(rows, 6, generator)
        reference.random(7 * per_row)
        assert generator.random() == reference.random()


@needs_torch
@pytest.mark.parametrize("sampler", RANDOM, ids=name_of)
def test_a_torch_generator_draws_for_tensors_only(sampler: Sampler) -> None:
    torch = pytest.importorskip("torch")

    rows = torch.tensor(heavy_rows(8, 200))
    first = sampler.draw(rows, 20, torch.Generator().manual_seed(1))
    again = sampler.draw(rows, 20, torch.Generator().manual_seed(1))
    assert torch.equal(first.counts, again.counts)
    assert isinstance(first.weights, torch.Tensor)
    with pytest.raises(TypeError, match="only for torch tensors"):
        sampler.draw(heavy_rows(8, 200), 20, torch.Generator())


@pytest.mark.parametrize(
    "bad", [None, 1.0, "0", True, np.random.RandomState(0), np.random, np.random.PCG64(0)]
)
@pytest.mark.parametrize("sampler", RANDOM, ids=name_of)
def test_what_is_no_source_of_randomness_is_refused(sampler: Sampler, bad: object) -> None:
    with pytest.raises(TypeError, match="not a source of randomness"):
        sampler.draw(np.ones(3), 2, bad)
    with pytest.raises(ValueError, match="negative"):
        sampler.draw(np.ones(3), 2, -1)


# --------------------------------------------------------------------------- bad input


@pytest.mark.parametrize("library", ["numpy", *other_libraries()])
@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
@pytest.mark.parametrize(
    ("row", "message"),
    [
        ([1.0, np.nan], "nan"),
        ([1.0, np.inf], "inf"),
        ([1.0, -0.5], "-0.5 is negative"),
        ([0.0, 0.0], "all zero"),
        ([], "shape"),
        ([[1.0, 1.0], [0.0, 0.0]], "all zero in row"),
    ],
    ids=["nan", "inf", "negative", "zero", "empty", "zero_row"],
)
def test_bad_sensitivities_are_named(sampler: Sampler, row: list[Any], message: str, library: str) -> None:
    array = np.asarray(row, dtype=np.float64)
    with pytest.raises(ValueError, match=message):
        sampler.draw(array if library == "numpy" else to_library(library, array), 1, 0)


@pytest.mark.parametrize("sampler", SAMPLERS, ids=name_of)
@pytest.mark.parametrize("size", [0, -3])
def test_sizes_that_are_not_positive_are_refused(sampler: Sampler, size: int) -> None:
    with pytest.raises(ValueError, match=f"size = {size}"):
        sampler.draw(np.ones(3), size, 0)


@pytest.mark.parametrize("sampler", [IID(), FixedSize(), Top(), Hybrid()], ids=name_of)
@pytest.mark.parametrize("size", [1.5, 2.0, "2", None, True])
def test_whole_sizes_are_insisted_on(sampler: Sampler, size: object) -> None:
    with pytest.raises(TypeError, match="not an integer"):
        sampler.draw(np.ones(3), size, 0)


def test_sizes_per_row_are_checked() -> None:
    rows = np.ones((2, 3))
    with pytest.raises(ValueError, match="one per row"):
        sample_poisson(rows, np.ones(3), rng=0)
    with pytest.raises(ValueError, match="-1"):
        sample_poisson(rows, np.array([1.0, -1.0]), rng=0)
    with pytest.raises(ValueError, match="nan"):
        inclusion_probabilities(rows, np.array([1.0, np.nan]))
    with pytest.raises(TypeError, match="whole items"):
        sample_fixed_size(rows, np.array([1.0, 2.0]), rng=0)
    with pytest.raises(ValueError, match="inf"):
        sample_poisson(rows, np.inf, rng=0)


@pytest.mark.parametrize("bad", [[0.5, 1.5], [0.5, np.nan], [-0.1, 0.5], [np.inf, 1.0]])
@pytest.mark.parametrize("library", [np, array_api_strict], ids=["numpy", "strict"])
def test_probabilities_outside_the_unit_interval_are_refused(bad: list[float], library: Any) -> None:
    with pytest.raises(ValueError, match="probabilities"):
        poisson_from_probabilities(library.asarray(bad), rng=0)


# --------------------------------------------------------------------------- the result


def test_poisson_is_thinning_by_the_inclusion_probabilities() -> None:
    for dtype in (np.float64, np.float32):
        rows = heavy_rows(5, 40).astype(dtype)
        direct = sample_poisson(rows, 7.5, rng=1)
        staged = poisson_from_probabilities(inclusion_probabilities(rows, 7.5), rng=1)
        assert np.array_equal(direct.mask, staged.mask)
        assert np.array_equal(direct.weights, staged.weights)
        np.testing.assert_allclose(staged.size, 7.5, rtol=40 * float(np.finfo(dtype).eps))
        u = np.random.default_rng(1).random((5, 40))
        assert np.array_equal(direct.mask, u < direct.probabilities.astype(np.float64))


def test_a_draw_from_one_row_is_sparse_and_consistent() -> None:
    for sampler in SAMPLERS:
        draw = sampler.draw(heavy_rows(300), 20, 0)
        assert isinstance(draw, Draw)
        assert draw.scheme is sampler.scheme
        assert draw.size == 20
        assert np.array_equal(draw.mask.nonzero()[0], draw.indices)
        assert np.array_equal(draw.weights[draw.indices], draw.kept_weights)
        assert np.array_equal(draw.counts[draw.indices], draw.kept_counts)
        assert draw.weights is draw.weights  # made once
        assert draw.support_size == draw.indices.size
        assert np.array_equal(pickle.loads(pickle.dumps(draw)).weights, draw.weights)
        assert "support_size" in repr(draw)


def test_a_batch_has_no_ragged_indices() -> None:
    draw = sample_poisson(np.ones((2, 3)), 1, rng=0)
    for name in ("indices", "kept_weights", "kept_counts"):
        with pytest.raises(ValueError, match="ragged"):
            getattr(draw, name)


def test_each_sampler_names_its_scheme() -> None:
    assert [sampler.scheme for sampler in SAMPLERS] == [
        Scheme.WITH_REPLACEMENT,
        Scheme.POISSON,
        Scheme.FIXED_SIZE,
        Scheme.TOP,
        Scheme.HYBRID,
    ]


def test_counts_are_repaired_when_cumulative_sums_waver() -> None:
    # As from a parallel scan: a decrease by rounding at 2, growth at the zero entry 3.
    below = np.array([2, 5, 4, 6, 9])
    positive = np.array([True, True, True, False, True])
    assert _increments(NUMPY, below, positive).tolist() == [2, 3, 0, 0, 4]
    assert _increments(NUMPY, np.array([1, 1, 3]), np.array([True, False, True])).tolist() == [1, 0, 2]
