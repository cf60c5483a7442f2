"""Guarantees: the laws of sizes and errors, the samplers covered, metadata, refusals."""

from __future__ import annotations

import inspect
import math
import pickle
import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binom

from coresets import (
    Accuracy,
    AssumptionError,
    Claim,
    Guarantee,
    Quantifier,
    SamplingGuarantee,
    Scheme,
    Status,
)
from coresets.guarantee import least_integer
from coresets.guarantees import (
    GUARANTEES,
    VCIID,
    BalancedClass,
    CalibratedClass,
    DefensiveMixing,
    FeatureBound,
    FiniteClass,
    FiniteFixedSize,
    FiniteHybrid,
    FiniteIID,
    FinitePoisson,
    FiniteRelativeEntropy,
    FirstMomentClass,
    HalvingClass,
    HalvingStreamClass,
    HalvingSubspaceClass,
    HingeClass,
    HingeNormClass,
    HomogeneousClass,
    KCentresClass,
    LipschitzClass,
    LipschitzIID,
    LipschitzPoisson,
    LogisticClass,
    MatrixChernoff,
    RidgeClass,
    SensitivityProfile,
    StreamClass,
    SubspaceClass,
    TopRemainder,
    VCClass,
)

EPS = float(np.finfo(np.float64).eps)
SAMPLING = [g for g in GUARANTEES if isinstance(g, SamplingGuarantee)]

totals = st.floats(1.0, 200.0)
queries = st.integers(1, 10**6)
epsilons = st.floats(0.01, 1.0)
deltas = st.floats(1e-9, 0.9)


def key_of(value: object) -> str:
    return value.key if isinstance(value, Guarantee) else str(getattr(value, "name", value))


@st.composite
def profiles(draw: st.DrawFn) -> SensitivityProfile:
    n = draw(st.integers(1, 60))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    values = np.minimum(1.0, rng.pareto(draw(st.sampled_from([0.5, 1.0, 3.0])), n)) * (rng.random(n) > 0.2)
    values[0] = 1.0
    return SensitivityProfile(values, draw(queries))


def features(exact: bool = False) -> st.SearchStrategy[FeatureBound]:
    residuals = st.just(0.0) if exact else st.floats(0.0, 1.0)
    return st.builds(FeatureBound, st.floats(0.1, 4.0), residuals, st.floats(1.0, 2.0))


PARAMETERS = {
    "E1": st.builds(FiniteClass, totals, queries),
    "E1-KL": st.builds(FiniteClass, totals, queries),
    "E1-P": st.builds(FiniteClass, totals, queries),
    "E1-F": st.builds(FiniteClass, totals, queries),
    "E1-H": profiles(),
    "TOP": profiles(),
    "DM": st.builds(FiniteClass, totals, queries),
    "E2": st.builds(VCClass, totals, st.integers(1, 50), st.integers(1, 4)),
    "E4": st.builds(LipschitzClass, totals, st.floats(0.1, 4.0), st.sampled_from([1.0, 2.0]), queries),
    "E4-P": st.builds(LipschitzClass, totals, st.floats(0.1, 4.0), st.sampled_from([1.0, 2.0]), queries),
    "MC": st.builds(
        lambda rank, excess: SubspaceClass(rank + excess, rank), st.integers(1, 50), st.floats(0.0, 50.0)
    ),
    "T4": st.builds(HomogeneousClass, totals, queries, st.floats(0.1, 2.0)),
    "T4-P": st.builds(HomogeneousClass, totals, queries, st.floats(0.1, 2.0)),
    "T5": st.builds(BalancedClass, totals, st.floats(0.05, 1.0)),
    "T5-P": st.builds(BalancedClass, totals, st.floats(0.05, 1.0)),
    "D4": st.builds(
        FirstMomentClass, totals, st.floats(0.05, 1.0), st.floats(0.0, 1e-4), st.floats(0.0, 1e-4)
    ),
    "D6": st.builds(
        lambda total, k, over, rho, number: CalibratedClass(total, k, over * k / total, rho, number),
        totals,
        st.integers(1, 50),
        st.floats(1.0, 5.0),
        st.floats(0.0, 1.0),
        queries,
    ),
    "S2": st.builds(HingeClass, totals, st.integers(1, 50), st.booleans()),
    "S3": st.builds(HingeNormClass, totals, st.booleans()),
    "S3-P": st.builds(HingeNormClass, totals, st.booleans()),
    "KM-A": st.builds(KCentresClass, totals, st.integers(1, 20), st.integers(1, 20)),
    "KM-L": st.builds(KCentresClass, totals, st.integers(1, 20), st.integers(1, 20)),
    **{
        key: st.builds(
            LogisticClass, totals, st.sampled_from([(0.5, 0.5), (0.05, 0.95), (0.2, 0.3, 0.5), (0.1, 0.2)])
        )
        for key in ("LG", "LG-P", "LG-M", "LG-MP")
    },
    "MC-R": st.builds(
        lambda dimension, factor: RidgeClass(dimension * factor, dimension),
        st.floats(0.01, 50.0),
        st.floats(1.0, 10.0),
    ),
    "D2": st.builds(HalvingClass, totals, st.integers(1, 10**9), features(), queries),
    "D3": st.builds(
        HalvingSubspaceClass, totals, st.integers(1, 10**9), features(exact=True), st.integers(1, 5000)
    ),
    "D5": st.builds(
        HalvingStreamClass,
        st.builds(HalvingClass, totals, st.integers(1, 10**9), features(exact=True), queries),
        st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8).map(tuple),
        st.booleans(),
    ),
    "MR-V": st.builds(
        StreamClass, totals, st.lists(st.floats(0.01, 1.0), min_size=1, max_size=8).map(tuple), queries
    ),
}


