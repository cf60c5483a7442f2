"""Units drawn by how much they can add to what reads them, over bounded inputs (N2, after Mussay et al.).

A neuron p with bias b adds w_k(p) phi(p.x + b) to output k. For inputs x of a set X, |p.x + b| is at most
its length, so q(p) = max_k |w_k(p)| times the length is the most it can add, up to the Lipschitz constant
L of phi. Drawn in proportion to q, with what reads a kept neuron divided by its expected number of draws,
k neurons keep all outputs within eps L sum q for all x in X at once, eps falling as 1 / sqrt(k) whatever
the width, the dimension, and the activation. It is the only such statement that says anything for layers
with no more neurons than inputs.

The published form (N1) takes q(p) = max_k |w_k(p)| phi(beta |p|), draws until enough different neurons have
come up (:class:`PublishedNormBounded`); its size is stated up to a constant and for an error that is not
scale-invariant.

Cost: one look at the weights, and one pass over the data if X is measured.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial

import torch

from coresets._validate import check_real
from coresets.certificate import Certificate
from coresets.guarantee import Scheme
from nn.guarantees.neurons import BoundedInputsPoisson, BoundedNeurons
from nn.neurons._sampled import Scored, decide, moves_constants, unclaimed
from nn.neurons.draws import Drawing, UnitDraw, UntilDistinct, whole
from nn.neurons.inputs import InputSet, Lengths, MeasuredBall
from nn.neurons.points import BLOCK_ENTRIES, Neurons, neurons_of
from nn.selection import Allocation, Uniform
from nn.units.method import UnitDecision, UnitProblem, check_allocation

__all__ = ["ERROR_OF", "NormBounded", "PublishedNormBounded"]

# Details of certificates that bound the change of a layer's outputs begin with this.
ERROR_OF = "error of "


@dataclass(frozen=True)
class NormBounded:
    """Keep units drawn in proportion to the most they can add, over a set of inputs.

    Certificates of a group say what the draw promises (N2-P), relative to the sum of all that units can
    add, and, with certainty, how far outputs of the consumers can move for these very factors. Both hold
    for all inputs in the set, at the original activations: of the layer that makes the units, fed as in the
    original network. What the changes of several groups do together is said by
    :func:`~nn.neurons.composed_certificate`. Behind max-pooling only the second is claimed.

    Parameters
    ----------
    inputs : InputSet
        X: :class:`~nn.neurons.Ball` with a radius of the user's, :class:`~nn.neurons.MeasuredBall`
        (default) or :class:`~nn.neurons.MeasuredEllipsoid`.
    drawing : Drawing
        How to draw.

    References
    ----------
    Mussay, Osadchy, Braverman, Zhou and Feldman 2020, data-independent neural pruning via coresets.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, prune
    >>> from nn.neurons import Ball, NormBounded
    >>> _ = torch.manual_seed(0)
    >>> network = torch.nn.Sequential(torch.nn.Linear(8, 400), torch.nn.ReLU(), torch.nn.Linear(400, 2))
    >>> shrunk = prune(network, NormBounded(Ball(1.0)), KeepRatio(0.5), calibration=[torch.rand(4, 8)], rng=0)
    >>> shrunk.model[0]
    Linear(in_features=8, out_features=200, bias=True)
    >>> [round(c.value, 2) for c in shrunk.plan.groups["0"].certificates if "N2-P" in c.name]
    [0.49]
    """

    inputs: InputSet = field(default_factory=MeasuredBall)
    drawing: Drawing = field(default_factory=Drawing)

    def __post_init__(self) -> None:
        if not isinstance(self.drawing, Drawing):
            raise TypeError(f"drawing = {self.drawing!r}; pass Drawing(), such as Drawing(TopScores())")
        if isinstance(self.inputs, type) or not isinstance(self.inputs, InputSet):
            raise TypeError(
                f"inputs = {self.inputs!r} is no set of inputs; pass Ball(radius) or MeasuredBall()"
            )

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Draw within the allocation's parts."""
        neurons = neurons_of(problem)
        return decide(problem, neurons, self.scored(problem, neurons), self.drawing, self)

    def scored(self, problem: UnitProblem, neurons: Mapping[str, Neurons]) -> dict[str, Scored]:
        """Shares q of every group, and what it proves."""
        lengths = self.inputs.lengths(problem, neurons)
        return {name: bounded(own, lengths[name], self.drawing.delta) for name, own in neurons.items()}


