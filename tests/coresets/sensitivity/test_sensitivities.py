"""The value that carries sensitivity bounds, and the uniform baseline."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from coresets.certificate import Certificate
from coresets.sensitivity import Sensitivities, uniform_sensitivities
from coresets.weighted_set import WeightedSet

EVIDENCE = (Certificate("test", "a fact", 1.0),)


def test_total_is_the_sum_in_double_precision() -> None:
    n = 100_000
    values = np.full(n, 0.1, dtype=np.float32)
    bound = Sensitivities(values)
    assert bound.values.dtype == np.float32
    exact = n * float(np.float32(0.1))
    assert abs(bound.total - exact) <= n * np.finfo(float).eps * exact


def test_is_frozen() -> None:
    with pytest.raises(dataclasses.FrozenInstanceError):
        Sensitivities([1.0]).total = 2.0  # type: ignore[misc]


def test_integers_become_float64_and_all_zero_is_allowed() -> None:
    bound = Sensitivities([0, 0, 0])
    assert bound.values.dtype == np.float64
    assert bound.total == 0.0
    assert bound.n == 3


def test_capping_keeps_certificates_and_small_values() -> None:
    bound = Sensitivities([0.25, 7.0], EVIDENCE).capped()
    assert bound.values.tolist() == [0.25, 1.0]
    assert bound.certificates == EVIDENCE


def test_defensive_mixing_adds_the_share_of_mass_and_one_to_the_total() -> None:
    bound = Sensitivities([0.0, 0.5, 1.0], EVIDENCE)
    mixed = bound.with_defensive_mixing([1, 1, 2])
    assert mixed.values.tolist() == [0.25, 0.75, 1.5]
    assert mixed.total == bound.total + 1.0
    assert mixed.certificates == EVIDENCE


def test_defensive_mixing_keeps_dtype_and_library() -> None:
    torch = pytest.importorskip("torch")
    bound = Sensitivities(torch.tensor([0.5, 0.5], dtype=torch.float32))
    for weights in ([1.0, 3.0], np.array([1.0, 3.0]), torch.tensor([1.0, 3.0], dtype=torch.float64)):
        mixed = bound.with_defensive_mixing(weights)
        assert mixed.values.dtype == torch.float32
        assert mixed.values.tolist() == [0.75, 1.25]


@pytest.mark.parametrize(
    ("values", "fragment"),
    [
        ([0.5, -0.25], r"values\[1\] = -0.25 is negative"),
        ([0.5, np.nan], r"values\[1\] = nan is not finite"),
        ([np.inf], r"values\[0\] = inf is not finite"),
        ([[0.5]], r"shape \(1, 1\)"),
        ([], r"shape \(0,\)"),
    ],
)
def test_rejects_values_that_are_no_bounds(values: list[float], fragment: str) -> None:
    with pytest.raises(ValueError, match=fragment):
        Sensitivities(values)


def test_rejects_text() -> None:
    with pytest.raises(TypeError, match="real numbers"):
        Sensitivities(["a"])


@pytest.mark.parametrize("weights", [[1.0], [0.0, 0.0], [1.0, -1.0], [np.nan, 1.0]])
def test_defensive_mixing_rejects_weights_that_are_no_masses(weights: list[float]) -> None:
    with pytest.raises(ValueError, match="weights"):
        Sensitivities([0.5, 0.5]).with_defensive_mixing(weights)


def test_uniform_is_the_share_of_mass_of_weights_and_of_a_set() -> None:
    weights = [1.0, 0.0, 3.0]
    assert uniform_sensitivities(weights).values.tolist() == [0.25, 0.0, 0.75]
    assert uniform_sensitivities(WeightedSet(np.eye(3), weights)).values.tolist() == [0.25, 0.0, 0.75]
    assert uniform_sensitivities(WeightedSet(np.eye(4))).total == 1.0


def test_uniform_survives_huge_masses() -> None:
    assert uniform_sensitivities([1e308, 0.5e308]).total == pytest.approx(1.0, rel=4 * np.finfo(float).eps)


@pytest.mark.parametrize("weights", [[], [0.0], [-1.0], [np.inf], [[1.0]], 1.0])
def test_uniform_rejects_weights_that_are_no_masses(weights: object) -> None:
    with pytest.raises(ValueError, match="weights"):
        uniform_sensitivities(weights)
