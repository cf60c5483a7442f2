"""Sums of |p.x|, ReLU sums and layers: costs, bounds, claims, achieved errors, refusals."""

from __future__ import annotations

from typing import Any

import array_api_strict
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import linprog

from coresets import (
    IID,
    Accuracy,
    Coreset,
    FixedSize,
    Hybrid,
    Loss,
    Poisson,
    Sampler,
    SensitivityReducer,
    Top,
    WeightedSet,
)
from coresets.errors import AssumptionError
from coresets.guarantees import BalancedClass, HomogeneousClass
from coresets.homogeneous import (
    Absolute,
    AbsoluteSum,
    HomogeneousSum,
    Identity,
    LeakyReLU,
    Link,
    ReLU,
    ReLUSum,
    relu_balance,
)
from coresets.sensitivity import Sensitivities, lewis_weights

EPS = float(np.finfo(np.float64).eps)
LP = 1e-7  # accuracy of the linear programmes

seeds = st.integers(0, 2**32 - 1)
LINKS: list[Link] = [ReLU(), LeakyReLU(0.2), LeakyReLU(-0.5), Absolute(), Identity()]
LOSSES = [AbsoluteSum(), ReLUSum(), HomogeneousSum(np.full(300, 0.5))]
samplers = pytest.mark.parametrize(
    ("sampler", "suffix"), [(IID(), ""), (Poisson(), "-P")], ids=["IID", "Poisson"]
)


def cloud(n: int, d: int = 3, seed: int = 0) -> WeightedSet:
    rng = np.random.default_rng(seed)
    return WeightedSet(rng.standard_t(3, (n, d)), rng.uniform(0.5, 2.0, n))


def worst_relu_share(rows: np.ndarray, i: int) -> float:
    """Largest a_i.x subject to sum [a_j.x]_+ <= 1, as a linear programme in (x, bounds on the terms)."""
    n, d = rows.shape
    constraints = np.block([[rows, -np.eye(n)], [np.zeros((1, d)), np.ones((1, n))]])
    bounds = [(None, None)] * d + [(0.0, None)] * n
    solved = linprog(np.r_[-rows[i], np.zeros(n)], constraints, np.r_[np.zeros(n), 1.0], bounds=bounds)
    return -float(solved.fun)


# --- costs and bounds -----------------------------------------------------------------------------


def test_costs_are_absolute_values_and_positive_parts() -> None:
    data, query = cloud(50), np.array([1.0, -2.0, 0.5])
    images = data.points @ query
    np.testing.assert_array_equal(AbsoluteSum().costs(data, query), np.abs(images))
    np.testing.assert_array_equal(ReLUSum().costs(data, query), np.maximum(images, 0.0))
    np.testing.assert_array_equal(HomogeneousSum(np.ones(50)).costs(data, query), np.abs(images))


@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_queries_of_the_wrong_length_are_refused(loss: Loss) -> None:
    with pytest.raises(ValueError, match=r"query has shape \(2,\); expected \(3,\)"):
        loss.costs(cloud(300), np.ones(2))


@settings(max_examples=10)
@given(seeds)
def test_relu_sensitivities_bound_the_exact_ones(seed: int) -> None:
    rng = np.random.default_rng(seed)
    data = WeightedSet(rng.standard_normal((20, 2)), rng.uniform(0.5, 2.0, 20))
    rows = data.points * data.weights[:, None]
    values = ReLUSum().sensitivities(data).values
    exact = np.array([worst_relu_share(rows, i) for i in range(data.n)])
    assert np.all(exact <= values * (1.0 + LP))


def test_relu_sensitivities_are_lewis_weights_over_half_kappa_and_not_capped() -> None:
    data = WeightedSet(np.array([[3.0], [-1.0]]))
    bound = ReLUSum().sensitivities(data)
    np.testing.assert_allclose(bound.values, 2.0 * lewis_weights(data.points).values / 0.5, rtol=1e-9)
    assert bound.values.max() > 1.0
    assert [c.name for c in bound.certificates] == ["Lewis weights", "ReLU balance"]