def bounded(neurons: Neurons, lengths: Lengths, delta: float) -> Scored:
    """Scores of one group by N2."""
    scores = neurons.masses * lengths.values.to(neurons.masses.device)
    reason = neurons.between.reason
    activation = neurons.between.activation
    if activation is not None and activation.at_zero != 0.0 and not moves_constants(neurons):
        reason = f"{activation.name}(0) is not 0, and what it adds cannot be put into a bias"
    notes = []
    if lengths.measured:
        notes.append(
            f"its inputs were measured: the choice depends on the data, and claims are for {lengths.inputs}"
        )
    if reason:
        return Scored(scores, unclaimed(reason), notes)
    return Scored(scores, partial(_certified, neurons, lengths, scores, delta), notes)


def _certified(
    neurons: Neurons, lengths: Lengths, scores: torch.Tensor, delta: float, draw: UnitDraw
) -> tuple[Sequence[Certificate], Sequence[str]]:
    activation = neurons.between.activation
    assert activation is not None  # nothing would be claimed
    certain = _with_certainty(neurons, lengths, activation.lipschitz, draw)
    if draw.scheme is not Scheme.POISSON:
        return (certain,), ()
    if neurons.between.pooled:
        return (certain,), (f"no promise of the draw holds: {neurons.between.pooled}",)
    total = activation.lipschitz * float(scores.sum())
    theorem = BoundedInputsPoisson()
    own = theorem.given_size(delta, draw.chance)
    epsilon = theorem.epsilon(BoundedNeurons(neurons.outputs), whole(draw.level), own)
    errors = {ERROR_OF + name: window * epsilon * total for name, window in neurons.windows().items()}
    promised = Certificate(
        "a priori error (N2-P)",
        "error of every output at every column of its window, where the layer that makes the units is fed as "
        f"in the original network, for all its inputs in {lengths.inputs}, relative to the sum of what all "
        "units can add",
        epsilon,
        confidence=1.0 - delta,
        details={"total": total, "chance of the size": draw.chance, "level": draw.level, **errors},
    )
    notes = []
    if epsilon >= 1.0:
        notes.append(f"the a priori error is vacuous, {epsilon:.3g} of the sum of what all units can add")
    return (promised, certain), notes


def _with_certainty(neurons: Neurons, lengths: Lengths, lipschitz: float, draw: UnitDraw) -> Certificate:
    """The triangle inequality for these factors."""
    change = (1.0 - draw.factors).abs() * lengths.values.cpu() * lipschitz
    errors = {}
    for name, consumer in neurons.consumers.items():
        spread = consumer.column_factors(change)
        spread[consumer.unit_of_column < 0] = 0.0  # columns of other groups
        matrix = consumer.layer.matrix().flatten(0, 1)
        step = max(1, BLOCK_ENTRIES // max(1, matrix.shape[1]))
        moves = [(part.abs().double() @ spread.to(part.device)).max() for part in torch.split(matrix, step)]
        errors[ERROR_OF + name] = float(torch.stack(moves).max())
    return Certificate(
        "largest change",
        "no output of a layer that reads the units moves further, where the layer that makes them is fed as "
        f"in the original network, for any of its inputs in {lengths.inputs}",
        max(errors.values()),
        details=errors,
    )


@dataclass(frozen=True)
class PublishedNormBounded:
    """The published form of norm-bounded sampling, as a comparator; nothing is certified.

    Scores are max_k |w_k(p)| phi(beta |p|) with the bias as one of the weights of p, and draws with
    replacement are made until enough different units have come up.

    Parameters
    ----------
    beta : float
        Radius of the ball of inputs; 1 in the published code.
    allocation : Allocation
        How many in each group.

    References
    ----------
    Mussay, Osadchy, Braverman, Zhou and Feldman 2020, data-independent neural pruning via coresets.
    """

    beta: float = 1.0
    allocation: Allocation = field(default_factory=Uniform)

    def __post_init__(self) -> None:
        check_allocation(self.allocation)
        if check_real(self.beta, "beta") <= 0.0:
            raise ValueError(f"beta = {self.beta:g} is not positive; it is the radius of a ball of inputs")

    def choose(self, problem: UnitProblem) -> UnitDecision:
        """Draw within the allocation's parts."""
        neurons = neurons_of(problem)
        scored = {name: Scored(self._scores(own), unclaimed(_PUBLISHED)) for name, own in neurons.items()}
        return decide(problem, neurons, scored, Drawing(UntilDistinct(), allocation=self.allocation), self)

    def _scores(self, neurons: Neurons) -> torch.Tensor:
        lengths = (neurons.row_norms().square() + neurons.bias.square()).sqrt() * self.beta
        activation = neurons.between.activation
        # Functions of either sign and of unknown form count as the identity.
        saturating = {"Sigmoid": torch.sigmoid, "Tanh": torch.tanh}
        phi = saturating.get(activation.name) if activation is not None else None
        return neurons.masses * (lengths if phi is None else phi(lengths))


_PUBLISHED = "the published size leaves its constant open, and its number of draws is random"
