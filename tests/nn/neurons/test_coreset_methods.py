"""Coresets of neurons as methods: budgets, notes, arguments, memory."""

from __future__ import annotations

import itertools
import resource
import subprocess
import sys
import textwrap

import pytest
import torch
from torch import nn

from coresets.linf import InscribedVertices, PublishedPeeling
from nn import KeepRatio, prune
from nn.neurons import (
    Ball,
    ConvexGeometry,
    Drawing,
    Lewis,
    MeasuredEllipsoid,
    NormBounded,
    Peeled,
    Pivotal,
    PublishedNormBounded,
    RidgeLewis,
    Subspace,
    TopScores,
    VarianceOptimal,
)
from nn.units import UnitMethod

PUBLISHED = Subspace(3, Peeled(InscribedVertices(), PublishedPeeling()))
METHODS: list[UnitMethod] = [
    NormBounded(),
    NormBounded(Ball(3.0)),
    NormBounded(MeasuredEllipsoid()),
    NormBounded(drawing=Drawing(TopScores())),
    NormBounded(drawing=Drawing(Pivotal(), reweighted=False)),
    PublishedNormBounded(),
    ConvexGeometry(),
    ConvexGeometry(RidgeLewis()),
    ConvexGeometry(Peeled()),
    ConvexGeometry(PUBLISHED),
    ConvexGeometry(Subspace(4)),
    VarianceOptimal(),
    VarianceOptimal(Drawing(TopScores())),
]


