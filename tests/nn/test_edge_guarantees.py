"""The formulas of Q1 to Q7, P1 to P4 and C1 to C4: published figures, exact inverses, and planted faults."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from coresets import Accuracy
from coresets.errors import AssumptionError
from coresets.guarantee import Scheme
from coresets.sampling import sample_fixed_size, sample_iid, sample_poisson
from nn.guarantees.corenet import AmplifiedSide, CoreNetConstants, CoreNetSide, NetworkCompression
from nn.guarantees.edges import (
    ComposedError,
    EdgeInclusion,
    EdgeSampling,
    EdgeTruncation,
    SampledLayer,
    SensitivityTransfer,
    SideClass,
    SignedNeuron,
    SureInclusion,
)

LENET = {"layers": 3, "neurons": 410, "accuracy": Accuracy(0.5, 0.1)}


def test_sample_sizes_of_the_authors_are_reproduced():
    deltas = [10, 1, *(10.0**-k for k in (1, 2, 4, 6, 8, 10, 12, 14, 16, 20, 24, 28, 32))]
    published = [35, 42, 49, 56, 70, 83, 97, 111, 125, 139, 152, 180, 208, 235, 263]
    # They leave the input dimension out: the largest width is taken to be 300.
    assert [SensitivityTransfer().examples(8 * 410 * 300, delta) for delta in deltas] == published


def test_constants_of_lenet_are_reproduced():
    constants = CoreNetConstants(width=784, **LENET)
    assert constants.examples == 217
    assert constants.kappa == pytest.approx(219.9, abs=0.05)
    without_inputs = CoreNetConstants(width=300, **LENET)
    assert without_inputs.examples == 189
    assert without_inputs.kappa == pytest.approx(192.1, abs=0.05)


def test_theoretical_sizes_of_lenet_are_astronomic():
    constants = CoreNetConstants(width=784, **LENET)
    errors = constants.layer_errors([1.0, 1.0, 1.0])  # conditions are at least 1
    # Published to two digits.
    assert errors[-1] == pytest.approx(3.8e-4, rel=0.02)
    assert errors[0] == pytest.approx(7.7e-9, rel=0.02)
    draws = [CoreNetSide().draws(1.0, constants, error) for error in errors]
    assert draws[-1] == pytest.approx(7.4e9, rel=0.02)
    assert draws[0] == pytest.approx(1.8e19, rel=0.02)


def test_size_of_the_worked_example():
    # b = 5, ln(2 / delta) = 3.689, eps = 0.3.
    assert EdgeSampling().size(SideClass(5.0), Accuracy(0.3, 0.05)) == 451


@given(b=st.floats(1.0, 1e4), epsilon=st.floats(0.01, 1.0), delta=st.floats(1e-9, 0.5))
def test_size_and_error_are_inverse(b, epsilon, delta):
    law, side = EdgeSampling(), SideClass(b)
    m = law.size(side, Accuracy(epsilon, delta))
    assert law.epsilon(side, m, delta) <= epsilon
    assert m == 1 or law.epsilon(side, m - 1, delta) > epsilon


@given(b=st.floats(1.0, 1e4), m=st.integers(1, 10**6), delta=st.floats(1e-9, 0.5))
def test_error_is_the_closed_form(b, m, delta):
    A = b * math.log(2.0 / delta) / (3.0 * m)
    assert EdgeSampling().epsilon(SideClass(b), m, delta) == pytest.approx(
        A + math.sqrt(A * A + 6.0 * A), rel=1e-9
    )


@given(b=st.floats(1.0, 1e3), m=st.integers(1, 10**5))
def test_error_of_the_released_code_is_too_small(b, m):
    # (a + sqrt(a^2 + 6 a)) / 2 with a = 2 A: an error at which Bernstein's inequality does not give delta.
    delta = 0.05
    a = 2.0 * b * math.log(2.0 / delta) / (3.0 * m)
    released = 0.5 * (a + math.sqrt(a * a + 6.0 * a))
    ours = EdgeSampling().epsilon(SideClass(b), m, delta)
    assert released < ours <= math.sqrt(2.0) * released * (1.0 + 1e-9)
    exponent = m * released**2 / (b * (2.0 + 2.0 * released / 3.0))
    assert 2.0 * math.exp(-exponent) > delta


@given(b=st.floats(1.0, 1e3), m=st.integers(1, 10**5), factor=st.integers(1, 50))
def test_statements_and_factors_enter_as_a_union_and_a_product(b, m, factor):
    law = EdgeSampling()
    assert law.epsilon(SideClass(b, statements=factor), m, 0.1) == law.epsilon(SideClass(b), m, 0.1 / factor)
    assert law.epsilon(SideClass(b, factor=3.0), m, 0.1) == law.epsilon(SideClass(3.0 * b), m, 0.1)


@given(b=st.floats(1e-3, 1e3), m=st.integers(1, 10**4))
def test_sure_inclusion_is_never_worse(b, m):
    assert SureInclusion().epsilon(SideClass(b), m, 0.1) <= EdgeSampling().epsilon(SideClass(b), m, 0.1)


@given(seed=st.integers(0, 100))
def test_errors_of_many_sides_are_those_of_each(seed):
    rng = np.random.default_rng(seed)
    rest, draws = rng.exponential(5.0, 6), rng.integers(1, 200, 6)
    found = SureInclusion().errors(rest, draws / rest, 3.0, 0.01)
    each = [
        SureInclusion().epsilon(SideClass(float(r), 3.0), int(m), 0.01)
        for r, m in zip(rest, draws, strict=True)
    ]
    np.testing.assert_allclose(found, each, rtol=1e-9)
    none = SureInclusion().errors(np.array([0.0, 1.0]), np.array([1.0, np.inf]), 3.0, 0.01)
    assert np.array_equal(none, [0.0, 0.0])


def test_guarantees_name_their_samplers():
    EdgeSampling().require(Scheme.WITH_REPLACEMENT)
    EdgeInclusion().require(Scheme.FIXED_SIZE)
    with pytest.raises(AssumptionError):
        EdgeSampling().require(Scheme.POISSON)


def test_poisson_failures_are_within_the_bound_by_exact_enumeration():
    # All 2^n outcomes for sides of ten edges whose shares equal their sensitivities: the worst case C = 1.
    rng = np.random.default_rng(0)
    law = EdgeInclusion()
    for _ in range(5):
        g = rng.dirichlet(np.full(10, 0.5))
        for m in (2.0, 4.0):
            pi = sample_poisson(g, m, rng=0).probabilities
            outcomes = np.array(list(itertools.product((0, 1), repeat=10)))
            odds = np.where(outcomes, pi, 1.0 - pi).prod(axis=1)
            sums = (outcomes * np.where(pi > 0, g / np.maximum(pi, 1e-300), 0.0)).sum(axis=1)
            for epsilon in (0.3, 0.6, 0.9):
                failure = odds[np.abs(sums - 1.0) >= epsilon].sum()
                assert failure <= 2.0 * math.exp(-m * epsilon**2 / (2.0 + 2.0 * epsilon / 3.0))
    assert law.schemes == {Scheme.POISSON, Scheme.FIXED_SIZE}


@pytest.mark.parametrize("sampler", [sample_iid, sample_poisson, sample_fixed_size])
def test_samplers_are_unbiased_and_within_the_bound(sampler):
    rng = np.random.default_rng(1)
    inputs = rng.gamma(0.5, size=(30, 40)) * rng.lognormal(size=40)
    shares = inputs / inputs.sum(axis=1, keepdims=True)
    s = shares.max(axis=0)
    m, trials = 25, 400
    weights = np.stack([sampler(s, m, rng=child).weights for child in rng.spawn(trials)])
    errors = np.abs(weights @ shares.T - 1.0)
    bound = EdgeSampling().epsilon(SideClass(float(s.sum())), m, 0.1)
    assert float((errors > bound).mean(axis=0).max()) <= 0.1
    # Six standard errors of the mean, whose variance is at most (b - 1) / m for one draw.
    spread = 6.0 * math.sqrt(s.sum() / m / trials)
    assert float(np.abs((weights @ shares.T).mean(axis=0) - 1.0).max()) <= spread


@given(seed=st.integers(0, 100), keep=st.integers(0, 20))
def test_truncation_loses_at_most_the_dropped_sensitivities(seed, keep):
    rng = np.random.default_rng(seed)
    shares = rng.dirichlet(np.full(20, 0.3), size=10)
    s = shares.max(axis=0)
    kept = np.argsort(-s)[:keep]
    lost = 1.0 - shares[:, kept].sum(axis=1)
    assert float(lost.max()) <= EdgeTruncation().errors(s.sum() - s[kept].sum(), 1.0) + 1e-12


@given(seed=st.integers(0, 100), epsilon=st.floats(0.0, 0.9))
def test_neurons_are_off_by_their_condition_times_the_sides(seed, epsilon):
    rng = np.random.default_rng(seed)
    terms = rng.standard_normal(12)
    up, down = np.maximum(terms, 0).sum(), np.maximum(-terms, 0).sum()
    condition = (up + down) / abs(up - down)
    for first, second in itertools.product((1 - epsilon, 1 + epsilon), repeat=2):
        off = abs((first * up - second * down) - (up - down)) / abs(up - down)
        assert off <= SignedNeuron().error(epsilon, condition) * (1 + 1e-9) + 1e-12


def test_composition_is_the_closed_bound_of_the_proof():
    constants = CoreNetConstants(width=784, **LENET)
    means = [3.0, 10.0, 2.0]
    conditions = [mean + constants.kappa for mean in means]
    final = ComposedError().errors(constants.layer_errors(means), conditions)
    assert all(error <= 0.5 for error in final[:-1])
    assert final[-1] <= NetworkCompression().output_error(constants) <= 0.83 * 0.5


def test_composition_ends_where_a_hidden_error_reaches_one():
    assert ComposedError().errors([0.6, 0.1, 0.1], [2.0, 1.0, 1.0])[1:] == [math.inf, math.inf]
    assert ComposedError().errors([0.0, 0.0], [math.inf, 1.0]) == [0.0, 0.0]


def test_transfer_holds_where_its_assumption_does_and_k_of_one_fails():
    # Shares uniform on [0, 1]: P(g <= 1/K) = 1/K, so K' = 1 / ln K.
    rng, K, pairs, delta = np.random.default_rng(0), 3.0, 50, 0.1
    n = SensitivityTransfer().examples(pairs, delta, rarity=1.0 / math.log(K))
    s = rng.random((500, n, pairs)).max(axis=1)
    assert float((K * s < 1.0).any(axis=1).mean()) <= delta
    assert float((1.0 * s < rng.random((500, pairs))).any(axis=1).mean()) > 5.0 * delta


@given(pairs=st.integers(1, 10**7), delta=st.floats(1e-12, 0.9), rarity=st.floats(0.1, 10.0))
def test_examples_and_failure_are_inverse(pairs, delta, rarity):
    law = SensitivityTransfer()
    n = law.examples(pairs, delta, rarity)
    assert law.failure(pairs, n, rarity) <= delta * (1 + 1e-9)
    assert n == 1 or law.failure(pairs, n - 1, rarity) > delta * (1 - 1e-9)


def test_amplification_example():
    law, b, epsilon, delta = AmplifiedSide(), 9.0, 0.5, 0.1
    m = math.ceil(400.0 / 81.0 * (b - 1.0) / epsilon**2)
    examples = math.ceil(8.0 * math.log(4.0 * law.candidates(delta) / delta) / epsilon**2)
    assert law.mean_error(SideClass(b), m, examples, delta) <= epsilon + 1e-12


def test_layers_count_sides_patches_and_halves():
    assert SampledLayer().statements(10, 9, 2) == 360


@pytest.mark.parametrize("bad", [0.0, -1.0, math.nan])
def test_totals_must_be_positive(bad):
    with pytest.raises(ValueError, match="total"):
        SideClass(bad)


def test_constants_need_a_network_and_an_error_below_one():
    with pytest.raises(AssumptionError):
        CoreNetConstants(1, 1, 1, Accuracy(0.5, 0.1))
    with pytest.raises(ValueError, match="outside"):
        CoreNetConstants(3, 410, 784, Accuracy(1.0, 0.1))
    with pytest.raises(ValueError, match="condition"):
        CoreNetConstants(width=784, **LENET).layer_errors([1.0])