def example(key: str) -> Any:
    """Parameters that fit a guarantee."""
    others = {
        "E1-H": SensitivityProfile([1.0, 0.5]),
        "TOP": SensitivityProfile([1.0, 0.5]),
        "E2": VCClass(2.0, 3),
        "E4": LipschitzClass(2.0),
        "E4-P": LipschitzClass(2.0),
        "MC": SubspaceClass(2.0, 2),
        "T4": HomogeneousClass(2.0),
        "T4-P": HomogeneousClass(2.0),
        "T5": BalancedClass(2.0, kappa=0.5),
        "T5-P": BalancedClass(2.0, kappa=0.5),
        "D4": FirstMomentClass(2.0, kappa=0.5),
        "D6": CalibratedClass(2.0, 3, 2.0, 0.5),
        "S2": HingeClass(2.0, 3),
        "S3": HingeNormClass(2.0),
        "S3-P": HingeNormClass(2.0),
        "KM-A": KCentresClass(2.0, 3, 2),
        "KM-L": KCentresClass(2.0, 3, 2),
        **{key: LogisticClass(2.0) for key in ("LG", "LG-P", "LG-M", "LG-MP")},
        "MC-R": RidgeClass(2.0, 1.5),
        "MR-V": StreamClass(2.0, (1.0, 1.0)),
        "D2": HalvingClass(2.0, 1000),
        "D3": HalvingSubspaceClass(2.0, 1000),
        "D5": HalvingStreamClass(HalvingClass(2.0, 1000), (1.0, 1.0)),
    }
    return others.get(key, FiniteClass(2.0, 3))


# ---- the laws that SamplingGuarantee states


@pytest.mark.parametrize("guarantee", SAMPLING, ids=key_of)
@settings(max_examples=25)
@given(data=st.data(), epsilon=epsilons, delta=deltas)
def test_size_is_the_least_integer_that_reaches_epsilon(
    guarantee: SamplingGuarantee[Any], data: st.DataObject, epsilon: float, delta: float
) -> None:
    parameters = data.draw(PARAMETERS[guarantee.key])
    m = guarantee.size(parameters, Accuracy(epsilon, delta))
    assert guarantee.epsilon(parameters, m, delta) <= epsilon
    if m > 1:
        assert guarantee.epsilon(parameters, m - 1, delta) > epsilon


@pytest.mark.parametrize("guarantee", SAMPLING, ids=key_of)
@settings(max_examples=12)
@given(data=st.data(), m=st.integers(1, 10**6), delta=deltas)
def test_the_size_for_the_epsilon_of_a_size_is_no_larger(
    guarantee: SamplingGuarantee[Any], data: st.DataObject, m: int, delta: float
) -> None:
    parameters = data.draw(PARAMETERS[guarantee.key])
    epsilon = guarantee.epsilon(parameters, m, delta)
    if 0.0 < epsilon <= 1.0:
        assert guarantee.size(parameters, Accuracy(epsilon, delta)) <= m


