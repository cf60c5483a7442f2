"""Held-out certificates count what they say, and the search keeps their level."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from scipy import stats

import nn
from coresets import AssumptionError, SolverError
from nn.calibration import Calibration
from nn.certify import (
    errors_on,
    held_out,
    refuse_overlap,
    smallest_certified,
)
from nn.guarantees.certificates import HeldOutLimit
from nn.method import Decision, Problem


@given(st.integers(1, 2000), st.data())
def test_limit_is_the_exact_binomial_one(examples: int, data: st.DataObject):
    failures = data.draw(st.integers(0, examples - 1))
    confidence = data.draw(st.floats(0.5, 0.999))
    limit = HeldOutLimit().limit(failures, examples, confidence)
    # At the limit, so few failures have probability exactly one minus the confidence.
    assert stats.binom.cdf(failures, examples, limit) == pytest.approx(1.0 - confidence, rel=1e-6)


@given(st.floats(0.001, 0.9), st.floats(0.5, 0.9999))
def test_examples_needed_is_the_least_number(violation: float, confidence: float):
    n = HeldOutLimit().examples(violation, confidence)
    assert HeldOutLimit().limit(0, n, confidence) <= violation
    assert n == 1 or HeldOutLimit().limit(0, n - 1, confidence) > violation


def threshold_net(threshold: float) -> torch.nn.Module:
    """Predicts class 1 for inputs above a threshold."""
    net = torch.nn.Linear(1, 2)
    with torch.no_grad():
        net.weight.copy_(torch.tensor([[0.0], [1.0]]))
        net.bias.copy_(torch.tensor([0.0, -threshold]))
    return net


def test_class_changes_are_counted():
    x = torch.linspace(0.005, 0.995, 100)[:, None]
    evidence = held_out(threshold_net(0.5), threshold_net(0.6), [x[:37], x[37:]])
    assert (evidence.failures, evidence.examples) == (10, 100)
    assert evidence.violation == HeldOutLimit().limit(10, 100, 0.95)
    assert evidence.certificate.confidence == 0.95


def test_relative_difference_is_measured_example_by_example():
    x = torch.randn(50, 1)
    errors = errors_on(threshold_net(0.5), threshold_net(0.6), [x], nn.OutputDifference(math.inf))
    torch.testing.assert_close(errors, torch.full((50,), 0.1, dtype=torch.float64), rtol=0, atol=1e-6)
    relative = nn.OutputDifference(relative=True)
    zero = torch.zeros(2, 3)
    assert relative(zero, zero).tolist() == [0.0, 0.0]
    assert relative(zero, zero + 1).tolist() == [math.inf, math.inf]


def test_output_that_is_no_number_is_a_failure():
    broken = threshold_net(0.5)
    with torch.no_grad():
        broken.weight.fill_(float("nan"))
    x = torch.randn(20, 1)
    assert held_out(threshold_net(0.5), broken, [x]).failures == 20
    assert held_out(threshold_net(0.5), broken, [x], nn.OutputDifference(), epsilon=10.0).failures == 20
    with pytest.raises(ValueError, match="original network"):
        held_out(broken, threshold_net(0.5), [x])


def test_coverage_is_not_below_its_level():
    # The true violation is 0.1; a limit below it must be rarer than 5 %, over fresh held-out sets.
    original, pruned = threshold_net(0.5), threshold_net(0.6)
    rng = np.random.default_rng(0)
    trials, misses = 1000, 0
    for _ in range(trials):
        x = torch.from_numpy(rng.random((60, 1), dtype=np.float32))
        misses += held_out(original, pruned, [x]).violation < 0.1
    # 5 % of 1000 exceed 88 with probability 1e-7; a level of 10 % exceeds it with probability 0.88.
    assert misses <= stats.binom.isf(1e-7, trials, 0.05)


class Errs(torch.nn.Module):
    """Predicts class 0, but class 1 where one coordinate is below a threshold."""

    def __init__(self, coordinate: int, threshold: float) -> None:
        super().__init__()
        self.coordinate, self.threshold = coordinate, threshold

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        wrong = (x[:, self.coordinate] < self.threshold).to(x.dtype)
        return torch.stack([torch.full_like(wrong, 0.5), wrong], dim=1)


class Candidate:
    def __init__(self, model: torch.nn.Module) -> None:
        self.model = model


BUDGET = nn.Certified(nn.ClassChange(), 0.0, violation=0.05, confidence=0.9, candidates=9)


def candidates_that_err(rates: list[float]):
    ratios = list(BUDGET.sequence())
    return lambda ratio: Candidate(Errs(ratios.index(ratio), rates[ratios.index(ratio)]))


def test_search_returns_the_last_network_before_the_first_failure():
    rates = [0.0, 0.0, 0.2, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]  # what follows a failure is never tried
    data = torch.rand(200, 9, generator=torch.Generator().manual_seed(0))
    best, evidence = smallest_certified(Errs(0, 0.0), candidates_that_err(rates), BUDGET, Calibration([data]))
    assert best.model.coordinate == 1
    assert (evidence.violation, evidence.failures, evidence.examples) == (0.05, 0, 200)


def candidates_that_break(at: int, error: Exception):
    """Good candidates, of which one cannot be made."""
    ratios = list(BUDGET.sequence())
    tried = []

    def prune_to(ratio: nn.KeepRatio) -> Candidate:
        tried.append(ratios.index(ratio))
        if tried[-1] == at:
            raise error
        return Candidate(Errs(tried[-1], 0.0))

    return prune_to, tried


def test_what_is_certified_survives_a_candidate_that_cannot_be_made():
    data = Calibration([torch.rand(200, 9, generator=torch.Generator().manual_seed(0))])
    prune_to, tried = candidates_that_break(4, SolverError("no convergence"))
    with pytest.warns(nn.PruningWarning, match="SolverError: no convergence"):
        best, evidence = smallest_certified(Errs(0, 0.0), prune_to, BUDGET, data)
    assert best.model.coordinate == 3
    assert evidence.failures == 0
    assert tried == [0, 1, 2, 3, 4]  # nothing smaller is tried after it: that would be another sequence


def test_error_of_the_first_candidate_is_raised_as_it_is():
    data = Calibration([torch.rand(200, 9)])
    with pytest.raises(SolverError, match="no convergence"):
        smallest_certified(
            Errs(0, 0.0), candidates_that_break(0, SolverError("no convergence"))[0], BUDGET, data
        )


@dataclass(frozen=True)
class FailsBelow:
    """Magnitude pruning that gives up at small counts."""

    count: int

    def decide(self, problem: Problem) -> Decision:
        if sum(share.count for share in problem.shares) < self.count:
            raise SolverError("too few weights for the solver")
        return nn.Magnitude().decide(problem)


def test_front_door_returns_the_last_certified_network_of_a_method_that_fails_at_small_ratios():
    net, data = trained(), [two_blobs(400, 1)]
    budget = nn.Certified(nn.ClassChange(), 0.0, violation=0.05)
    free = nn.prune(net, nn.Magnitude(), budget, certification=data)
    bound = free.plan.kept + 30
    with pytest.warns(nn.PruningWarning, match=r"search .* ended at KeepRatio.*too few weights") as caught:
        stopped = nn.prune(net, FailsBelow(bound), budget, certification=data)
    assert caught[0].filename == __file__
    assert bound <= stopped.plan.kept
    # The candidate after it in the sequence is the one that failed.
    ratios = [c.count(stopped.plan.total) for c in budget.sequence()]
    assert ratios[ratios.index(stopped.plan.kept) + 1] < bound
    assert stopped.certificates[0].details["violation"] == 0.05


def test_fixed_sequence_keeps_its_level_where_taking_any_pass_does_not():
    # All candidates violate the statement a little, independently: whoever may choose finds a pass.
    original, prune_to = Errs(0, 0.0), candidates_that_err([0.052] * 9)
    rng = np.random.default_rng(1)
    trials, wrong, wrong_if_any = 100, 0, 0
    for _ in range(trials):
        data = Calibration([torch.from_numpy(rng.random((200, 9), dtype=np.float32))])
        tests = [BUDGET.test(original, prune_to(ratio).model, data) for ratio in BUDGET.sequence()]
        wrong_if_any += any(test is not None for test in tests)
        try:
            smallest_certified(original, prune_to, BUDGET, data)
            wrong += 1
        except AssumptionError:
            pass
    critical = stats.binom.isf(1e-6, trials, 0.1)  # exceeded by a valid procedure once in a million
    assert wrong <= critical < wrong_if_any


def test_certificate_beyond_the_data_is_refused_before_any_work():
    def never(ratio: nn.KeepRatio) -> Candidate:
        raise AssertionError

    with pytest.raises(ValueError, match="needs 45"):
        smallest_certified(Errs(0, 0.0), never, BUDGET, Calibration([torch.rand(44, 9)]))


def test_nothing_certified_is_an_error_that_says_so():
    with pytest.raises(AssumptionError, match="is not certified"):
        smallest_certified(
            Errs(0, 0.0), candidates_that_err([0.9] * 9), BUDGET, Calibration([torch.rand(100, 9)])
        )


def test_overlap_of_calibration_and_certification_is_refused():
    x = torch.randn(10, 3)
    refuse_overlap(Calibration([x[:5]]), Calibration([x[5:]]))
    with pytest.raises(ValueError, match="certification example 2 is among"):
        refuse_overlap(Calibration([(x[:5], torch.zeros(5))]), Calibration([x[8:], x[4:6]]))


def two_blobs(n: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    y = torch.randint(2, (n,), generator=generator)
    return torch.randn(n, 10, generator=generator) + 3.0 * y[:, None], y


def trained() -> torch.nn.Module:
    torch.manual_seed(0)
    net = torch.nn.Sequential(torch.nn.Linear(10, 16), torch.nn.ReLU(), torch.nn.Linear(16, 2))
    optimiser = torch.optim.Adam(net.parameters(), lr=0.01)
    x, y = two_blobs(500, 0)
    for _ in range(60):
        optimiser.zero_grad()
        torch.nn.functional.cross_entropy(net(x), y).backward()
        optimiser.step()
    return net


def test_certified_budget_prunes_as_far_as_the_data_certify():
    net = trained()
    budget = nn.Certified(nn.ClassChange(), 0.0, violation=0.05)
    pruned = nn.prune(net, nn.Magnitude(), budget, certification=[two_blobs(400, 1)])
    assert pruned.plan.kept < 0.7 * pruned.plan.total
    (certificate,) = pruned.certificates
    assert certificate.details["violation"] == 0.05
    fresh = held_out(net, pruned.model, [two_blobs(5000, 2)])
    assert fresh.failures / fresh.examples <= 0.05 + 4 * math.sqrt(0.05 / 5000)


def test_certified_budget_needs_data_of_its_own():
    budget = nn.Certified(nn.ClassChange(), 0.0, violation=0.05)
    with pytest.raises(ValueError, match="certification="):
        nn.prune(trained(), nn.Magnitude(), budget)
    data = [two_blobs(400, 1)]
    with pytest.raises(ValueError, match="among the calibration data"):
        nn.prune(trained(), nn.SNIP(), budget, calibration=data, certification=data)
    with pytest.raises(TypeError, match="Certified budget"):
        nn.prune(trained(), nn.Magnitude(), nn.KeepRatio(0.5), certification=data)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        ({"error": nn.ClassChange}, TypeError),
        ({"epsilon": -1.0}, ValueError),
        ({"violation": 0.0}, ValueError),
        ({"confidence": 1.0}, ValueError),
        ({"candidates": 0}, ValueError),
    ],
)
def test_wrong_statements_are_refused(arguments: dict[str, object], error: type[Exception]):
    plain: dict[str, object] = {"error": nn.ClassChange(), "epsilon": 0.0, "violation": 0.1}
    with pytest.raises(error):
        nn.Certified(**(plain | arguments))  # type: ignore[arg-type]


def test_network_with_one_output_has_no_classes_to_change():
    with pytest.raises(ValueError, match="no two classes"):
        held_out(torch.nn.Linear(4, 1), torch.nn.Linear(4, 1), [torch.randn(100, 4)])


class MeanError:
    def __call__(self, original: torch.Tensor, pruned: torch.Tensor) -> torch.Tensor:
        return (original - pruned).abs().mean(dim=0)


def test_error_that_is_not_one_an_example_is_refused():
    with pytest.raises(ValueError, match="one error for each example"):
        held_out(torch.nn.Linear(4, 2), torch.nn.Linear(4, 2), [torch.randn(100, 4)], MeanError())


class Tokens(torch.nn.Module):
    """Several rows of output for each example: no independent examples."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return x.reshape(-1, 2)


