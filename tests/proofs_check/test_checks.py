"""Error rates: each honest construction here is refuted with probability at most 1e-6 if its theorem
is true. The draws are fixed by a seed.
"""

from __future__ import annotations

from importlib import import_module
from importlib.util import find_spec

import numpy as np
import pytest

from coresets.accuracy import Accuracy
from coresets.guarantees import GUARANTEES as ENGINE_GUARANTEES
from coresets.samplers import IID, Hybrid
from coresets.weighted_set import WeightedSet
from proofs_check import faults
from proofs_check.check import Check, Profile, Scenario
from proofs_check.checks import CHECKS
from proofs_check.checks._common import DELTA
from proofs_check.judge import ScenarioTest, run_scenario
from proofs_check.results import ScenarioResult, Verdict
from proofs_check.trials import ROUNDING
from proofs_check.workloads import Workload, adversarial, degenerate

HAS_TORCH = find_spec("torch") is not None
GUARANTEES = (*ENGINE_GUARANTEES, *(import_module("nn.guarantees").GUARANTEES if HAS_TORCH else ()))

SMALL = Profile(
    name="small",
    detect=0.4,
    miss=0.01,
    pilot=25,
    curve_trials=3,
    curve_sizes=2,
    scaling_trials=5,
    max_points=3000,
)
# Claims that nothing ever fails: a bound on every point, factor or moment. T5 makes such a claim about
# its constant, beside those about draws.
CERTAIN = {"LEV", "RL", "LEWIS", "CAR", "D7", "T1", "T2", "T6", "T7", *(f"M{i}" for i in range(1, 8))}
# Networks are made from the points, and a check may claim something certain of some and something
# likely of others.
NETWORKS = {c.key for c in CHECKS if type(c.guarantee).__module__.startswith("nn.")}
# Streams and support vector machines are attacked on sets of their own, where some statements are certain.
OWN_DATA = {"MR", "MR-V", "S1", "S2", "S3", "S3-P", "S4", "S5", "SG", "KM", "KM-B", "KM-A", "KM-L"}
OWN_DATA |= {"LG", "LG-P", "LG-M", "LG-MP", "LD"}
OWN_DATA |= {"D1", "D2", "D3", "D5"}  # walks over rows of their own, four points, and streams
OWN_DATA |= {"D4", "D6"}  # sums of ReLUs with first moments, and costs that features explain
CHECK = pytest.mark.parametrize("check", CHECKS, ids=[check.key for check in CHECKS])


def workloads() -> list[Workload]:
    """A rare direction, uneven lengths with many points about the origin, and a line."""
    rng = np.random.default_rng(0)
    uneven = rng.standard_normal((3000, 2)) * 10.0 ** rng.uniform(-2.0, 1.0, (3000, 1))
    heavy = Workload("uneven lengths", "real", WeightedSet(uneven, rng.uniform(0.5, 2.0, 3000)))
    named = {w.name: w for w in (*adversarial(), *degenerate())}
    return [heavy, named["rare direction"], named["half the mass at the origin"], named["collinear points"]]


def attacked(check: Check, scenario: Scenario) -> ScenarioResult:
    return run_scenario(scenario, ScenarioTest(SMALL, 1e-6, 1e-3, 0, check))


def test_every_guarantee_has_one_check_and_every_check_a_guarantee() -> None:
    keys = [check.key for check in CHECKS]
    assert len(set(keys)) == len(keys)
    assert sorted(keys) == sorted(guarantee.key for guarantee in GUARANTEES)
    assert {type(check.guarantee) for check in CHECKS} == {type(guarantee) for guarantee in GUARANTEES}


@CHECK
def test_every_planted_fault_is_described_and_every_description_is_planted(check: Check) -> None:
    planted = [
        fault.name
        for scenario in check.scenarios([*workloads(), *adversarial()], SMALL)
        for fault in scenario.faults
    ]
    assert set(planted) == set(check.faults)
    assert all(check.faults.values())


@CHECK
def test_scenarios_have_names_of_their_own(check: Check) -> None:
    names = [s.workload.name for s in check.scenarios([*adversarial(), *degenerate()], SMALL)]
    assert len(set(names)) == len(names)  # draws are keyed by them


@CHECK
def test_claims_are_those_of_the_theorem_and_sizes_below_the_data(check: Check) -> None:
    for scenario in check.scenarios(workloads(), SMALL):
        if scenario.trials == 1:  # the mean of many draws, which fails almost never
            assert 0.0 < scenario.claimed.delta < 1e-6
        elif check.key in NETWORKS:
            assert scenario.claimed.delta in (0.0, DELTA)
        elif check.key in OWN_DATA:
            assert scenario.claimed.delta in (0.0, DELTA)
            assert 1 <= scenario.size <= scenario.workload.n
            certain = scenario.claimed.delta == 0.0  # a ratio to the bound, at most 1
            assert bool(scenario.vacuous) == (scenario.claimed.vacuous and not certain)
            continue
        else:
            deterministic = check.key == "TOP" or _is_certain(check, scenario)
            assert scenario.claimed.delta == (0.0 if deterministic else DELTA)
        assert scenario.size >= 1
        if check.key in NETWORKS:
            continue
        assert scenario.size <= scenario.workload.n
        unheard = scenario.claimed.vacuous or scenario.claimed.epsilon < 10.0 * ROUNDING
        if check.key in ("TOP", "E2", "MC"):
            assert bool(scenario.vacuous) == unheard
        elif _is_certain(check, scenario):
            assert scenario.claimed == Accuracy(1.0, 0.0)
            assert not scenario.vacuous
        else:
            assert bool(scenario.vacuous) == scenario.claimed.vacuous
        if scenario.at_size is not None:
            assert scenario.at_size(scenario.size)[1] == scenario.claimed.epsilon