@pytest.mark.parametrize("guarantee", SAMPLING, ids=key_of)
@settings(max_examples=12)
@given(
    data=st.data(),
    m=st.integers(1, 10**5),
    more=st.integers(1, 10**5),
    delta=deltas,
    factor=st.floats(1.0, 5.0),
)
def test_epsilon_falls_with_size_and_delta_and_size_with_epsilon_and_delta(
    guarantee: SamplingGuarantee[Any], data: st.DataObject, m: int, more: int, delta: float, factor: float
) -> None:
    parameters = data.draw(PARAMETERS[guarantee.key])
    risk = min(0.99, factor * delta)
    rounded_up = 1 + 1e3 * EPS
    assert (
        guarantee.epsilon(parameters, m + more, delta) <= guarantee.epsilon(parameters, m, delta) * rounded_up
    )
    assert guarantee.epsilon(parameters, m, risk) <= guarantee.epsilon(parameters, m, delta) * rounded_up
    base = guarantee.size(parameters, Accuracy(0.2, delta))
    assert guarantee.size(parameters, Accuracy(min(1.0, 0.2 * factor), delta)) <= base
    assert guarantee.size(parameters, Accuracy(0.2, risk)) <= base


@pytest.mark.parametrize(
    "guarantee", [g for g in SAMPLING if g.key not in {"E1-H", "TOP", "MC", "D5"}], ids=key_of
)
@settings(max_examples=12)
@given(data=st.data(), factor=st.floats(1.0, 5.0), delta=deltas)
def test_size_grows_with_the_total(
    guarantee: SamplingGuarantee[Any], data: st.DataObject, factor: float, delta: float
) -> None:
    small = data.draw(PARAMETERS[guarantee.key])
    fields = {name: getattr(small, name) for name in type(small).__dataclass_fields__}
    large = type(small)(**(fields | {"total_sensitivity": factor * small.total_sensitivity}))
    accuracy = Accuracy(0.2, delta)
    assert guarantee.size(large, accuracy) >= guarantee.size(small, accuracy)
    assert guarantee.epsilon(large, 1000, delta) >= guarantee.epsilon(small, 1000, delta) * (1 - 1e3 * EPS)


def test_claims_ask_their_guarantee() -> None:
    claim = Claim(FinitePoisson(), FiniteClass(5.0, 3))
    m = claim.size(Accuracy(0.2, 0.1))
    assert m == FinitePoisson().size(FiniteClass(5.0, 3), Accuracy(0.2, 0.1))
    assert claim.accuracy(m, 0.1).epsilon <= 0.2
    assert claim.accuracy(m, 0.1).delta == 0.1


# ---- which samplers a proof covers


@pytest.mark.parametrize("guarantee", GUARANTEES, ids=key_of)
@pytest.mark.parametrize("scheme", Scheme, ids=key_of)
def test_asking_for_a_scheme_that_the_proof_does_not_cover_is_an_error(
    guarantee: Guarantee, scheme: Scheme
) -> None:
    if scheme in guarantee.schemes:
        guarantee.require(scheme)
        return
    with pytest.raises(AssumptionError) as caught:
        guarantee.require(scheme)
    assert guarantee.key in str(caught.value)
    assert scheme.value in str(caught.value)
    assert all(covered.value in str(caught.value) for covered in guarantee.schemes)


def test_the_schemes_are_those_of_the_proofs() -> None:
    covered = {g.key: {s.name for s in g.schemes} for g in GUARANTEES}
    assert covered == {
        "E1": {"WITH_REPLACEMENT"},
        "E1-KL": {"WITH_REPLACEMENT"},
        "E1-P": {"POISSON"},
        "E1-F": {"FIXED_SIZE"},
        "E1-H": {"HYBRID"},
        "TOP": {"TOP"},
        "DM": {"POISSON", "FIXED_SIZE", "WITH_REPLACEMENT"},
        "E2": {"WITH_REPLACEMENT"},
        "E4": {"WITH_REPLACEMENT"},
        "E4-P": {"POISSON"},
        "MC": {"WITH_REPLACEMENT", "POISSON", "FIXED_SIZE"},
        "LEV": set(),
        "LEWIS": set(),
        "T4": {"WITH_REPLACEMENT"},
        "T4-P": {"POISSON"},
        "T5": {"WITH_REPLACEMENT"},
        "T5-P": {"POISSON"},
        **{f"M{i}": set() for i in range(1, 8)},
        "D4": {"POISSON"},
        "D6": {"POISSON"},
        "D7": set(),
        "D1": set(),
        "D2": {"HALVING"},
        "D3": {"HALVING"},
        "D5": {"HALVING"},
        "S2": {"WITH_REPLACEMENT"},
        "S3": {"WITH_REPLACEMENT"},
        "S3-P": {"POISSON"},
        "LG": {"WITH_REPLACEMENT"},
        "LG-P": {"POISSON"},
        "LG-M": {"WITH_REPLACEMENT"},
        "LG-MP": {"POISSON"},
        "LD": set(),
        "RL": set(),
        "MC-R": {"WITH_REPLACEMENT", "POISSON", "FIXED_SIZE"},
        "MR-V": {"WITH_REPLACEMENT", "POISSON", "FIXED_SIZE"},
        "KM-A": {"WITH_REPLACEMENT"},
        "KM-L": {"WITH_REPLACEMENT"},
        "KM": set(),
        "KM-B": set(),
        **{key: set() for key in ("CAR", "T1", "T2", "T6", "T7", "S1", "S4", "S5", "SG", "MR")},
    }


