"""Error rates: in each attack on a sound construction a true claim is refuted with probability at
most 1e-6; seeds are fixed.
"""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings

from coresets.accuracy import Accuracy
from coresets.l1_regression import L1Regression
from coresets.least_squares import LeastSquares
from coresets.reduction import SensitivityReducer
from coresets.weighted_set import Coreset, WeightedSet
from proofs_check import (
    AttackReport,
    Verdict,
    WorstAbsolute,
    WorstListed,
    WorstSearched,
    WorstSquares,
    assert_not_refuted,
    attack,
    testing,
)
from proofs_check.design import Design
from proofs_check.strategies import weighted_sets

CLAIM = Accuracy(0.4, 0.1)
DESIGN = Design.plan(delta=0.1, detect=0.3, false_alarm=1e-6, miss=0.01)
ROUNDING = 1e4 * float(np.finfo(np.float64).eps)


@pytest.fixture(scope="module")
def data() -> WeightedSet:
    rng = np.random.default_rng(0)
    points = rng.standard_normal((2000, 3)) * 10.0 ** rng.uniform(-1.5, 0.5, (2000, 1))
    return WeightedSet(points, rng.uniform(0.5, 2.0, 2000))


@pytest.fixture(scope="module")
def plane() -> WeightedSet:
    rng = np.random.default_rng(1)
    return WeightedSet(rng.standard_normal((150, 2)), rng.uniform(0.2, 3.0, 150))


def sampled(data: WeightedSet, size: int, rng: np.random.Generator) -> Coreset:
    """Uniform draws without replacement."""
    indices = np.sort(rng.choice(data.n, size, replace=False))
    return Coreset(indices, data.weights[indices] * data.n / size, size, CLAIM)


def undivided(data: WeightedSet, rng: np.random.Generator) -> Coreset:
    honest = SensitivityReducer(LeastSquares()).reduce(data, accuracy=CLAIM, rng=rng)
    return Coreset(honest.indices, data.weights[honest.indices], honest.size, honest.accuracy)


def honest_attack(data: WeightedSet, **more: object) -> AttackReport:
    reducer = SensitivityReducer(LeastSquares())
    return attack(
        lambda rng: reducer.reduce(data, accuracy=CLAIM, rng=rng),
        WorstSquares(data),
        CLAIM,
        rng=0,
        design=DESIGN,
        **more,  # type: ignore[arg-type]
    )


def test_the_library_survives_and_a_planted_fault_is_caught(data: WeightedSet) -> None:
    report = honest_attack(data, faults={"undivided": lambda rng: undivided(data, rng)})
    assert report.verdict is Verdict.CONSISTENT
    assert report.missed == ()
    assert report.faults["undivided"].verdict is Verdict.REFUTED
    assert_not_refuted(report)
    assert report.design is DESIGN
    assert report.result.trials == DESIGN.trials
    assert f"of {DESIGN.trials} runs" in str(report)
    assert "planted fault 'undivided': REFUTED" in str(report)


def test_a_broken_construction_is_refuted_with_the_figures_in_the_message(data: WeightedSet) -> None:
    report = attack(lambda rng: undivided(data, rng), WorstSquares(data), CLAIM, rng=0)
    assert report.verdict is Verdict.REFUTED
    with pytest.raises(AssertionError) as caught:
        assert_not_refuted(report)
    message = str(caught.value)
    assert message == str(report)
    assert f"REFUTED: {report.result.failures} of {report.result.trials} runs" in message
    assert "above 0.4" in message
    assert "at most 0.0001" in message


def test_an_attack_that_misses_its_fault_is_inconclusive(data: WeightedSet) -> None:
    reducer = SensitivityReducer(LeastSquares())
    report = honest_attack(
        data, faults={"no fault": lambda rng: reducer.reduce(data, accuracy=CLAIM, rng=rng)}
    )
    assert report.result.verdict is Verdict.CONSISTENT
    assert report.missed == ("no fault",)
    assert report.verdict is Verdict.INCONCLUSIVE
    with pytest.raises(AssertionError, match="planted fault 'no fault': CONSISTENT"):
        assert_not_refuted(report)


def test_a_refutation_stands_whatever_the_faults_do() -> None:
    report = attack(
        lambda rng: 1.0, float, CLAIM, rng=0, faults={"harmless": lambda rng: 0.0, "worse": lambda rng: 2.0}
    )
    assert report.verdict is Verdict.REFUTED
    assert report.missed == ("harmless",)