def test_relu_sums_that_can_vanish_are_refused_with_the_remedy() -> None:
    data = WeightedSet(np.abs(cloud(100).points))
    with pytest.raises(AssumptionError, match=r"use HomogeneousSum, whose error is relative to the sum of"):
        SensitivityReducer(ReLUSum()).reduce(data, size=10, rng=0)


def test_points_without_cost_need_no_coreset() -> None:
    data = WeightedSet(np.zeros((5, 2)))
    for loss in (AbsoluteSum(), ReLUSum(), HomogeneousSum(np.ones(5))):
        assert SensitivityReducer(loss).reduce(data, size=2, rng=0).accuracy.is_exact


# --- claims ---------------------------------------------------------------------------------------


@samplers
def test_claims_name_the_theorem_for_the_sampler(sampler: Sampler, suffix: str) -> None:
    data = cloud(300)
    layer = HomogeneousSum(np.full((300, 2), 0.5))
    for loss, key in ((AbsoluteSum(), "T4"), (ReLUSum(), "T5"), (layer, "T4")):
        claim = SensitivityReducer(loss, sampler).claim(data)
        assert claim.guarantee.key == key + suffix
        # Lewis weights add up to the rank; those certified are a little larger.
        assert claim.parameters.total_sensitivity == pytest.approx(3.0, rel=1e-6)


@pytest.mark.parametrize("sampler", [FixedSize(), Hybrid(), Top()], ids=lambda s: type(s).__name__)
@pytest.mark.parametrize("loss", LOSSES, ids=lambda loss: type(loss).__name__)
def test_samplers_without_a_theorem_are_refused(loss: Loss, sampler: Sampler) -> None:
    with pytest.raises(AssumptionError, match=r"no theorem promises a coreset for .*; use Poisson or IID"):
        SensitivityReducer(loss, sampler).claim(cloud(300))


@pytest.mark.parametrize("defensive", [False, True])
def test_the_claim_for_relu_sums_counts_all_of_the_sampled_bounds(defensive: bool) -> None:
    data = cloud(300)
    reducer = SensitivityReducer(ReLUSum(), defensive=defensive)
    claim, total = reducer.claim(data), reducer.sensitivities(data).total
    assert isinstance(claim.parameters, BalancedClass)
    assert claim.parameters.kappa == relu_balance(data.points, data.weights).kappa
    assert claim.parameters.lipschitz().total_sensitivity == pytest.approx(total, rel=4 * EPS)


def test_relu_bounds_of_the_callers_own_get_their_kappa_computed() -> None:
    data = cloud(300)
    own = Sensitivities(ReLUSum().sensitivities(data).values)
    assert SensitivityReducer(ReLUSum()).claim(data, own) == SensitivityReducer(ReLUSum()).claim(data)


def test_a_smaller_kappa_costs_its_inverse_square() -> None:
    sizes = [
        SensitivityReducer(ReLUSum(), IID()).claim(WeightedSet(points)).size(Accuracy(0.2, 0.1))
        for points in (np.array([[1.0], [-1.0]]), np.array([[3.0], [-1.0]]))  # kappa 1 and 1/2
    ]
    assert sizes[1] / sizes[0] == pytest.approx(4.0, rel=1e-3)


@pytest.mark.parametrize(
    ("outgoing", "link", "expected"),
    [
        ([1.0, 2.0], ReLU(), 1.0),
        ([-1.0, -2.0], ReLU(), 1.0),
        ([[1.0, -1.0], [2.0, -3.0]], ReLU(), 1.0),  # each output has one sign
        ([1.0, -2.0], ReLU(), 2.0),
        ([[1.0, 1.0], [2.0, -3.0]], ReLU(), 2.0),
        ([1.0, 2.0], LeakyReLU(0.25), 1.25),
        ([1.0, 2.0], LeakyReLU(-0.25), 1.0),
        ([1.0, 2.0], Absolute(), 1.0),
        ([1.0, 2.0], Identity(), 2.0),
        ([1.0, -2.0], Absolute(), 2.0),
    ],
)
def test_the_range_of_a_layer_depends_on_signs_and_link(outgoing: Any, link: Link, expected: float) -> None:
    layer = HomogeneousSum(outgoing, link)
    parameters = SensitivityReducer(layer).claim(layer.data(np.array([[1.0], [-1.0]]))).parameters
    assert isinstance(parameters, HomogeneousClass)
    assert parameters.range_ratio == expected
    assert parameters.outputs == layer.output_count + 1  # the normaliser is kept too