def _is_certain(check: Check, scenario: Scenario) -> bool:
    return check.key in CERTAIN or scenario.workload.name.endswith(", kappa")


@CHECK
def test_the_honest_construction_survives_and_a_planted_fault_is_caught(check: Check) -> None:
    small = workloads()
    if check.key in ("LEWIS", "T1", "T2", "T6", "T7"):  # one linear programme a point
        small = small[:2]
    elif check.key in ("E4", "E4-P"):  # exact in the plane and on the line, slow elsewhere
        small = [small[0], small[-1]]
    elif check.key in ("T4", "T4-P", "T5", "T5-P"):
        even = np.random.default_rng(1).standard_normal((3000, 2))
        small = [Workload("even lengths", "real", WeightedSet(even)), small[-1]]
    results = [
        attacked(check, scenario)
        for scenario in check.scenarios(small, SMALL)
        if "tensors" not in scenario.workload.name
    ]
    assert results
    for result in results:
        assert result.verdict in (Verdict.CONSISTENT, Verdict.VACUOUS), result.workload
        for fault in result.faults:
            assert fault.caught or not fault.required, (result.workload, fault.name)
    demanded = [fault for result in results for fault in result.faults if fault.required]
    assert demanded


def test_draws_on_tensors_are_attacked_where_torch_is_installed() -> None:
    pytest.importorskip("torch")
    by_key = {check.key: check for check in CHECKS}
    first = workloads()[:1]
    found = [s for s in by_key["E1"].scenarios(first, SMALL) if "tensors" in s.workload.name]
    assert [s.workload.name for s in found] == ["uneven lengths, tensors"]
    result = attacked(by_key["E1"], found[0])
    assert result.verdict is Verdict.CONSISTENT
    assert [(fault.required, fault.caught) for fault in result.faults] == [(True, True)]


def test_nothing_is_attacked_where_half_the_points_are_no_coreset() -> None:
    tiny = [Workload("tiny", "degenerate", WeightedSet(np.eye(4)))]
    for check in CHECKS:
        names = {s.workload.name for s in check.scenarios(tiny, SMALL)}
        if check.key in CERTAIN:  # about all points, not about a coreset
            assert any(name.startswith("tiny") for name in names) or check.key == "T6"
        else:
            assert not {name for name in names if name.startswith("tiny")} - {"tiny, kappa"}


SENSITIVITIES = np.random.default_rng(1).uniform(0.1, 3.0, 50) ** 3


@pytest.mark.parametrize("size", [1, 7, 30, 50, 80])
def test_faulty_samplers_err_as_their_descriptions_say(size: int) -> None:
    rng = np.random.default_rng(0)
    probabilities = SENSITIVITIES / SENSITIVITIES.sum()

    successive = faults.Successive().draw(SENSITIVITIES, size, rng)
    assert len(set(successive.indices)) == len(successive.indices) == min(size, 50)
    expected = 1.0 / (min(size, 50) * probabilities[successive.indices])
    assert successive.kept_weights == pytest.approx(expected, rel=1e-12)

    least = faults.LeastSensitive().draw(SENSITIVITIES, min(size, 50), None)
    assert SENSITIVITIES[least.indices].sum() == pytest.approx(np.sort(SENSITIVITIES)[:size].sum(), rel=1e-12)


def test_undivided_weights_are_the_counts_of_the_honest_draw() -> None:
    honest = IID().draw(SENSITIVITIES, 40, 5)
    broken = faults.Undivided(IID()).draw(SENSITIVITIES, 40, 5)
    assert np.array_equal(broken.indices, honest.indices)
    assert np.array_equal(broken.kept_weights, honest.kept_counts)


def test_uniform_draws_do_not_look_at_the_sensitivities() -> None:
    draw = faults.Uniform(IID()).draw(SENSITIVITIES, 40, 5)
    assert draw.probabilities == pytest.approx(np.full(50, 0.02), rel=1e-12)


def test_miscounted_draws_shrink_the_sampled_part_only() -> None:
    values = np.concatenate([[100.0, 50.0], np.full(40, 0.5)])
    honest = Hybrid().draw(values, 10, 3)
    broken = faults.FullDrawWeights().draw(values, 10, np.random.default_rng(3))
    assert np.array_equal(broken.indices, honest.indices)
    sure = honest.indices < 2
    assert np.array_equal(broken.kept_weights[sure], np.ones(2))
    assert broken.kept_weights[~sure] == pytest.approx(honest.kept_weights[~sure] * 0.8, rel=1e-12)
