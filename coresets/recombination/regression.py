"""Exact coresets for least squares and ridge regression."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from array_api_compat import array_namespace, device

from coresets._threads import one_blas_thread
from coresets._validate import check_integer
from coresets.accuracy import Accuracy
from coresets.recombination._evidence import check_reached, evidence, host_rows
from coresets.recombination._reduction import reduce_rows
from coresets.recombination.preserve import SecondMoment
from coresets.residuals import residual_rows
from coresets.weighted_set import Coreset, WeightedSet

__all__ = ["ExactLeastSquares"]


@dataclass(frozen=True)
class ExactLeastSquares:
    """Reducer to few rows with the same cost of every linear model, to rounding.

    The second moment of the rows (p, y) is kept: X^T W X, X^T W y and y^T W y, hence the sum of
    squared residuals for all coefficients, and least squares and ridge regression of any penalty have
    the same solutions. The total mass is kept as well; with an intercept, so are the sums.

    Parameters
    ----------
    intercept : bool
        Whether models have a constant term.

    Raises
    ------
    TypeError
        If ``intercept`` is not a bool.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import WeightedSet
    >>> from coresets.recombination import ExactLeastSquares
    >>> rng = np.random.default_rng(0)
    >>> X = rng.standard_normal((5000, 3))
    >>> data = WeightedSet(X, labels=X.sum(axis=1) + rng.standard_normal(5000))
    >>> small = ExactLeastSquares().reduce(data).of(data)
    >>> small.n
    11
    >>> root = np.sqrt(small.weights)
    >>> few = np.linalg.lstsq(small.points * root[:, None], small.labels * root)[0]
    >>> bool(np.allclose(few, np.linalg.lstsq(data.points, data.labels)[0], rtol=1e-10))
    True
    """

    intercept: bool = False

    def __post_init__(self) -> None:
        if not isinstance(self.intercept, bool):
            raise TypeError(f"intercept = {self.intercept!r}; pass True or False")

    @one_blas_thread()
    def reduce(
        self,
        data: WeightedSet,
        *,
        size: int | None = None,
        accuracy: Accuracy | None = None,
        rng: Any = None,
    ) -> Coreset:
        """Reduce to at most r (r + 1) / 2 + 1 rows, or r (r + 3) / 2 + 1 with an intercept.

        Parameters
        ----------
        data : WeightedSet
            Points, weights, and labels if there are any; r is the rank of the rows (p, y).
        size : int, optional
            Most rows that may be kept; no limit by default.
        accuracy : Accuracy, optional
            Any accuracy is reached, since nothing is lost.
        rng : object, optional
            Not used: nothing is random.

        Returns
        -------
        Coreset
            Rows of the data, exact; its certificate is that of :func:`caratheodory`.

        Raises
        ------
        ValueError
            If more rows than ``size`` have to be kept.
        TypeError
            If the data are not a :class:`WeightedSet`, or the labels are not real numbers.
        SolverError
            If the moments were not reached to rounding.
        """
        if not isinstance(data, WeightedSet):
            raise TypeError(f"data is a {type(data).__name__}; wrap the points in a WeightedSet")
        if accuracy is not None and not isinstance(accuracy, Accuracy):
            raise TypeError(f"accuracy = {accuracy!r}; pass Accuracy(epsilon, delta)")
        if size is not None:
            size = check_integer(size, "size", at_least=1)
        preserve = SecondMoment(mean=self.intercept)
        # The constant column of the intercept is the constant that the reduction adds by itself.
        rows, weights = host_rows(residual_rows(data, intercept=False), data.weights)
        reduction = reduce_rows(rows, weights, preserve.lift)
        certificate = evidence(reduction, preserve)
        check_reached(certificate)
        if size is not None and reduction.indices.size > size:
            raise ValueError(
                f"size = {size} is too small: exactness takes {reduction.indices.size} rows here; "
                "raise it, or draw an approximate coreset with SensitivityReducer(LeastSquares())"
            )
        xp = array_namespace(data.points)
        return Coreset(
            indices=xp.asarray(reduction.indices, device=device(data.points)),
            weights=xp.asarray(reduction.weights, device=device(data.points)),
            size=size or max(1, reduction.indices.size),
            accuracy=Accuracy.exact(),
            certificates=(certificate,),
        )