# --- layers ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("link", LINKS, ids=repr)
def test_outputs_are_sums_of_links(link: Link) -> None:
    rng = np.random.default_rng(0)
    points, outgoing, query = rng.standard_normal((40, 3)), rng.standard_normal((40, 2)), np.ones(3)
    layer = HomogeneousSum(outgoing, link)
    expected = [
        sum(w * (z if z > 0 else link.slope * z) for w, z in zip(column, points @ query, strict=True))
        for column in outgoing.T
    ]
    assert layer.outputs(layer.data(points), query) == pytest.approx(np.array(expected), abs=1e3 * EPS)


def test_masses_are_the_largest_outgoing_weights() -> None:
    layer = HomogeneousSum([[1.0, -3.0], [0.0, 0.5]])
    np.testing.assert_array_equal(layer.data(np.eye(2)).weights, [3.0, 0.5])


@settings(max_examples=20)
@given(seeds, st.sampled_from(LINKS))
def test_shares_of_outputs_never_exceed_the_bounds(seed: int, link: Link) -> None:
    """|w_k(p) phi(p.x)| / N(x) <= s(p), and the shares of an output add up to at most 1 in absolute value."""
    rng = np.random.default_rng(seed)
    layer = HomogeneousSum(rng.standard_normal((30, 3)), link)
    data = layer.data(rng.standard_t(3, (30, 2)))
    values = layer.sensitivities(data).values
    for query in rng.standard_normal((50, 2)):
        normaliser = float(data.weights @ layer.costs(data, query))
        images = data.points @ query
        shares = (
            np.abs(layer.outgoing * np.where(images > 0, images, link.slope * images)[:, None]) / normaliser
        )
        assert np.all(shares.max(axis=1) <= values * (1.0 + 1e-9))
        assert np.all(shares.sum(axis=0) <= 1.0 + 1e-12)


def test_all_points_with_their_own_weights_have_no_error() -> None:
    rng = np.random.default_rng(1)
    layer = HomogeneousSum(rng.standard_normal((20, 2)))
    data = layer.data(rng.standard_normal((20, 3)))
    everything = Coreset(np.arange(20), data.weights, 20, Accuracy.exact())
    np.testing.assert_allclose(layer.relative_errors(data, everything, np.ones(3)), 0.0, atol=10 * EPS)
    np.testing.assert_array_equal(layer.reweighted(data, everything), layer.outgoing)
    np.testing.assert_array_equal(layer.relative_errors(data, everything, np.zeros(3)), 0.0)


def test_points_that_nothing_listens_to_are_never_kept() -> None:
    rng = np.random.default_rng(2)
    outgoing = rng.standard_normal((200, 2))
    outgoing[::2] = 0.0
    layer = HomogeneousSum(outgoing)
    data = layer.data(rng.standard_normal((200, 3)))
    coreset = SensitivityReducer(layer, defensive=True).reduce(data, size=50, rng=0)
    assert np.all(coreset.indices % 2 == 1)
    assert np.all(np.isfinite(layer.reweighted(data, coreset)))


def test_errors_of_a_coreset_average_out() -> None:
    """Unbiased: over independent coresets the mean of z~ approaches z, at six standard errors here."""
    rng = np.random.default_rng(3)
    layer = HomogeneousSum(rng.standard_normal((100, 1)))
    data = layer.data(rng.standard_normal((100, 2)))
    query = np.array([1.0, 0.5])
    reducer = SensitivityReducer(layer)
    images = np.maximum(data.points @ query, 0.0)
    estimates = []
    for seed in range(400):
        coreset = reducer.reduce(data, size=30, rng=seed)
        estimates.append(float(images[coreset.indices] @ layer.reweighted(data, coreset)[:, 0]))
    error = np.mean(estimates) - float(layer.outputs(data, query)[0])
    assert abs(error) <= 6.0 * np.std(estimates) / np.sqrt(400)