def test_the_bounds_for_draws_with_replacement_do_break_under_poisson_sampling() -> None:
    """Equal costs, n points, t = 1: every draw is exact, the Poisson count is not."""
    n, m, epsilon = 200, 20, 0.2
    counts = np.arange(n + 1)
    failing = float(binom.pmf(counts, n, m / n)[np.abs(counts / m - 1.0) > epsilon].sum())
    assert failing > 0.25
    assert FiniteRelativeEntropy().epsilon(FiniteClass(1.0), m, 1e-6) < epsilon
    assert FinitePoisson().epsilon(FiniteClass(1.0), m, failing) >= epsilon


# ---- metadata


@pytest.mark.parametrize("guarantee", GUARANTEES, ids=key_of)
def test_every_guarantee_is_completely_described(guarantee: Guarantee) -> None:
    assert guarantee.key
    assert guarantee.title
    assert guarantee.statement.rstrip().endswith((".", ")"))
    assert guarantee.citation.key.isascii()
    assert guarantee.citation.text
    assert isinstance(guarantee.status, Status)
    assert isinstance(guarantee.quantifier, Quantifier)
    assert guarantee.assumptions
    assert all(a.statement for a in guarantee.assumptions)
    assert all(isinstance(s, Scheme) for s in guarantee.schemes)
    assert bool(guarantee.schemes) == isinstance(guarantee, SamplingGuarantee)
    assert inspect.getdoc(type(guarantee))
    assert guarantee.key in repr(guarantee)


def test_keys_are_unique_and_statements_differ() -> None:
    assert len({g.key for g in GUARANTEES}) == len({g.statement for g in GUARANTEES}) == len(GUARANTEES)


# ---- refusals


@pytest.mark.parametrize("guarantee", SAMPLING, ids=key_of)
@pytest.mark.parametrize("epsilon", [0.0, 1.1, math.inf])
def test_an_epsilon_out_of_range_is_refused(guarantee: SamplingGuarantee[Any], epsilon: float) -> None:
    with pytest.raises(ValueError, match="epsilon = "):
        guarantee.size(example(guarantee.key), Accuracy(epsilon, 0.1))


@pytest.mark.parametrize("guarantee", SAMPLING, ids=key_of)
@pytest.mark.parametrize("delta", [-0.1, 0.0, 1.0, 2.0, math.nan])
def test_a_delta_out_of_range_is_refused(guarantee: SamplingGuarantee[Any], delta: float) -> None:
    if guarantee.key == "TOP" and delta in (0.0, 1.0):
        return  # nothing is random
    with pytest.raises(ValueError, match="delta = "):
        guarantee.epsilon(example(guarantee.key), 10, delta)