@pytest.mark.parametrize("claimed", [Accuracy(1.0, 0.1), Accuracy(float("inf"), 0.1), Accuracy(0.1, 1.0)])
def test_a_vacuous_claim_costs_no_run_and_passes_no_test(claimed: Accuracy) -> None:
    def never(rng: np.random.Generator) -> float:
        raise RuntimeError("ran")

    report = attack(never, float, claimed, rng=0, faults={"also": never})
    assert report.verdict is Verdict.VACUOUS
    assert report.result.trials == 0
    with pytest.raises(AssertionError, match="VACUOUS"):
        assert_not_refuted(report)


def test_a_claim_without_failures_is_refuted_by_one() -> None:
    exact = Accuracy(0.2, 0.0)
    good = attack(lambda rng: 0.2, float, exact, rng=0, faults={"always": lambda rng: 0.3})
    assert good.verdict is Verdict.CONSISTENT
    assert good.design is None
    runs = good.result.trials
    assert runs >= 30
    calls: list[int] = []

    def once(rng: np.random.Generator) -> float:
        calls.append(1)
        return 0.3 if len(calls) == runs else 0.1

    assert attack(once, float, exact, rng=0).verdict is Verdict.REFUTED


def test_the_same_seed_gives_the_same_report_and_faults_do_not_move_the_rest() -> None:
    def construct(rng: np.random.Generator) -> float:
        return float(rng.random())

    claimed = Accuracy(0.85, 0.2)
    alone = attack(construct, float, claimed, rng=7)
    again = attack(construct, float, claimed, rng=np.random.default_rng(7))
    more = attack(construct, float, claimed, rng=7, faults={"f": lambda rng: 1.0})
    assert alone == again
    assert more.result == alone.result
    assert attack(construct, float, claimed, rng=8).result != alone.result


@pytest.mark.parametrize(("delta", "detect"), [(0.1, 0.3), (0.9, 0.95)])
def test_the_default_design_has_the_stated_rates(delta: float, detect: float) -> None:
    report = attack(lambda rng: 0.0, float, Accuracy(0.5, delta), rng=0)
    assert report.design is not None
    assert report.design.false_alarm == 1e-4
    assert report.design.power(detect) >= 0.99


def test_a_design_for_another_delta_is_refused_before_any_run() -> None:
    def never(rng: np.random.Generator) -> float:
        raise RuntimeError("ran")

    with pytest.raises(ValueError, match=r"delta = 0\.1, the claim has delta = 0\.2"):
        attack(never, float, Accuracy(0.4, 0.2), rng=0, design=DESIGN)


