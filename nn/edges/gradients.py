"""Saliencies from the gradient of a loss: SNIP, GraSP, Taylor.

The comparators that look at labels. All three rank a weight by what its removal does to first or
second order, to the loss (SNIP, Taylor) or to the squared norm of its gradient (GraSP); nothing is
proved about the network that is left. Cost: one pass forward and backward over the data and step,
twice that for GraSP.

A network in half precision is differentiated in single precision, with the same weights: in
float16 gradients below 6e-8 are zeros, and so would be the scores of most weights of a trained network.
Its kept weights are those of the original, bit by bit; inputs in half precision are converted with it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import torch

from coresets._validate import check_integer, check_real
from nn.calibration import Batch, Calibration, device_of, evaluating, reduce_sum
from nn.edges.gradual import Masks, gradually, original_weights, plans_for
from nn.method import Decision, Problem
from nn.selection import Allocation, Global

__all__ = ["SNIP", "GraSP", "Taylor"]

LossFunction = Callable[[Any, Any], torch.Tensor]

# Wang, Zhang and Grosse 2020 divide the logits by this, so that the softmax is far from saturation.
_TEMPERATURE = 200.0

_HALVES = (torch.float16, torch.bfloat16)


class _Gradients:
    """Gradients of the mean loss with respect to the weights of some layers."""

    def __init__(
        self, problem: Problem, method: object, loss: LossFunction, precision: torch.dtype | None
    ) -> None:
        self._network, self._layers, self._precision = problem.network, problem.layers, precision
        self._data: Calibration = problem.data(method)
        self._method, self._loss = method, loss
        for parameter in self._network.parameters():
            parameter.requires_grad_(False)
        self._weights: list[torch.nn.Parameter] = []
        for layer in self._layers.values():
            weight: Any = layer.module.weight
            self._weights.append(weight.requires_grad_(True))

    def batches(self, create_graph: bool = False) -> Any:
        """Number of examples and gradients of the mean loss of every batch."""
        device = device_of(self._network)
        with evaluating(self._network), torch.enable_grad():
            for batch in self._data:
                if not batch.size:  # its mean loss is none
                    continue
                moved = _in_precision(batch.to(device), self._precision)
                value = self._value(moved)
                gradients = torch.autograd.grad(
                    value, self._weights, create_graph=create_graph, allow_unused=True
                )
                yield moved.size, self._whole(gradients)

    def _value(self, batch: Batch) -> torch.Tensor:
        if batch.target is None:
            raise ValueError(
                f"{self._method!r} differentiates a loss; calibration batches need (inputs, target)"
            )
        value: Any = self._loss(batch.run(self._network), batch.target)
        if not torch.is_tensor(value) or value.numel() != 1:
            raise ValueError(f"the loss of {self._method!r} is no single number; pass a mean over examples")
        if not bool(torch.isfinite(value)):
            raise ValueError(f"the loss on the calibration data is {float(value.detach())}")
        loss: torch.Tensor = value
        return loss

    def _whole(self, gradients: Sequence[torch.Tensor | None]) -> list[torch.Tensor]:
        """Gradients with zeros for layers that the loss does not depend on."""
        pairs = zip(gradients, self._weights, strict=True)
        return [torch.zeros_like(w) if g is None else g for g, w in pairs]

    def mean(self) -> list[torch.Tensor]:
        """Gradient of the mean loss over all data, in float64."""
        return self._mean(g for g in self.batches())

    def second_moment(self) -> list[torch.Tensor]:
        """Mean over batches of the squared gradients, in float64."""
        return self._mean((1, [g.double() ** 2 for g in gradients]) for _, gradients in self.batches())

    def curvature_times(self, vectors: Sequence[torch.Tensor]) -> list[torch.Tensor]:
        """Hessian of the mean loss times a vector, in float64."""

        def products() -> Any:
            for size, gradients in self.batches(create_graph=True):
                inner = sum(
                    (g * v.to(g.dtype)).sum()
                    for g, v in zip(gradients, vectors, strict=True)
                    if g.requires_grad
                )
                if not torch.is_tensor(inner) or not inner.requires_grad:  # a loss linear in the weights
                    yield size, [torch.zeros_like(w) for w in self._weights]
                    continue
                yield size, self._whole(torch.autograd.grad(inner, self._weights, allow_unused=True))

        return self._mean(products())

    def _mean(self, sized: Any) -> list[torch.Tensor]:
        total = [torch.zeros_like(w, dtype=torch.float64) for w in self._weights]
        count = 0
        for size, tensors in sized:
            count += size
            for mean, tensor in zip(total, tensors, strict=True):
                mean.add_(tensor.detach().double(), alpha=size)
        everywhere = int(reduce_sum(torch.tensor(count, device=device_of(self._network))))
        if not everywhere:
            raise ValueError(f"{self._method!r} was given empty batches only; pass at least one example")
        return [reduce_sum(t) / everywhere for t in total]

    def named(self, tensors: Sequence[torch.Tensor]) -> dict[str, torch.Tensor]:
        """Tensors by layer name."""
        return dict(zip(self._layers, tensors, strict=True))

    def weights(self) -> list[torch.Tensor]:
        """The weights of now, in float64."""
        return [w.detach().double() for w in self._weights]


@contextmanager
def _widened(network: torch.nn.Module) -> Iterator[torch.dtype | None]:
    """Single or double precision for a while, for a network with values in half precision.

    Its tensors stay the same objects, and in the end have the precision that they had: values that were
    in half precision, or were set to zero since, go back without rounding.

    Yields
    ------
    torch.dtype or None
        The precision, None if nothing was converted.
    """
    tensors = [t for t in (*network.parameters(), *network.buffers()) if t.is_floating_point()]
    before = [t.dtype for t in tensors]
    if not set(before) & set(_HALVES):
        yield None
        return
    precision = torch.float64 if torch.float64 in before else torch.float32
    try:
        for tensor in tensors:
            tensor.data = tensor.data.to(precision)
        yield precision
    finally:
        for tensor, own in zip(tensors, before, strict=True):
            tensor.data = tensor.data.to(own)


def _in_precision(batch: Batch, precision: torch.dtype | None) -> Batch:
    """The batch with its floating-point values in a precision; None leaves them."""

    def converted(value: Any) -> Any:
        real = torch.is_tensor(value) and value.is_floating_point()
        return value.to(precision) if real and precision is not None else value

    return Batch(
        tuple(converted(v) for v in batch.arguments),
        {key: converted(v) for key, v in batch.keywords.items()},
        converted(batch.target),
    )


def _decide(
    problem: Problem,
    method: SNIP | Taylor | GraSP,
    loss: LossFunction,
    scores: Callable[[_Gradients], Sequence[torch.Tensor]],
) -> Decision:
    """Prune in steps by scores from the gradients of a loss."""
    weights = original_weights(problem)
    masks: Masks = problem.alive
    with _widened(problem.network) as precision:
        gradients = _Gradients(problem, method, loss, precision)

        def now(_: Masks) -> Mapping[str, torch.Tensor]:
            return gradients.named(scores(gradients))

        for step in gradually(problem, now, method.allocation, method.steps):
            masks = step.after
    return Decision(plans_for(weights, masks))


@dataclass(frozen=True)
class SNIP:
    """Keep the weights with the largest effect on the loss, |g w|.

    Parameters
    ----------
    loss : callable
        ``loss(output, target)``, a mean over examples; cross-entropy by default.
    steps : int
        Number of steps; the published method has one.
    allocation : Allocation
        One threshold for all layers by default, as published.

    References
    ----------
    Lee, Ajanthan and Torr 2019, single-shot network pruning based on connection sensitivity.

    Examples
    --------
    >>> import torch
    >>> from nn import KeepRatio, SNIP, prune
    >>> data = [(torch.randn(32, 5), torch.randint(3, (32,)))]
    >>> pruned = prune(torch.nn.Linear(5, 3), SNIP(), KeepRatio(0.4), calibration=data)
    >>> pruned.plan.kept
    6
    """

    # Not shown: a function prints its address, and plans name their methods.
    loss: LossFunction = field(default=torch.nn.functional.cross_entropy, repr=False)
    steps: int = 1
    allocation: Allocation = Global()

    def __post_init__(self) -> None:
        check_integer(self.steps, "steps", at_least=1)

    def decide(self, problem: Problem) -> Decision:
        """Rank by the absolute value of gradient times weight."""

        def scores(gradients: _Gradients) -> Sequence[torch.Tensor]:
            pairs = zip(gradients.mean(), gradients.weights(), strict=True)
            return [(g * w).abs() for g, w in pairs]

        return _decide(problem, self, self.loss, scores)


@dataclass(frozen=True)
class Taylor:
    """Keep the weights with the largest mean squared first-order effect on the loss, (g w)^2.

    Parameters
    ----------
    loss : callable
        ``loss(output, target)``, a mean over examples; cross-entropy by default.
    steps : int
        Number of steps.
    allocation : Allocation
        One threshold for all layers by default.

    References
    ----------
    Molchanov, Mallya, Tyree, Frosio and Kautz 2019, importance estimation for neural network pruning;
    the mean is over batches.
    """

    # Not shown: a function prints its address, and plans name their methods.
    loss: LossFunction = field(default=torch.nn.functional.cross_entropy, repr=False)
    steps: int = 1
    allocation: Allocation = Global()

    def __post_init__(self) -> None:
        check_integer(self.steps, "steps", at_least=1)

    def decide(self, problem: Problem) -> Decision:
        """Rank by the mean over batches of the squared product."""

        def scores(gradients: _Gradients) -> Sequence[torch.Tensor]:
            pairs = zip(gradients.second_moment(), gradients.weights(), strict=True)
            return [g * w**2 for g, w in pairs]

        return _decide(problem, self, self.loss, scores)


@dataclass(frozen=True)
class GraSP:
    """Keep the weights whose removal would lower the norm of the gradient most, w (Hg).

    Removing one weight changes the squared norm of the gradient by -2 w (Hg) to first order, so that
    the weights with the largest w (Hg) carry the gradient flow and are kept. (One released code
    ranked the other way round until it was corrected.)

    Parameters
    ----------
    loss : callable
        ``loss(output, target)``, a mean over examples; cross-entropy by default.
    temperature : float
        The network's output is divided by it; 200 as published. It must be a tensor then.
    steps : int
        Number of steps; the published method has one.
    allocation : Allocation
        One threshold for all layers by default, as published.

    References
    ----------
    Wang, Zhang and Grosse 2020, picking winning tickets before training by preserving gradient flow.
    """

    # Not shown: a function prints its address, and plans name their methods.
    loss: LossFunction = field(default=torch.nn.functional.cross_entropy, repr=False)
    temperature: float = _TEMPERATURE
    steps: int = 1
    allocation: Allocation = Global()

    def __post_init__(self) -> None:
        check_integer(self.steps, "steps", at_least=1)
        if check_real(self.temperature, "temperature") <= 0.0:
            raise ValueError(f"temperature = {self.temperature:g} is not positive")

    def decide(self, problem: Problem) -> Decision:
        """Rank by weight times Hessian times gradient."""

        def scores(gradients: _Gradients) -> Sequence[torch.Tensor]:
            products = gradients.curvature_times(gradients.mean())
            return [h * w for h, w in zip(products, gradients.weights(), strict=True)]

        return _decide(problem, self, self._tempered, scores)

    def _tempered(self, output: Any, target: Any) -> torch.Tensor:
        """The loss of the logits divided by the temperature."""
        if not torch.is_tensor(output):
            raise ValueError(
                f"the network returns a {type(output).__name__}, and {type(self).__name__} divides logits by "
                "a temperature; wrap it to return one tensor"
            )
        return self.loss(output / self.temperature, target)