@pytest.mark.parametrize("guarantee", SAMPLING, ids=key_of)
def test_a_size_that_is_no_positive_integer_is_refused(guarantee: SamplingGuarantee[Any]) -> None:
    parameters = example(guarantee.key)
    with pytest.raises(ValueError, match="size = 0 is too small"):
        guarantee.epsilon(parameters, 0, 0.1)
    with pytest.raises(TypeError, match=r"size = 2\.5 is not an integer"):
        guarantee.epsilon(parameters, 2.5, 0.1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda: FiniteClass(0.9), AssumptionError, "total_sensitivity = 0.9 is below 1"),
        (lambda: FiniteClass(math.inf), ValueError, "total_sensitivity = inf is not finite"),
        (lambda: FiniteClass(2.0, 0), ValueError, "queries = 0 is too small"),
        (lambda: FiniteClass(2.0, 1.5), TypeError, "queries = 1.5 is not an integer"),  # type: ignore[arg-type]
        (lambda: SensitivityProfile([0.4, 0.5]), AssumptionError, "total_sensitivity = 0.9 is below 1"),
        (lambda: SensitivityProfile([1.0, -0.5]), ValueError, r"values\[1\] = -0.5 is negative"),
        (lambda: SensitivityProfile([[1.0, 0.5]]), ValueError, r"values has shape \(1, 2\)"),
        (lambda: VCClass(2.0, 0), ValueError, "dimension = 0 is too small"),
        (lambda: VCClass(2.0, 3, 0), ValueError, "unions = 0 is too small"),
        (lambda: LipschitzClass(2.0, 0.0), ValueError, "norm_ratio = 0 is not positive"),
        (lambda: LipschitzClass(2.0, 1.0, -1.0), ValueError, "range_ratio = -1 is not positive"),
        (lambda: LipschitzClass(2.0, outputs=0), ValueError, "outputs = 0 is too small"),
        (lambda: SubspaceClass(2.0, 3), AssumptionError, "total_sensitivity = 2 is below the rank 3"),
        (lambda: SubspaceClass(2.0, 0), ValueError, "rank = 0 is too small"),
    ],
)
def test_invalid_parameters_are_named(make: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        make()


def test_a_total_below_one_by_rounding_counts_as_one() -> None:
    assert FiniteClass(1.0 - 1e-9).total_sensitivity == 1.0
    assert SubspaceClass(3.0 * (1 - 1e-9), 3).total_sensitivity == 3.0


@given(st.integers(1, 10**9), st.floats(0.0, 4.0))
def test_least_integer_is_exact_from_any_estimate(answer: int, misjudged: float) -> None:
    assert least_integer(lambda m: m >= answer, answer * misjudged) == answer


@pytest.mark.parametrize("start", [math.inf, math.nan, 1.0])
def test_least_integer_answers_up_to_2_to_the_53_whatever_the_estimate(start: float) -> None:
    assert least_integer(lambda m: m >= 7, start) == 7
    assert least_integer(lambda m: m >= 2**53, start) == 2**53
    with pytest.raises(OverflowError, match=r"no size below 2\^53 reaches"):
        least_integer(lambda m: False, start)


OVERFLOWING = [
    (FiniteIID(), FiniteClass(3.0, 2)),
    (FiniteRelativeEntropy(), FiniteClass(3.0, 2)),
    (FinitePoisson(), FiniteClass(3.0, 2)),
    (FiniteFixedSize(), FiniteClass(3.0, 2)),
    (DefensiveMixing(), FiniteClass(3.0, 2)),
    (VCIID(), VCClass(3.0, 2)),
    (LipschitzIID(), LipschitzClass(3.0)),
    (LipschitzPoisson(), LipschitzClass(3.0)),
    (MatrixChernoff(), SubspaceClass(3.0, 2)),
]


@pytest.mark.parametrize(("guarantee", "parameters"), OVERFLOWING, ids=lambda x: getattr(x, "key", ""))
@pytest.mark.parametrize("epsilon", [1e-12, 1e-160, 1e-300, 5e-324])
def test_a_size_beyond_all_floats_is_one_clear_error(guarantee: Any, parameters: Any, epsilon: float) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(OverflowError, match=r"no size below 2\^53 .* ask for a larger one of them"):
            guarantee.size(parameters, Accuracy(epsilon, 0.1))


@pytest.mark.parametrize("guarantee", [FiniteHybrid(), TopRemainder()])
@pytest.mark.parametrize("epsilon", [1e-12, 1e-160, 1e-300, 5e-324])
def test_a_profile_needs_at_most_one_more_than_all_points_at_any_epsilon(
    guarantee: Any, epsilon: float
) -> None:
    assert guarantee.size(SensitivityProfile([1.0, 1.0, 0.5]), Accuracy(epsilon, 0.1)) <= 4


@pytest.mark.parametrize("guarantee", GUARANTEES, ids=lambda g: g.key)
def test_guarantees_are_values(guarantee: Any) -> None:
    copy = pickle.loads(pickle.dumps(guarantee))
    assert copy == guarantee
    assert hash(copy) == hash(guarantee)
    assert sum(guarantee == other for other in GUARANTEES) == 1


@pytest.mark.parametrize("parameters", [FiniteClass(3.0, 2), SensitivityProfile([1.0, 1.0], 2)])
def test_equal_claims_are_equal_after_pickling(parameters: Any) -> None:
    claim = Claim(FiniteHybrid(), parameters)
    copy = pickle.loads(pickle.dumps(claim))
    assert copy == claim
    assert hash(copy) == hash(claim)
    assert claim != Claim(TopRemainder(), parameters)
    assert claim != Claim(FiniteHybrid(), SensitivityProfile([1.0, 0.5]))
