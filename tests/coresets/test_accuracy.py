"""Accuracy: the laws of its algebra, its range, its vacuous values."""

from __future__ import annotations

import copy
import math
import pickle
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coresets import Accuracy

EPS = float(np.finfo(np.float64).eps)

# A composition is at most four additions and multiplications of non-negative numbers, each with
# a relative error of EPS / 2; two of them, and the comparison of two such results.
RELATIVE = 16 * EPS

epsilons = st.floats(0.0, 10.0, allow_subnormal=False)
accuracies = st.builds(Accuracy, epsilons, st.floats(0.0, 1.0, allow_subnormal=False))


def close(one: Accuracy, other: Accuracy) -> bool:
    # Products of tiny epsilons may underflow, hence the smallest normal number as absolute slack.
    return math.isclose(
        one.epsilon, other.epsilon, rel_tol=RELATIVE, abs_tol=np.finfo(float).tiny
    ) and math.isclose(one.delta, other.delta, rel_tol=RELATIVE, abs_tol=np.finfo(float).tiny)


@given(accuracies)
def test_exact_is_the_unit_of_then_to_the_last_bit(accuracy: Accuracy) -> None:
    assert Accuracy.exact().then(accuracy) == accuracy
    assert accuracy.then(Accuracy.exact()) == accuracy


@given(accuracies, accuracies)
def test_then_commutes(first: Accuracy, second: Accuracy) -> None:
    assert close(first.then(second), second.then(first))


@given(accuracies, accuracies, accuracies)
def test_then_associates(a: Accuracy, b: Accuracy, c: Accuracy) -> None:
    assert close(a.then(b).then(c), a.then(b.then(c)))


@given(accuracies, accuracies)
def test_then_is_the_product_of_the_factors(first: Accuracy, second: Accuracy) -> None:
    epsilon = (1 + Fraction(first.epsilon)) * (1 + Fraction(second.epsilon)) - 1
    delta = min(Fraction(1), Fraction(first.delta) + Fraction(second.delta))
    combined = first.then(second)
    assert abs(Fraction(combined.epsilon) - epsilon) <= Fraction(RELATIVE) * epsilon + Fraction(1, 2**1022)
    assert abs(Fraction(combined.delta) - delta) <= Fraction(RELATIVE) * delta


@given(accuracies, accuracies)
def test_then_never_improves_on_either_part(first: Accuracy, second: Accuracy) -> None:
    combined = first.then(second)
    assert combined.epsilon >= max(first.epsilon, second.epsilon)
    assert combined.delta >= max(first.delta, second.delta)


@given(accuracies, accuracies, epsilons)
def test_then_is_monotone(first: Accuracy, second: Accuracy, extra: float) -> None:
    worse = Accuracy(first.epsilon + extra, min(1.0, first.delta + extra))
    assert worse.then(second).epsilon >= first.then(second).epsilon
    assert worse.then(second).delta >= first.then(second).delta


@given(st.lists(accuracies, max_size=6))
def test_union_takes_the_largest_error_and_adds_the_risks(parts: list[Accuracy]) -> None:
    union = Accuracy.union(parts)
    assert union.epsilon == max((p.epsilon for p in parts), default=0.0)
    assert union.delta == min(1.0, float(sum((Fraction(p.delta) for p in parts), Fraction(0))))


@given(st.lists(accuracies, max_size=6), st.randoms(use_true_random=False))
def test_union_ignores_the_order_and_exact_parts(parts: list[Accuracy], random: object) -> None:
    shuffled = [*parts, Accuracy.exact()]
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Accuracy.union(shuffled) == Accuracy.union(parts)


@given(accuracies, accuracies, accuracies)
def test_union_associates(a: Accuracy, b: Accuracy, c: Accuracy) -> None:
    nested = Accuracy.union([Accuracy.union([a, b]), c])
    assert close(nested, Accuracy.union([a, b, c]))


def test_union_of_no_parts_is_exact_and_takes_any_iterable() -> None:
    assert Accuracy.union([]).is_exact
    assert Accuracy.union(Accuracy(e, 0.1) for e in (0.1, 0.3)) == Accuracy(0.3, 0.2)


@pytest.mark.parametrize("epsilon", [-1e-300, -0.1, -math.inf, math.nan])
def test_a_negative_or_undefined_epsilon_is_refused(epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon = "):
        Accuracy(epsilon, 0.1)


@pytest.mark.parametrize("delta", [-1e-300, 1.0000001, math.inf, math.nan])
def test_a_delta_outside_the_unit_interval_is_refused(delta: float) -> None:
    with pytest.raises(ValueError, match="delta = "):
        Accuracy(0.1, delta)


@pytest.mark.parametrize("value", ["0.1", None, True, 1j, [0.1, 0.2]])
def test_what_is_no_number_is_refused(value: object) -> None:
    with pytest.raises(TypeError, match=r"epsilon = .* is not a real number"):
        Accuracy(value, 0.1)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"delta = .* is not a real number"):
        Accuracy(0.1, value)  # type: ignore[arg-type]


def test_an_infinite_epsilon_is_vacuous_and_absorbs() -> None:
    nothing = Accuracy(math.inf, 0.1)
    assert nothing.vacuous
    for other in (Accuracy.exact(), Accuracy(0.1, 0.0), nothing):
        assert nothing.then(other).epsilon == math.inf
        assert other.then(nothing).epsilon == math.inf
    assert Accuracy.union([nothing, Accuracy.exact()]).epsilon == math.inf


@given(accuracies)
def test_vacuous_means_an_error_of_one_or_certain_failure(accuracy: Accuracy) -> None:
    assert accuracy.vacuous == (accuracy.epsilon >= 1.0 or accuracy.delta >= 1.0)
    assert accuracy.is_exact == (accuracy == Accuracy.exact())


@given(accuracies)
def test_copies_and_pickles_are_equal_and_hash_alike(accuracy: Accuracy) -> None:
    for twin in (copy.deepcopy(accuracy), pickle.loads(pickle.dumps(accuracy))):
        assert twin == accuracy
        assert hash(twin) == hash(accuracy)


def test_numbers_of_other_types_become_floats_and_the_value_is_frozen() -> None:
    accuracy = Accuracy(np.float32(0.5), 0)  # type: ignore[arg-type]
    assert type(accuracy.epsilon) is float
    assert type(accuracy.delta) is float
    with pytest.raises(AttributeError):
        accuracy.epsilon = 0.1  # type: ignore[misc]
