"""The error of a chain of layers from the residuals of each: IS-ML. No chance is involved."""

from __future__ import annotations

from typing import Any

import numpy as np

from coresets._validate import check_real
from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Status

__all__ = ["PrunedInOrder"]


class PrunedInOrder(Guarantee):
    """IS-ML: residuals of hidden layers add up, each times the norms of the maps that follow.

    Examples
    --------
    >>> from nn.guarantees.chains import PrunedInOrder
    >>> PrunedInOrder().error(residuals=[0.1, 0.2], norms=[3.0, 2.0])  # 2 * 0.1 + 0.2
    0.4
    """

    key = "IS-ML"
    title = "residuals of the hidden layers add up to the error of the network"
    statement = (
        "For f = W_L g(... g(W_1 X)) with g entrywise of Lipschitz constant c, let V_l be the residual of "
        "hidden layer l in W_(l+1), measured behind the pruned layers before it, or behind the original "
        "ones. Then |f(X) - f^(X)|_F <= sum over l of |V_l|_F times the product over k >= l + 2 of c |W_k|."
    )
    citation = Citation("wolfe2022", "Wolfe and Kyrillidis 2022, i-SpaSP; this bound on the theory page")
    status = Status.DERIVED_HERE
    assumptions = (
        Assumption("the layers form a chain, and weights are not changed but for removed units"),
        Assumption("activations act entry by entry with Lipschitz constant c"),
    )
    quantifier = Quantifier.FOR_ALL

    def error(self, residuals: Any, norms: Any, lipschitz: float = 1.0) -> float:
        """The sum.

        Parameters
        ----------
        residuals : array of shape (L - 1,)
            Frobenius norms of V_1, ..., V_(L-1).
        norms : array of shape (L - 1,)
            Spectral norms of W_2, ..., W_L; the first one does not matter.
        lipschitz : float
            c, of the activations.
        """
        values = np.asarray(residuals, dtype=np.float64)
        factors = np.asarray(norms, dtype=np.float64) * check_real(lipschitz, "lipschitz")
        if values.shape != factors.shape or values.ndim != 1:
            raise ValueError(
                f"{values.shape} residuals and {factors.shape} norms; one of each a hidden layer"
            )
        behind = np.append(np.cumprod(factors[:0:-1])[::-1], np.ones(min(values.size, 1)))
        return float(values @ behind)
