"""Attacks on layers of neurons on bounded inputs, with a ridge, and on errors through a network.

N1, N2, N2-P: the worst input is climbed to inside the ball. RG: all inputs, as for T4. NC: small networks of
which hidden layers are pruned, with inputs climbed to by the gradient of the network's own change.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch

from coresets.accuracy import Accuracy
from coresets.guarantee import Claim
from coresets.guarantees import HomogeneousClass
from coresets.samplers import IID, Poisson
from nn.budgets import KeepRatio
from nn.guarantees.neurons import (
    BoundedInputs,
    BoundedInputsPoisson,
    BoundedNeurons,
    ComposedLayers,
    HalfSpaces,
    RidgeNeurons,
)
from nn.neurons import Ball, Drawing, NormBounded, RidgeLewis
from nn.neurons.draws import ExactPoisson
from nn.pruning import prune
from nn.units.shrunk import Shrunk
from proofs_check import faults
from proofs_check.check import Check, Fault, Profile, Scenario
from proofs_check.checks._bounded import (
    GELU,
    RELU,
    SIGMOID,
    BoundedLayer,
    BoundedWorst,
    Exactly,
    from_points,
    planted,
)
from proofs_check.checks._common import DELTA, DrawTrial, drawn_scenario
from proofs_check.checks._networks import exact_scenario, seed_of, usable
from proofs_check.checks._units_composed import Aligned, Composed, largest_term, last_layer, without_growth
from proofs_check.faults import Draws
from proofs_check.neuron_queries import RELU as RELU_SLOPES
from proofs_check.neuron_queries import NeuronWorst
from proofs_check.queries import WorstError
from proofs_check.trials import Trial
from proofs_check.workloads import Workload

__all__ = ["CHECKS"]

Floats = npt.NDArray[np.float64]


def _layers(
    workloads: Sequence[Workload], count: int, *, adding: bool
) -> Iterator[tuple[Workload, BoundedLayer]]:
    for workload in usable(workloads, 2):
        layer = from_points(workload, RELU, count, adding=adding)
        yield workload, layer
    some = usable(workloads, 1)
    if not some:
        return
    shown = some[0]
    for name in ("one long", "one biased", "parallel"):
        yield _named(shown, name), planted(name, RELU, count)
    if not adding:
        yield _named(shown, "signs"), planted("signs", RELU, count)
        yield _named(shown, "GELU"), from_points(shown, GELU, count)
        yield _named(shown, "sigmoid, half short"), planted("half short", SIGMOID, count)


def _named(workload: Workload, name: str) -> Workload:
    return Workload(f"{workload.name}, {name}", workload.kind, workload.data)


def _drawn(
    workload: Workload,
    layer: BoundedLayer,
    sampler: Draws,
    size: int,
    claimed: Accuracy,
) -> Scenario:
    """A draw from the shares q, and from what may be mistaken for them."""
    error = BoundedWorst(layer)

    def trial(draws: Draws, shares: Floats, worst: WorstError = error) -> Trial:
        return DrawTrial(draws, shares, size, worst)

    # Neurons that a mistaken share leaves out would never be drawn, which is another fault.
    least = 1e-9 * float(layer.shares.max())
    broken = {
        faults.UNDIVIDED: trial(faults.Undivided(sampler), layer.shares),
        faults.UNIFORM: trial(faults.Uniform(sampler), layer.shares),
        _OUTGOING: trial(sampler, layer.of_outgoing),
        _NO_BIAS: trial(sampler, np.maximum(layer.without_bias, least)),
    }
    if isinstance(sampler, IID):
        broken[faults.SUCCESSIVE] = trial(faults.Successive(), layer.shares)
    if layer.link.at_zero != 0.0:
        broken[_CONSTANT] = trial(sampler, layer.shares, BoundedWorst(layer, moved=False))
    return Scenario(
        workload=workload,
        size=size,
        claimed=claimed,
        trial=trial(sampler, layer.shares),
        faults=tuple(Fault(fault[0], run) for fault, run in broken.items()),
        vacuous="" if claimed.epsilon < 1.0 else f"epsilon = {claimed.epsilon:.2f} with {size} draws",
    )


def _by_dimension(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    theorem = HalfSpaces()
    for workload, layer in _layers(workloads, 4 * _DRAWS, adding=True):
        family = theorem.ranges(layer.points.shape[1], bias=True)
        size = 2 * _DRAWS
        claimed = Accuracy(theorem.epsilon(family, size, DELTA), DELTA)
        yield _drawn(workload, layer, IID(), size, claimed)


def _with_replacement(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    theorem = BoundedInputs()
    for workload, layer in _layers(workloads, 4 * _DRAWS, adding=False):
        family = BoundedNeurons(layer.outgoing.shape[1])
        claimed = Accuracy(theorem.epsilon(family, _DRAWS, DELTA), DELTA)
        yield _drawn(workload, layer, IID(), _DRAWS, claimed)


def _to_a_size(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    theorem = BoundedInputsPoisson()
    for workload, layer in _layers(workloads, 3 * _DRAWS, adding=False):
        draw = ExactPoisson().draw(torch.from_numpy(layer.shares), _DRAWS, np.random.default_rng(0))
        own = theorem.given_size(DELTA, draw.chance)
        epsilon = theorem.epsilon(BoundedNeurons(layer.outgoing.shape[1]), int(draw.level), own)
        yield _drawn(workload, layer, Exactly(), _DRAWS, Accuracy(epsilon, DELTA))
    for workload in usable(workloads, 1)[:1]:
        yield _front_door(workload)


def _front_door(workload: Workload) -> Scenario:
    """What :func:`nn.prune` promises, against the network that it returns."""
    layer = from_points(workload, RELU, 2 * _DRAWS)
    shown = _pruned(layer, 0)
    (promised, _) = shown.plan.groups["0"].certificates
    return Scenario(
        workload=_named(workload, "front door"),
        size=shown.plan.kept,
        claimed=Accuracy(promised.value, DELTA),
        trial=FrontDoor(layer),
        faults=(Fault(_KEPT_WEIGHTS[0], FrontDoor(planted("parallel", RELU, 2 * _DRAWS), reweighted=False)),),
    )


def _pruned(layer: BoundedLayer, seed: int | np.random.Generator, *, reweighted: bool = True) -> Shrunk:
    count, inputs = layer.points.shape
    outputs = layer.outgoing.shape[1]
    first = torch.nn.Linear(inputs, count, dtype=torch.float64)
    second = torch.nn.Linear(count, outputs, dtype=torch.float64)
    with torch.no_grad():
        first.weight.copy_(torch.from_numpy(layer.points))
        first.bias.copy_(torch.from_numpy(layer.bias))
        second.weight.copy_(torch.from_numpy(layer.outgoing.T.copy()))
    whole = torch.nn.Sequential(first, torch.nn.ReLU(), second)
    method = NormBounded(Ball(layer.radius), Drawing(reweighted=reweighted, delta=DELTA))
    data = [torch.zeros((2, inputs), dtype=torch.float64)]
    return prune(whole, method, KeepRatio(0.25), calibration=data, rng=seed)


@dataclass(frozen=True, eq=False)
class FrontDoor:
    """Worst error of the network that :func:`nn.prune` returns, relative to what its units can add."""

    layer: BoundedLayer
    reweighted: bool = True

    def __call__(self, rng: np.random.Generator) -> float:
        shrunk = _pruned(self.layer, rng, reweighted=self.reweighted)
        kept = shrunk.plan.groups["0"].keep.numpy().nonzero()[0]
        after = dict(shrunk.model.named_parameters())["2.weight"].detach().numpy().T
        factors = after[:, 0] / self.layer.outgoing[kept, 0]
        same = np.allclose(after, self.layer.outgoing[kept] * factors[:, None])
        return BoundedWorst(self.layer)(kept, factors) if same else float("nan")


# RG.


def _ridge(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    rng = np.random.default_rng(7)
    layers: dict[str, BoundedLayer] = {}
    some = usable(workloads, 2)
    if not some:
        return
    shown = some[0]
    for workload in some:
        layers[workload.name] = from_points(workload, RELU, 6 * _DRAWS)
    apart = np.column_stack([rng.standard_normal(6 * _DRAWS), np.zeros(6 * _DRAWS)])
    apart[10] = (0.0, 1e-6)
    heavy = apart.copy()
    heavy[10] = (0.0, 10.0 * len(heavy))
    ones = np.ones((len(apart), 1))
    layers["one apart"] = BoundedLayer(apart, np.zeros(len(apart)), ones, RELU)
    layers["one long"] = BoundedLayer(heavy, np.zeros(len(apart)), ones, RELU)
    aligned = np.abs(apart) + 0.5
    layers["parallel"] = BoundedLayer(aligned, np.zeros(len(apart)), ones, RELU)
    for name, layer in layers.items():
        points = np.column_stack([layer.points, layer.bias])[:, : 2 if not layer.bias.any() else 3]
        masses = layer.masses
        bounds = RidgeLewis(1.0).of_points(torch.from_numpy(points), torch.from_numpy(masses))
        values, mu = bounds.values.numpy(), bounds.details["mu"]
        family = HomogeneousClass(max(1.0, float(values.sum())), layer.outgoing.shape[1])
        claim = Claim(RidgeNeurons(), family)
        # The ridge as neurons that the layer does not read: |x|_1 in the normaliser.
        stacked = np.concatenate([points, np.eye(points.shape[1])])
        base = np.concatenate([masses, np.full(points.shape[1], mu)])
        read = np.concatenate([layer.outgoing, np.zeros((points.shape[1], layer.outgoing.shape[1]))])
        error = NeuronWorst(stacked, read, base, RELU_SLOPES)
        plain = NeuronWorst(points, layer.outgoing, masses, RELU_SLOPES)
        broken: list[tuple[str, Draws]] = [
            (faults.UNDIVIDED[0], faults.Undivided(Poisson())),
            (faults.UNIFORM[0], faults.Uniform(Poisson())),
        ]
        scenario = drawn_scenario(
            _named(shown, name), claim, Poisson(), values, error, broken, size=2 * _DRAWS
        )
        without = Fault(_NO_RIDGE[0], DrawTrial(Poisson(), values, 2 * _DRAWS, plain))
        yield Scenario(
            workload=scenario.workload,
            size=scenario.size,
            claimed=scenario.claimed,
            trial=scenario.trial,
            faults=(*scenario.faults, without),
            vacuous=scenario.vacuous,
        )


# NC.


def _through_networks(workloads: Sequence[Workload], profile: Profile) -> Iterable[Scenario]:
    for workload in usable(workloads, 2):
        inputs = min(workload.d, 5)
        for name, scales, both, idle in (
            ("one layer", (1.0, 1.0, 1000.0), False, False),
            ("two layers", (1000.0, 1.0, 1e-3), True, False),
            ("idle units above", (1.0, 1.0, 1.0), True, True),
        ):
            honest = Composed((inputs, 12, 10, 3), seed_of(workload), scales, both, idle)
            broken: dict[tuple[str, str], Trial] = {
                _NO_GROWTH: replace(honest, bound=without_growth),
                _LAST_ONLY: replace(honest, bound=last_layer),
            }
            yield exact_scenario(workload, name, honest, broken)
        attained = Aligned(seed_of(workload))
        broken = {_LARGEST: replace(attained, bound=largest_term)}
        yield exact_scenario(workload, "aligned", attained, broken)


_DRAWS = 300
_OUTGOING = ("outgoing weights as points", "the length of a neuron is that of its outgoing weights")
_NO_BIAS = ("bias left out", "the length of a neuron is that of its incoming weights alone")
_CONSTANT = ("phi(0) ignored", "what the constants of dropped neurons add is not moved into the next bias")
_KEPT_WEIGHTS = ("not reweighted", "the front door is asked to leave outgoing weights as they were")
_NO_RIDGE = ("ridge left out of the error", "the error is quoted relative to sum w |p.x| alone")
_NO_GROWTH = ("no growth", "errors of layers are added up as if nothing followed them")
_LARGEST = ("largest term only", "of the terms of the sum over layers the largest is quoted")
_LAST_ONLY = ("last layer only", "the error of the last pruned layer is quoted for the network")

_SHARES = dict([faults.UNDIVIDED, faults.UNIFORM, _OUTGOING, _NO_BIAS])
_BALL = "all inputs of the ball, by projected ascent"

CHECKS = (
    Check(HalfSpaces(), _BALL, _SHARES | dict([faults.SUCCESSIVE]), _by_dimension),
    Check(BoundedInputs(), _BALL, _SHARES | dict([faults.SUCCESSIVE, _CONSTANT]), _with_replacement),
    Check(BoundedInputsPoisson(), _BALL, _SHARES | dict([_CONSTANT, _KEPT_WEIGHTS]), _to_a_size),
    Check(
        RidgeNeurons(),
        "all inputs: every ray in the plane, else ascent",
        dict([faults.UNDIVIDED, faults.UNIFORM, _NO_RIDGE]),
        _ridge,
    ),
    Check(
        ComposedLayers(),
        "inputs of the ball, by the gradient of the change, or the one at which the bound is attained",
        dict([_NO_GROWTH, _LAST_ONLY, _LARGEST]),
        _through_networks,
    ),
)
