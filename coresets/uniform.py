"""Sampling in proportion to the masses: what every coreset is compared with.

It promises nothing (a few points may carry the whole cost of some query), looks at no coordinate, and so
works for every model, any number of classes, and sparse rows. Cost O(n).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING, Any

import numpy as np

from coresets._random import Rng, resolve_rng
from coresets._validate import check_integer
from coresets.accuracy import Accuracy
from coresets.errors import AssumptionError
from coresets.guarantee import Scheme
from coresets.samplers import FixedSize, Sampler
from coresets.sensitivity import uniform_sensitivities
from coresets.weighted_set import Coreset, WeightedSet, to_host

if TYPE_CHECKING:
    from coresets.svm.data import LabelledSet

__all__ = ["UniformReducer"]


@dataclass(frozen=True)
class UniformReducer:
    """A uniform sample of the mass, with weights that keep every sum on average.

    Parameters
    ----------
    sampler : Sampler
        How to draw; exactly ``size`` points by default.

    Raises
    ------
    TypeError
        If the sampler is none.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import UniformReducer, WeightedSet
    >>> data = WeightedSet(np.arange(10.0)[:, None])
    >>> coreset = UniformReducer().reduce(data, size=5, rng=0)
    >>> coreset.support_size, float(coreset.total_weight), coreset.accuracy.vacuous
    (5, 10.0, True)
    """

    sampler: Sampler = FixedSize()

    def __post_init__(self) -> None:
        scheme, draw = getattr(self.sampler, "scheme", None), getattr(self.sampler, "draw", None)
        if isinstance(self.sampler, type) or not (isinstance(scheme, Scheme) and callable(draw)):
            raise TypeError(f"sampler = {self.sampler!r}; pass FixedSize(), Poisson() or IID()")

    def reduce(
        self,
        data: WeightedSet | LabelledSet,
        *,
        size: int | None = None,
        accuracy: Accuracy | None = None,
        rng: Rng,
    ) -> Coreset:
        """Draw a sample.

        Parameters
        ----------
        data : WeightedSet or LabelledSet
            n points.
        size : int
            Points to keep, at least 1; from n on all are returned, exactly.
        accuracy : Accuracy, optional
            Only ``Accuracy.exact()`` can be had, by all points.
        rng : int, numpy.random.SeedSequence or numpy.random.Generator
            Source of randomness.

        Raises
        ------
        ValueError
            If both or neither of size and accuracy are given, or the size is out of range.
        AssumptionError
            If an accuracy is asked for: no theorem gives one.
        TypeError
            If the data are neither of the two.
        """
        known: Any = data  # sets of labelled rows need not be imported to be recognised
        if not (isinstance(data, WeightedSet) or (hasattr(known, "signs") and hasattr(known, "weights"))):
            raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")
        if (size is None) == (accuracy is None):
            raise ValueError(f"size = {size}, accuracy = {accuracy}; pass exactly one of the two")
        if accuracy is not None:
            if not accuracy.is_exact:
                raise AssumptionError(
                    f"no theorem promises {accuracy} for uniform sampling; pass a size, or use a reducer "
                    "made for the loss"
                )
            size = data.n
        assert size is not None  # exactly one is given
        size = check_integer(size, "size", at_least=1)
        generator = resolve_rng(rng)
        if size >= data.n:
            return Coreset(
                indices=np.arange(data.n), weights=data.weights, size=size, accuracy=Accuracy.exact()
            )
        draw = self.sampler.draw(uniform_sensitivities(data.weights).values, size, generator)
        weights = to_host(data.weights)[to_host(draw.indices)] * to_host(draw.kept_weights)
        return Coreset(indices=draw.indices, weights=weights, size=size, accuracy=Accuracy(inf, 0.0))
