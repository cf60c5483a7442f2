r"""Units drawn by their largest share over all inputs (after Tukan, Mualem and Maalouf).

A layer with a positively homogeneous activation, such as ReLU, is a sum of terms w_k(p) phi(p.x) whose
shares of sum w |p.x| have bounds that hold for every x, however long: sensitivities. Drawn in proportion to
them, k neurons keep all outputs within eps sum w |p.x| for all x at once (T4-P), eps falling with
total / sqrt(k). If the neurons balance (kappa > 0) the error is also at most 2 eps / kappa times the sum
of the activations themselves (T5).

The published bounds come from peeling Loewner ellipsoids with Caratheodory sets; Lewis weights are smaller,
with the rank as their total. Where there are no more neurons than inputs every such bound is 1 (T7), which
is said, and the draw is that of a method with a promise for bounded inputs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

from coresets.certificate import Certificate
from coresets.errors import SolverError
from coresets.guarantee import Scheme
from coresets.guarantees import HomogeneousClass
from coresets.homogeneous import relu_balance
from nn.guarantees.neurons import RidgeNeurons
from nn.neurons._sampled import Scored, decide, unclaimed
from nn.neurons.draws import Drawing, UnitDraw, whole
from nn.neurons.layer_bounds import LayerBounds, Lewis, NeuronSensitivities
from nn.neurons.norm_bounded import NormBounded
from nn.neurons.points import Neurons, neurons_of
from nn.units.method import UnitDecision, UnitProblem

__all__ = ["ConvexGeometry"]

# Layers of more entries have no kappa: its linear programme would take longer than all else.
_BALANCE_ENTRIES = 1 << 14


@dataclass(frozen=True)
class ConvexGeometry:
    """Keep units drawn in proportion to sensitivities that hold for all inputs.

    Parameters
    ----------
    sensitivities : NeuronSensitivities
        :class:`~nn.neurons.Lewis` (default), :class:`~nn.neurons.RidgeLewis`, :class:`~nn.neurons.Peeled` or
        :class:`~nn.neurons.Subspace`.
    drawing : Drawing
        How to draw.
    fallback : NormBounded
        Whose scores and promises are taken for groups where the sensitivities say nothing.

    References
    ----------
    Tukan, Mualem and Maalouf 2022, pruning neural networks via coresets and convex geometry: towards no
    assumptions.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import ConvexGeometry
    >>> _ = torch.manual_seed(0)
    >>> network = torch.nn.Sequential(torch.nn.Linear(2, 2000), torch.nn.ReLU(), torch.nn.Linear(2000, 1))
    >>> shrunk = prune(network, ConvexGeometry(), KeepRatio(0.5), calibration=[torch.rand(4, 2)], rng=0)
    >>> [round(c.value, 2) for c in shrunk.plan.groups["0"].certificates if "T4-P" in c.name]
    [0.45]
    """

    sensitivities: NeuronSensitivities = field(default_factory=Lewis)
    drawing: Drawing = field(default_factory=Drawing)
    fallback: NormBounded = field(default_factory=NormBounded)

    def __post_init__(self) -> None:
        if isinstance(self.sensitivities, type) or not isinstance(self.sensitivities, NeuronSensitivities):
            raise TypeError(
                f"sensitivities = {self.sensitivities!r} bound nothing; pass Lewis() or RidgeLewis()"
            )
        if not isinstance(self.drawing, Drawing):
            raise TypeError(f"drawing = {self.drawing!r}; pass Drawing(), such as Drawing(TopScores())")
        if not isinstance(self.fallback, NormBounded):
            raise TypeError(f"fallback = {self.fallback!r}; pass NormBounded()")

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Draw within the allocation's parts."""
        neurons = neurons_of(problem)
        bounds = self.sensitivities.bounds(problem, neurons)
        vacuous = {name: neurons[name] for name, found in bounds.items() if found.vacuous}
        scored = self.fallback.scored(problem, vacuous) if vacuous else {}
        for name, own in neurons.items():
            if name in scored:
                note = f"{bounds[name].vacuous}; drawn as by {type(self.fallback).__name__}"
                scored[name] = Scored(scored[name].scores, scored[name].certify, (note, *scored[name].notes))
            else:
                scored[name] = self._scored(own, bounds[name])
        return decide(problem, neurons, scored, self.drawing, self)

    def _scored(self, neurons: Neurons, bounds: LayerBounds) -> Scored:
        activation = neurons.between.activation
        if activation is None:
            return Scored(bounds.values, unclaimed(neurons.between.reason))
        if neurons.between.pooled:
            return Scored(bounds.values, unclaimed(neurons.between.pooled))
        if activation.slope is None:
            return Scored(bounds.values, unclaimed(f"{activation.name} is not positively homogeneous"))
        return Scored(bounds.values, partial(_certified, neurons, bounds, self.drawing.delta))


def _certified(
    neurons: Neurons, bounds: LayerBounds, delta: float, draw: UnitDraw
) -> tuple[Sequence[Certificate], Sequence[str]]:
    shares = bounds.values.cpu().clamp(max=1.0)
    certain = Certificate(
        "largest change",
        f"no output moves further at any column of its window, for {bounds.inputs}, relative to "
        f"{bounds.relative}",
        float(((1.0 - draw.factors).abs() * shares).sum()),
        details={"total": float(bounds.values.sum())},
    )
    if draw.scheme is not Scheme.POISSON:
        return (certain,), ()
    if bounds.theorem is None:
        return (certain,), ("no theorem is about all inputs and Poisson sampling by peeled sensitivities",)
    total = max(1.0, float(bounds.values.sum()))
    own = RidgeNeurons.given_size(delta, draw.chance)
    family = HomogeneousClass(total, neurons.outputs)
    epsilon = bounds.theorem.epsilon(family, whole(draw.level), own)
    details = {**bounds.details, "total": total, "chance of the size": draw.chance, "level": draw.level}
    notes = []
    if epsilon >= 1.0:
        notes.append(f"the a priori error is vacuous, {epsilon:.3g} times {bounds.relative}")
    elif _is_plain_relu(neurons, bounds):
        details |= _balance(neurons, epsilon)
    promised = Certificate(
        f"a priori error ({bounds.theorem.key})",
        f"error of every output at every column of its window, for {bounds.inputs}, relative to "
        f"{bounds.relative}",
        epsilon,
        confidence=1.0 - delta,
        details=details,
    )
    return (promised, certain), notes


def _is_plain_relu(neurons: Neurons, bounds: LayerBounds) -> bool:
    activation = neurons.between.activation
    relu = activation is not None and activation.slope == 0.0
    small = neurons.units * neurons.inputs <= _BALANCE_ENTRIES
    return relu and small and "dimension" not in bounds.details and "mu" not in bounds.details


def _balance(neurons: Neurons, epsilon: float) -> Mapping[str, float]:
    """kappa, and the error relative to the sum of activations where it is positive."""
    try:
        kappa = relu_balance(neurons.dense().cpu().numpy(), neurons.masses.cpu().numpy()).kappa
    except SolverError:
        return {}
    relative = {"relative to the sum of activations": 2.0 * epsilon / kappa} if kappa > 0.0 else {}
    return {"kappa": kappa, **relative}
