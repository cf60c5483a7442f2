"""Statements about sensitivities that involve no chance: LEV and LEWIS."""

from __future__ import annotations

from coresets.guarantee import Assumption, Citation, Guarantee, Quantifier, Status

__all__ = ["LeverageSensitivity", "LewisSensitivity"]


class LeverageSensitivity(Guarantee):
    """LEV: leverage scores are the sensitivities of weighted least squares, exactly."""

    key = "LEV"
    title = "leverage scores are the exact sensitivities of sums of squares"
    statement = (
        "The largest share w(p) (p.x)^2 / sum w (q.x)^2 of a point, over all x, is its leverage "
        "score; it is attained, and the scores add up to the rank."
    )
    citation = Citation("drineas2006", "Drineas, Mahoney and Muthukrishnan 2006; one line of Cauchy-Schwarz")
    status = Status.DERIVED_HERE
    assumptions = (Assumption("the losses are weighted squares of linear functions", "the loss"),)
    quantifier = Quantifier.FOR_ALL


class LewisSensitivity(Guarantee):
    """LEWIS: Lewis weights bound the sensitivities of sums of |p.x|^p, with total the rank for p <= 2."""

    key = "LEWIS"
    title = "Lewis weights bound the sensitivities of sums of p-th powers"
    statement = (
        "If tau_i = (a_i^T M^-1 a_i)^(p/2) with M = sum tau_i^(1 - 2/p) a_i a_i^T and a_i = "
        "w_i^(1/p) p_i, then every share w |p.x|^p / sum w |q.x|^p is at most tau for p <= 2, and "
        "at most tau r^(p/2 - 1) for p > 2; the tau add up to the rank r. Approximate weights "
        "with ratio at most gamma are valid after multiplication by gamma^(2/p) (p <= 2)."
    )
    citation = Citation("cohen2015", "Cohen and Peng 2015; sensitivity form proved on the theory page")
    status = Status.DERIVED_HERE
    assumptions = (Assumption("0 < p < 4, the range in which the fixed point converges", "lewis_weights"),)
    quantifier = Quantifier.FOR_ALL