def test_outputs_that_are_not_one_an_example_are_refused():
    with pytest.raises(ValueError, match="50 examples give outputs"):
        held_out(Tokens(), Tokens(), [torch.randn(50, 4)])
    with pytest.raises(ValueError, match="outputs of shapes"):
        held_out(torch.nn.Linear(4, 2), torch.nn.Linear(4, 3), [torch.randn(50, 4)], nn.OutputDifference())


def test_overlap_is_found_in_mappings_with_inputs_that_all_examples_share():
    def batch(x: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"scale": torch.tensor(2.0), "x": x, "mask": torch.ones(2, 2)}

    x = torch.randn(10, 3)
    refuse_overlap(Calibration([batch(x[:5])]), Calibration([batch(x[5:])]))
    with pytest.raises(ValueError, match="certification example 4"):
        refuse_overlap(Calibration([batch(x[:5])]), Calibration([batch(x[5:9]), batch(x[4:5])]))


@pytest.mark.parametrize("shuffle", [False, True])
def test_loaders_leave_the_random_state_of_the_caller_alone(shuffle: bool):
    torch.manual_seed(0)
    net, inputs = torch.nn.Linear(8, 3), torch.randn(300, 8)

    def loader(part: torch.Tensor) -> torch.utils.data.DataLoader:
        return torch.utils.data.DataLoader(
            torch.utils.data.TensorDataset(part), batch_size=50, shuffle=shuffle
        )

    budget = nn.Certified(nn.ClassChange(), 0.0, violation=0.9, candidates=3, smallest=0.5)
    data, fresh = loader(inputs[:100]), loader(inputs[100:])
    state = torch.get_rng_state()
    pruned = nn.prune(net, nn.Magnitude(), budget, calibration=data, certification=fresh)
    held_out(net, pruned.model, fresh)
    assert torch.equal(torch.get_rng_state(), state)


def test_classes_of_images_are_those_of_the_axis_that_is_named():
    before = torch.tensor([[[[5.0, 1.0]], [[4.0, 2.0]]]])  # one example, two channels, one by two pixels
    after = torch.tensor([[[[5.0, 1.0]], [[6.0, 2.0]]]])  # at the left pixel the other class wins
    with pytest.raises(ValueError, match=r"pass ClassChange\(axis=1\) for channels first"):
        nn.ClassChange()(before, after)
    assert nn.ClassChange(axis=1)(before, after).tolist() == [0.5]
    assert nn.ClassChange(axis=-1)(before, after).tolist() == [0.0]
    assert repr(nn.ClassChange(axis=1)) == "ClassChange(axis=1)"
    with pytest.raises(ValueError, match="axis of the classes"):
        nn.ClassChange(axis=0)
    with pytest.raises(ValueError, match="no two classes along their axis 4"):
        nn.ClassChange(axis=4)(before, after)