def test_progress_is_shown_on_request_only(capsys: pytest.CaptureFixture[str]) -> None:
    attack(lambda rng: 0.0, float, CLAIM, rng=0, progress=False)
    assert capsys.readouterr() == ("", "")
    attack(lambda rng: 0.0, float, CLAIM, rng=0, progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "run" in captured.err


# The budget is shared by the examples.
ARBITRARY = Design.plan(delta=0.1, detect=0.5, false_alarm=1e-6 / 8.0, miss=0.01)


@settings(max_examples=8, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(weighted_sets(max_points=60, max_dimension=3))
def test_least_squares_coresets_of_arbitrary_sets_survive(data: WeightedSet) -> None:
    report = attack(
        lambda rng: SensitivityReducer(LeastSquares()).reduce(data, accuracy=CLAIM, rng=rng),
        WorstSquares(data),
        CLAIM,
        rng=0,
        design=ARBITRARY,
    )
    assert_not_refuted(report)


def test_worst_squares_is_the_error_of_the_certificate(data: WeightedSet) -> None:
    coreset = SensitivityReducer(LeastSquares()).reduce(data, size=200, rng=3)
    evidence = next(c for c in coreset.certificates if c.name == "subspace embedding")
    assert WorstSquares(data)(coreset) == pytest.approx(evidence.value, abs=ROUNDING)


def test_weights_zero_in_the_data_stay_zero() -> None:
    data = WeightedSet(np.eye(2), [1.0, 0.0])
    coreset = Coreset(np.array([0]), np.array([1.5]), 1, CLAIM)
    assert WorstSquares(data)(coreset) == pytest.approx(0.5, abs=ROUNDING)


@pytest.mark.parametrize("seed", range(3))
def test_the_search_finds_the_worst_squared_query_within_a_twentieth(plane: WeightedSet, seed: int) -> None:
    coreset = sampled(plane, 30, np.random.default_rng(seed))
    angles = np.linspace(0.0, np.pi, 5, endpoint=False)
    starts = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = WorstSearched(plane, LeastSquares(), starts)(coreset)
    exact = WorstSquares(plane)(coreset)
    assert 0.95 * exact <= found <= exact + ROUNDING


@pytest.mark.parametrize("seed", range(3))
def test_the_search_finds_the_worst_absolute_query_within_a_twentieth(plane: WeightedSet, seed: int) -> None:
    coreset = sampled(plane, 30, np.random.default_rng(seed))
    angles = np.linspace(0.0, np.pi, 12, endpoint=False)
    starts = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    found = WorstSearched(plane, L1Regression(), starts)(coreset)
    exact = WorstAbsolute(plane)(coreset)
    assert 0.95 * exact <= found <= exact + ROUNDING


def test_listed_queries_are_measured_by_the_definition(plane: WeightedSet) -> None:
    coreset = sampled(plane, 30, np.random.default_rng(0))
    queries = np.random.default_rng(1).standard_normal((6, 2))
    loss = LeastSquares()
    errors = []
    for query in queries:
        full = float(plane.weights @ loss.costs(plane, query))
        kept = coreset.of(plane)
        errors.append(abs(float(kept.weights @ loss.costs(kept, query)) / full - 1.0))
    found = WorstListed(plane, loss.costs, queries)(coreset)
    assert found == pytest.approx(max(errors), abs=ROUNDING)
    assert found <= WorstSquares(plane)(coreset) + ROUNDING


def test_free_points_are_measured_by_search_only(plane: WeightedSet) -> None:
    root = np.linalg.cholesky((plane.points * plane.weights[:, None]).T @ plane.points).T
    exact = Coreset(None, np.ones(2), 2, Accuracy.exact(), points=root)  # the same sum of squares
    assert WorstSearched(plane, LeastSquares(), np.eye(2))(exact) == pytest.approx(0.0, abs=ROUNDING)
    half = Coreset(None, np.full(2, 0.5), 2, CLAIM, points=root)
    assert WorstSearched(plane, LeastSquares(), np.eye(2))(half) == pytest.approx(0.5, abs=ROUNDING)
    for worst in (
        WorstSquares(plane),
        WorstAbsolute(plane),
        WorstListed(plane, LeastSquares().costs, np.eye(2)),
    ):
        with pytest.raises(TypeError, match="free points; use WorstSearched"):
            worst(exact)


def test_queries_that_cost_nothing_are_no_error() -> None:
    data = WeightedSet(np.zeros((3, 2)))
    coreset = Coreset(np.array([1]), np.array([3.0]), 1, CLAIM)
    assert WorstSearched(data, LeastSquares(), np.eye(2), steps=20)(coreset) == 0.0


def test_weight_that_appears_from_nothing_is_refused() -> None:
    data = WeightedSet(np.eye(2), [1.0, 0.0])
    coreset = Coreset(np.array([0, 1]), np.array([1.0, 0.5]), 2, CLAIM)
    for worst in (
        WorstSquares(data),
        WorstAbsolute(data),
        WorstListed(data, LeastSquares().costs, np.eye(2)),
    ):
        with pytest.raises(ValueError, match=r"row 1 weighs 0 in the data and 0\.5 .* WorstSearched"):
            worst(coreset)
    assert WorstSearched(data, LeastSquares(), np.ones((1, 2)))(coreset) >= 0.5 - ROUNDING


@pytest.mark.parametrize("kept", [0, 5], ids=["empty", "weightless"])
def test_a_coreset_of_no_mass_answers_nothing(kept: int, plane: WeightedSet) -> None:
    coreset = Coreset(np.arange(kept), np.zeros(kept), 5, CLAIM)
    assert WorstSearched(plane, LeastSquares(), np.eye(2), steps=20)(coreset) == 1.0
    assert WorstSquares(plane)(coreset) == pytest.approx(1.0, abs=ROUNDING)
    assert WorstAbsolute(plane)(coreset) == pytest.approx(1.0, abs=ROUNDING)


@pytest.mark.parametrize("starts", [[[np.nan, 1.0]], [[1.0, np.inf]], [], np.zeros((2, 2, 2))])
def test_starts_that_are_no_queries_are_refused(starts: object, plane: WeightedSet) -> None:
    with pytest.raises(ValueError, match="starts"):
        WorstSearched(plane, LeastSquares(), starts)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("losses", "told"), [(-np.ones(150), "negative"), (np.full(150, np.nan), "finite"), (np.ones(3), "shape")]
)
def test_listed_losses_must_be_costs(losses: np.ndarray, told: str, plane: WeightedSet) -> None:
    with pytest.raises(ValueError, match=f"loss at query 0.*{told}"):
        WorstListed(plane, lambda data, query: losses, [0])


def test_a_list_without_queries_is_refused(plane: WeightedSet) -> None:
    with pytest.raises(ValueError, match="queries is empty"):
        WorstListed(plane, LeastSquares().costs, [])


@pytest.mark.parametrize("intercept", [False, True])
@pytest.mark.parametrize(("worst", "loss"), [(WorstSquares, LeastSquares), (WorstAbsolute, L1Regression)])
def test_labels_and_intercept_belong_to_the_family(worst: type, loss: type, intercept: bool) -> None:
    # One column and the labels span a plane, on which both attacks are exact.
    rng = np.random.default_rng(5)
    data = WeightedSet(rng.standard_normal((80, 1)), labels=10.0 ** rng.uniform(-1.0, 2.0, 80))
    coreset = sampled(data, 20, rng)
    model = loss(intercept=intercept)
    kept = coreset.of(data)
    errors = []
    for query in 10.0 ** rng.uniform(-2.0, 3.0, (2000, 1 + intercept)) * rng.choice([-1.0, 1.0], (2000, 1)):
        full = float(data.weights @ model.costs(data, query))
        errors.append(abs(float(kept.weights @ model.costs(kept, query)) / full - 1.0))
    found = worst(data, intercept=intercept)(coreset)
    # The search over absolute values in three dimensions is close to the worst only.
    assert found >= max(errors) * (1.0 if worst is WorstSquares or not intercept else 0.95) - ROUNDING
    unlabelled = WeightedSet(data.points, data.weights)
    assert abs(found - worst(unlabelled)(coreset)) > 0.01


def test_an_attack_needs_a_claim_and_named_faults() -> None:
    with pytest.raises(TypeError, match="pass Accuracy"):
        attack(lambda rng: 0.0, float, (0.4, 0.1), rng=0)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="a fault is named ''"):
        attack(lambda rng: 0.0, float, CLAIM, rng=0, faults={"": lambda rng: 1.0})