@samplers
def test_achieved_errors_stay_within_the_claims(sampler: Sampler, suffix: str) -> None:
    """Slack is large: observed errors are below a half of the claims, which fail at most 5% of the time."""
    rng = np.random.default_rng(4)
    queries = [*rng.standard_normal((50, 2)), np.ones(2)]
    layer = HomogeneousSum(rng.standard_normal((30_000, 2)), LeakyReLU(0.1))
    data = layer.data(rng.standard_t(3, (30_000, 2)))
    for loss in (AbsoluteSum(), ReLUSum(), layer):
        coreset = SensitivityReducer(loss, sampler).reduce(data, accuracy=Accuracy(0.4, 0.05), rng=0)
        assert coreset.support_size < data.n
        kept = coreset.of(data)
        for query in queries:
            full = float(np.sum(data.weights * loss.costs(data, query)))
            assert abs(float(np.sum(kept.weights * loss.costs(kept, query))) / full - 1.0) <= 0.4
            if loss is layer:
                assert np.max(layer.relative_errors(data, coreset, query)) <= 0.4


def test_data_with_too_little_mass_are_refused() -> None:
    layer = HomogeneousSum([1.0, -2.0])
    with pytest.raises(AssumptionError, match="exceeds the mass of its point, at point 1"):
        layer.sensitivities(WeightedSet(np.eye(2), [1.0, 1.0]))
    layer.sensitivities(WeightedSet(np.eye(2), [1.0, 3.0]))  # more than needed is fine
    with pytest.raises(ValueError, match="outgoing has 2 rows; the data have 3 points"):
        layer.sensitivities(WeightedSet(np.eye(3)))


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ((np.zeros((0, 2)),), ValueError, "outgoing has shape"),
        ((np.zeros((2, 2, 2)),), ValueError, "outgoing has shape"),
        (([1.0, np.nan],), ValueError, r"outgoing\[1\] = nan is not finite"),
        (([1.0], ReLU), TypeError, "link"),
        (([1.0], "relu"), TypeError, "link"),
    ],
)
def test_bad_layers_are_refused(arguments: Any, error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        HomogeneousSum(*arguments)


@pytest.mark.parametrize("slope", [1.5, -2.0])
def test_links_are_one_lipschitz(slope: float) -> None:
    with pytest.raises(ValueError, match=r"outside \[-1, 1\]"):
        LeakyReLU(slope)


def test_free_points_have_no_outgoing_weights() -> None:
    layer = HomogeneousSum([1.0, 1.0])
    free = Coreset(None, [1.0], 1, Accuracy.exact(), points=np.ones((1, 2)))
    with pytest.raises(TypeError, match="free points"):
        layer.reweighted(layer.data(np.eye(2)), free)
    with pytest.raises(TypeError, match="free points"):
        layer.relative_errors(layer.data(np.eye(2)), free, np.ones(2))


def torch_array(values: np.ndarray) -> Any:
    return pytest.importorskip("torch").asarray(values)


@pytest.mark.parametrize("convert", [torch_array, array_api_strict.asarray], ids=["torch", "strict"])
def test_other_libraries_get_the_same_coresets(convert: Any) -> None:
    rng = np.random.default_rng(5)
    points, outgoing, query = rng.standard_normal((400, 2)), rng.standard_normal((400, 2)), np.ones(2)
    plain, foreign = HomogeneousSum(outgoing), HomogeneousSum(convert(outgoing))
    data, foreign_data = plain.data(points), foreign.data(convert(points))
    for ours, theirs in ((plain, foreign), (AbsoluteSum(), AbsoluteSum()), (ReLUSum(), ReLUSum())):
        one = SensitivityReducer(ours).reduce(data, size=100, rng=0)
        other = SensitivityReducer(theirs).reduce(foreign_data, size=100, rng=0)
        np.testing.assert_array_equal(np.asarray(other.indices), one.indices)
        costs = np.asarray(theirs.costs(foreign_data, convert(query)))
        np.testing.assert_allclose(costs, ours.costs(data, query), rtol=0, atol=100 * EPS)
        if ours is plain:
            errors = np.asarray(foreign.relative_errors(foreign_data, other, convert(query)))
            np.testing.assert_allclose(
                errors, plain.relative_errors(data, one, query), rtol=0, atol=1e3 * EPS
            )
