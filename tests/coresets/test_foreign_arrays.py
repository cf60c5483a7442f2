"""Arrays of any library, layout and precision: taken as what they are, or refused with the remedy."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from scipy import sparse

from coresets import (
    FiniteQueries,
    L1Regression,
    WeightedSet,
    leverage_scores,
    lewis_weights,
    sample_fixed_size,
    sample_iid,
    sample_poisson,
    uniform_sensitivities,
)
from coresets._validate import as_array, as_floating, beside
from coresets.residuals import residual_rows
from coresets.sensitivity import orthonormaliser

X = np.array([[1.0, 2.0], [3.0, 5.0], [-1.0, 4.0], [2.0, 2.0]])
Y = np.array([1.0, -2.0, 0.5, 3.0])


@pytest.mark.parametrize(
    "value",
    [
        np.array([["a", "b"]]),
        np.array([["2020-01-01"]], dtype="datetime64[D]"),
        np.array([[1.0, 2.0]], dtype=object),
        np.zeros((1, 1), dtype=[("x", float)]),
    ],
    ids=["str", "datetime", "object", "record"],
)
@pytest.mark.parametrize("function", [WeightedSet, leverage_scores, lewis_weights, orthonormaliser])
def test_arrays_of_no_numbers_are_refused(function: Callable[..., Any], value: np.ndarray) -> None:
    with pytest.raises(TypeError, match=r"points has dtype .*; pass real numbers"):
        function(value)


def test_masked_and_sparse_arrays_are_refused_with_the_remedy() -> None:
    with pytest.raises(TypeError, match=r"points is a masked array; pass points\.filled"):
        leverage_scores(np.ma.masked_invalid(X))
    for matrix in (sparse.csr_matrix(X), sparse.coo_array(X)):
        with pytest.raises(TypeError, match=r"points is a sparse .*; pass points\.toarray\(\)"):
            leverage_scores(matrix)
    with pytest.raises(TypeError, match="labels is a masked array"):
        WeightedSet(X, labels=np.ma.masked_less(Y, 0.0))


@pytest.mark.filterwarnings("ignore::PendingDeprecationWarning")
def test_a_matrix_becomes_an_array() -> None:
    assert type(as_array(np.matrix(X), "points")) is np.ndarray
    np.testing.assert_array_equal(leverage_scores(np.matrix(X)), leverage_scores(X))


@pytest.mark.parametrize("dtype", [">f8", ">f4", ">i4", "<f8"])
def test_byte_order_does_not_matter(dtype: str) -> None:
    native = X.astype(np.dtype(dtype).newbyteorder("="))
    np.testing.assert_array_equal(leverage_scores(X.astype(dtype)), leverage_scores(native))
    positive = np.abs(native[:, 1])
    kept = sample_poisson(positive.astype(dtype), 2, rng=0).indices
    np.testing.assert_array_equal(kept, sample_poisson(positive, 2, rng=0).indices)


def test_half_precision_is_promoted_everywhere() -> None:
    torch = pytest.importorskip("torch")
    for points in (X.astype(np.float16), *(torch.tensor(X).to(t) for t in (torch.float16, torch.bfloat16))):
        double = as_floating(points, "points")
        assert str(double.dtype).endswith("float64")
        assert bool((leverage_scores(points) == leverage_scores(double)).all())
        data = WeightedSet(points, weights=points[:, 1])
        assert data.points.dtype == data.weights.dtype == double.dtype
        assert uniform_sensitivities(points[:, 1]).total == uniform_sensitivities(double[:, 1]).total
        for sample in (sample_poisson, sample_fixed_size, sample_iid):
            same = sample(points[:, 1], 2, rng=0).weights == sample(double[:, 1], 2, rng=0).weights
            assert bool(same.all())


def read_only(array: np.ndarray) -> np.ndarray:
    array = array.copy()
    array.flags.writeable = False
    return array


@pytest.mark.parametrize(
    "convert",
    [list, np.asarray, lambda y: y[::-1].copy()[::-1], lambda y: y.astype(">f8"), read_only],
    ids=["list", "array", "reversed", "big-endian", "read-only"],
)
def test_numpy_labels_and_weights_are_moved_beside_tensors(convert: Callable[[np.ndarray], Any]) -> None:
    torch = pytest.importorskip("torch")
    points = torch.tensor(X)
    rows = residual_rows(WeightedSet(points, labels=convert(Y)), intercept=True)
    assert bool((rows == torch.tensor(np.column_stack([X, np.ones(4), Y]))).all())
    masses = convert(np.abs(Y))
    assert isinstance(orthonormaliser(points, masses), torch.Tensor)
    assert isinstance(
        L1Regression().sensitivities(WeightedSet(points, masses, convert(Y))).values, torch.Tensor
    )


def test_pandas_columns_are_labels_and_weights() -> None:
    pandas = pytest.importorskip("pandas")
    data = WeightedSet(X, pandas.Series(np.abs(Y)), pandas.Series(Y, index=[5, 6, 7, 8]))
    np.testing.assert_array_equal(data.labels, Y)
    np.testing.assert_array_equal(residual_rows(data, intercept=False)[:, 2], Y)
    assert WeightedSet(X, labels=pandas.Series(["a", "b", "a", "b"])).labels.tolist() == ["a", "b", "a", "b"]


def test_a_numpy_loss_on_tensors_is_moved_beside_them() -> None:
    torch = pytest.importorskip("torch")
    loss = FiniteQueries(lambda data, c: np.abs(data.points[:, 0].numpy() - c), [0.0, 1.0])
    bounds = loss.sensitivities(WeightedSet(torch.tensor(X)))
    plain = FiniteQueries(lambda data, c: np.abs(data.points[:, 0] - c), [0.0, 1.0])
    np.testing.assert_array_equal(bounds.values.numpy(), plain.sensitivities(WeightedSet(X)).values)


def test_gradients_are_not_followed() -> None:
    torch = pytest.importorskip("torch")
    points, labels = torch.tensor(X, requires_grad=True), torch.tensor(Y, requires_grad=True)
    data = WeightedSet(points, labels.abs(), labels)
    assert not any(a.requires_grad for a in (data.points, data.weights, data.labels))
    assert not leverage_scores(points).requires_grad
    np.testing.assert_array_equal(leverage_scores(points).numpy(), leverage_scores(torch.tensor(X)).numpy())
    np.testing.assert_array_equal(beside(as_floating(labels, "labels"), X, "labels"), Y)


def test_masses_from_elsewhere_take_the_dtype_of_the_points_and_others_keep_theirs() -> None:
    torch = pytest.importorskip("torch")
    single = X.astype(np.float32)
    assert WeightedSet(single, [1.0, 2.0, 3.0, 4.0]).weights.dtype == np.float32
    assert WeightedSet(single, torch.ones(4, dtype=torch.float64)).weights.dtype == np.float32
    assert WeightedSet(single, np.ones(4)).weights.dtype == np.float64
    assert WeightedSet(torch.tensor(single), np.ones(4)).weights.dtype == torch.float32
    with pytest.raises(ValueError, match=r"weights\[1\] = inf is not finite"):
        WeightedSet(single, [1.0, 1e300, 1.0, 1.0])
    with pytest.raises(ValueError, match="weights are all zero"):
        WeightedSet(single, [1e-300] * 4)


def test_the_orthonormaliser_refuses_batches() -> None:
    with pytest.raises(ValueError, match=r"points has shape \(2, 4, 2\); pass \(n, d\)"):
        orthonormaliser(np.stack([X, X]))