def perceptron(*widths: int, activation: nn.Module | None = None, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    modules: list[nn.Module] = []
    for before, after in itertools.pairwise(widths):
        modules += [nn.Linear(before, after), activation or nn.ReLU()]
    return nn.Sequential(*modules[:-1]).eval()


class Mixed(nn.Module):
    """A sum of branches, a concatenation, a grouped convolution, and a sigmoid."""

    def __init__(self) -> None:
        super().__init__()
        self.a = nn.Conv2d(2, 6, 3, padding=1)
        self.b = nn.Conv2d(6, 6, 3, padding=1, groups=2)
        self.c = nn.Conv2d(2, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.d, self.e = nn.Linear(10, 7), nn.Linear(7, 3)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        left = torch.relu(self.b(torch.tanh(self.a(x)))).mean((2, 3))
        right = torch.relu(self.norm(self.c(x))).mean((2, 3))
        return self.e(torch.sigmoid(self.d(torch.cat([left, right], 1))))


@pytest.mark.parametrize("method", METHODS, ids=lambda m: repr(m)[:70])
def test_every_method_meets_every_budget_exactly_on_networks_of_all_sorts(method: UnitMethod):
    network, images = Mixed().eval(), torch.rand(6, 2, 5, 5)
    for ratio in (0.3, 0.7):
        plan = prune(network, method, KeepRatio(ratio), calibration=[images], rng=0).plan
        assert plan.kept == round(ratio * plan.total)


def test_groups_that_nothing_is_claimed_about_say_why():
    network = Mixed().eval()
    plan = prune(network, NormBounded(), KeepRatio(0.5), calibration=[torch.rand(6, 2, 5, 5)], rng=0).plan
    assert any(note.startswith("a: nothing is claimed: its units are blocks") for note in plan.notes)
    assert not plan.groups["a"].certificates
    assert plan.groups["c"].certificates


@pytest.mark.parametrize(
    ("make", "error", "words"),
    [
        (lambda: Ball(0.0), ValueError, "not positive"),
        (lambda: MeasuredEllipsoid(0.0), ValueError, "needs all its axes"),
        (lambda: RidgeLewis(-1.0), ValueError, "not positive"),
        (lambda: Subspace(0), ValueError, "rank"),
        (lambda: Subspace(2, Lewis), TypeError, "bounds no points"),
        (lambda: NormBounded(Ball), TypeError, "no set of inputs"),
        (lambda: ConvexGeometry(Lewis), TypeError, "bound nothing"),
        (lambda: PublishedNormBounded(0.0), ValueError, "radius"),
    ],
)
def test_bad_settings_are_refused_at_once(make: object, error: type[Exception], words: str):
    with pytest.raises(error, match=words):
        make()  # type: ignore[operator]


def test_a_random_method_without_a_generator_and_a_ball_without_a_radius_are_refused():
    network, x = perceptron(3, 8, 2), [torch.rand(4, 3)]
    with pytest.raises(ValueError, match="pass rng"):
        prune(network, NormBounded(), KeepRatio(0.5), calibration=x)
    with pytest.raises(ValueError, match="no radius for '0'"):
        prune(network, NormBounded(Ball({"fc*": 1.0})), KeepRatio(0.5), calibration=x, rng=0)


@pytest.mark.parametrize("method", [NormBounded(), ConvexGeometry(RidgeLewis()), VarianceOptimal()])
def test_the_precision_is_kept_and_one_seed_gives_one_network(method: UnitMethod):
    network, x = perceptron(5, 20, 2).double(), torch.rand(9, 5, dtype=torch.float64)
    first, second = (prune(network, method, KeepRatio(0.4), calibration=[x], rng=7).model for _ in range(2))
    assert all(p.dtype == torch.float64 for p in first.parameters())
    assert torch.equal(first(x), second(x))


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RUSAGE_SELF"), reason="needs the peak memory of a process")
@pytest.mark.parametrize(
    "scorer",
    [
        "NormBounded(Ball(1.0)).scored(problem, neurons)",
        "Lewis().bounds(problem, neurons)",
        "RidgeLewis().bounds(problem, neurons)",
        "distance_sums(IncomingRows.of(problem, '0'))",
    ],
    ids=["norm_bounded", "lewis", "ridge_lewis", "geometric_median"],
)
def test_scores_of_a_large_layer_need_less_than_twice_its_memory(scorer: str):
    code = f"""
        import resource, torch
        torch.set_num_threads(1)
        from nn.budgets import Share
        from nn.calibration import Calibration, split_batch
        from nn.neurons import Ball, Lewis, NormBounded, RidgeLewis
        from nn.neurons.baselines import IncomingRows, distance_sums
        from nn.units import find_groups
        from nn.units.method import UnitProblem
        from nn.neurons.points import neurons_of
        def problem_of(d, n):
            net = torch.nn.Sequential(torch.nn.Linear(d, n), torch.nn.ReLU(), torch.nn.Linear(n, d)).eval()
            x = torch.zeros(2, d)
            groups = find_groups(net, split_batch(x)).groups
            return UnitProblem(net, groups, (Share(("0",), 1),), Calibration.of([x]))
        def run(problem):
            neurons = neurons_of(problem)
            return {scorer}
        run(problem_of(40, 64))  # libraries are loaded
        problem = problem_of(1280, 3456)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        run(problem)
        print(1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=300
    )
    assert int(done.stdout) <= 2 * 4 * 1280 * 3456 + 4 * (8 << 20)  # and four blocks of fixed size


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(resource, "RUSAGE_SELF"), reason="needs the peak memory of a process")
@pytest.mark.parametrize("method", ["FilterNorm()", "NormBounded(Ball(1.0))"], ids=["norm", "norm_bounded"])
def test_a_plan_as_a_whole_needs_less_than_three_copies_of_the_network(method: str):
    code = f"""
        import resource, torch
        import nn
        from nn.neurons import Ball, FilterNorm, NormBounded
        torch.set_num_threads(1)
        def plan(d, n):
            net = torch.nn.Sequential(torch.nn.Linear(d, n), torch.nn.ReLU(), torch.nn.Linear(n, d)).eval()
            x = torch.ones(2, d)
            before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
            nn.plan(net, {method}, nn.KeepRatio(0.5), calibration=[x], rng=0)
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
        plan(40, 64)  # libraries are loaded
        print(1024 * plan(1280, 3456))
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True, check=True, timeout=300
    )
    assert int(done.stdout) <= 3 * 2 * 4 * 1280 * 3456
