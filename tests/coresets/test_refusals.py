"""Wrong objects, damaged files and sizes out of all range."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from coresets import (
    Accuracy,
    Certificate,
    Coreset,
    FiniteQueries,
    FixedSize,
    Hybrid,
    LeastSquares,
    Poisson,
    SensitivityReducer,
    Top,
    WeightedSet,
    sample_fixed_size,
    sample_hybrid,
    sample_iid,
    sample_poisson,
    sample_top,
)
from coresets import _sampling_kernels as kernels

DATA = WeightedSet(np.random.default_rng(0).standard_normal((50, 2)))
HUGE = [2**53, 2**63, 2**64, 10**30]


def coreset() -> Coreset:
    return Coreset(np.array([0, 2]), np.array([1.0, 2.0]), 2, Accuracy(0.5, 0.1))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((LeastSquares,), "loss is the class LeastSquares; pass an instance"),
        ((LeastSquares(), Poisson), "sampler is the class Poisson; pass an instance"),
        ((LeastSquares(), "poisson"), r"sampler = 'poisson' lacks a scheme or a method draw; pass IID\(\)"),
        ((LeastSquares(), None), "sampler = None lacks"),
        ((LeastSquares(), Poisson(), 1), "defensive = 1; pass True or False"),
        ((LeastSquares(), Poisson(), "no"), "defensive = 'no'; pass True or False"),
    ],
)
def test_a_reducer_refuses_what_is_no_loss_sampler_or_flag(arguments: Any, message: str) -> None:
    with pytest.raises(TypeError, match=message):
        SensitivityReducer(*arguments)


@pytest.mark.parametrize("method", ["claim", "sensitivities"])
def test_methods_of_a_reducer_want_a_weighted_set(method: str) -> None:
    with pytest.raises(TypeError, match="data is a ndarray; wrap the points in a WeightedSet"):
        getattr(SensitivityReducer(LeastSquares()), method)(np.eye(3))


def test_claims_want_sensitivities_and_coresets_their_data_and_accuracy() -> None:
    with pytest.raises(TypeError, match="sensitivities is a ndarray; wrap the bounds in Sensitivities"):
        SensitivityReducer(LeastSquares()).claim(DATA, np.ones(50))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="data is a ndarray; wrap the points in a WeightedSet"):
        coreset().of(np.eye(3))  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"accuracy = \(0\.5, 0\.1\); pass Accuracy"):
        Coreset(np.array([0]), np.array([1.0]), 1, (0.5, 0.1))  # type: ignore[arg-type]


def test_every_unreadable_file_is_not_a_saved_coreset(tmp_path: Path) -> None:
    coreset().save(tmp_path / "good.npz")
    good = (tmp_path / "good.npz").read_bytes()
    files = {"empty": b"", "junk": b"no archive at all", "json": b"{}", "magic": b"PK\x03\x04" + b"x" * 90}
    files |= {f"cut at {k}": good[:k] for k in range(1, len(good), 97)}
    for name, content in files.items():
        (tmp_path / name).write_bytes(content)
    for header in ("[1, 2]", "3", "not JSON", json.dumps(None)):
        np.savez(tmp_path / f"header {header}.npz", weights=np.ones(1), header=np.array(header))
    for path in tmp_path.iterdir():
        if path.name != "good.npz":
            with pytest.raises(ValueError, match=r"is not a saved coreset$"):
                Coreset.load(path)


def test_a_damaged_byte_is_refused_or_harmless(tmp_path: Path) -> None:
    coreset().save(tmp_path / "good.npz")
    good = (tmp_path / "good.npz").read_bytes()
    for place in range(0, len(good), 13):
        damaged = bytearray(good)
        damaged[place] ^= 0xFF
        (tmp_path / "damaged.npz").write_bytes(damaged)
        try:
            loaded = Coreset.load(tmp_path / "damaged.npz")
        except ValueError:
            continue
        np.testing.assert_array_equal(loaded.weights, coreset().weights)


@pytest.mark.parametrize("size", HUGE)
def test_huge_sizes_keep_everything(size: int) -> None:
    values = np.array([3.0, 0.0, 1.0, 2.0])
    for draw in (
        sample_fixed_size(values, size, rng=0),
        sample_poisson(values, size, rng=0),
        sample_hybrid(values, size, rng=0),
        sample_top(values, size),
    ):
        assert draw.indices.tolist() == [0, 2, 3]
        assert draw.weights.tolist() == [1.0, 0.0, 1.0, 1.0]


def test_huge_sizes_of_rows_keep_everything() -> None:
    sizes = np.array([2**64 - 1, 1], dtype=np.uint64)
    assert sample_top(np.ones((2, 3)), sizes).support_size.tolist() == [3, 1]


def test_draws_with_replacement_have_a_largest_number() -> None:
    with pytest.raises(ValueError, match=r"size = 9223372036854775808 draws .*; pass at most 2\^53"):
        sample_iid(np.ones(3), 2**63, rng=0)


@pytest.mark.parametrize("sampler", [Poisson(), FixedSize()], ids=repr)
def test_an_accuracy_out_of_reach_and_a_size_beyond_the_data_return_everything(sampler: Any) -> None:
    reducer = SensitivityReducer(LeastSquares(), sampler)
    for arguments in ({"accuracy": Accuracy(1e-300, 0.1)}, {"size": 10**400}):
        whole = reducer.reduce(DATA, rng=0, **arguments)
        assert whole.support_size == DATA.n
        assert whole.accuracy.is_exact


@pytest.mark.parametrize("sampler", [Hybrid(), Top()], ids=repr)
def test_an_accuracy_out_of_reach_of_a_profile_returns_everything(sampler: Any) -> None:
    loss = FiniteQueries(lambda data, c: np.abs(data.points[:, 0] - c), [0.0, 1.0])
    whole = SensitivityReducer(loss, sampler).reduce(DATA, accuracy=Accuracy(1e-300, 0.1), rng=0)
    assert whole.support_size == DATA.n


def test_certificates_are_hashable_values() -> None:
    evidence = Certificate("a", "b", 1.0, details={"x": 1.0})
    copy = pickle.loads(pickle.dumps(evidence))
    assert copy == evidence
    assert hash(copy) == hash(evidence)
    assert evidence != Certificate("a", "b", 1.0, details={"x": 2.0})


def test_losses_over_array_queries_can_be_compared() -> None:
    one, other = (FiniteQueries(lambda data, q: data.points @ q, [np.ones(2)]) for _ in range(2))
    assert one == one  # noqa: PLR0124
    assert one != other
    assert SensitivityReducer(one) == SensitivityReducer(one)


def test_loops_compile_where_nothing_can_be_cached(monkeypatch: pytest.MonkeyPatch) -> None:
    njit = kernels.numba.njit

    def without_cache(**options: Any) -> Any:
        if options.get("cache"):
            raise RuntimeError("cannot cache function: no locator available")
        return njit(**options)

    monkeypatch.setattr(kernels.numba, "njit", without_cache)
    assert kernels._compiled()(lambda x: x + 1)(1) == 2