@pytest.mark.parametrize("value", [-0.1, 0.1j, np.complex128(0.1 + 1j), "0.1", None, np.ones(2)], ids=repr)
def test_errors_that_are_no_non_negative_numbers_are_refused(value: object) -> None:
    with pytest.raises(ValueError, match="worst_error returned"):
        attack(lambda rng: value, lambda result: result, CLAIM, rng=0)  # type: ignore[arg-type,return-value]


@pytest.mark.parametrize("value", [0, np.float32(0.25), np.array(0.25)])
def test_any_real_number_is_an_error(value: object) -> None:
    report = attack(lambda rng: value, lambda result: result, CLAIM, rng=0)  # type: ignore[arg-type,return-value]
    assert report.verdict is Verdict.CONSISTENT


def test_a_claim_that_almost_always_fails_is_refused_before_any_run() -> None:
    with pytest.raises(ValueError, match="above 1,000,000"):
        attack(lambda rng: 0.0, float, Accuracy(0.4, 1.0 - 1e-9), rng=0)


def test_the_progress_bar_is_closed_when_the_construction_raises(monkeypatch: pytest.MonkeyPatch) -> None:
    closed: list[bool] = []
    original = testing.tqdm.close
    monkeypatch.setattr(testing.tqdm, "close", lambda bar: (closed.append(True), original(bar)))

    def broken(rng: np.random.Generator) -> float:
        raise RuntimeError("broken")

    with pytest.raises(RuntimeError, match="broken"):
        attack(broken, float, CLAIM, rng=0, progress=True)
    assert closed
