"""Training by the steps of the certificate, from zero or from a model: small sets, and pilots."""

from __future__ import annotations

import numpy as np

from coresets._random import Rng, resolve_rng
from coresets._validate import check_integer, check_real
from coresets.svm._search import Found, Stop, search
from coresets.svm.certificate import SVMCertificate
from coresets.svm.data import LabelledSet
from coresets.svm.objective import LinearModel, SVMObjective
from coresets.weighted_set import WeightedSet

__all__ = ["pilot_lower_bound", "train_pilot", "train_svm"]


def train_svm(
    data: LabelledSet | WeightedSet,
    objective: SVMObjective,
    *,
    start: LinearModel | None = None,
    tightness: float = 1e-3,
    max_passes: int = 500,
) -> SVMCertificate:
    """Minimise F on weighted data, with a certificate for what was reached.

    Parameters
    ----------
    data : LabelledSet or WeightedSet
        n points, d columns; d x d systems are solved, by conjugate gradients above 1500 columns.
    objective : SVMObjective
        The problem.
    start : LinearModel, optional
        Zero by default.
    tightness : float
        Relative distance from the optimum at which to stop, positive.
    max_passes : int
        Begin no further step after so many reads of the data.

    Returns
    -------
    SVMCertificate
        For the model in ``best``.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets.svm import LabelledSet, SVMObjective, train_svm
    >>> rng = np.random.default_rng(0)
    >>> y = rng.choice([-1, 1], 500)
    >>> found = train_svm(LabelledSet(rng.standard_normal((500, 2)) + y[:, None], y), SVMObjective(0.1))
    >>> found.gap < 0.001
    True
    """
    data = LabelledSet.of(data)
    start = LinearModel(np.zeros(data.d)) if start is None else start
    tightness = check_real(tightness, "tightness")
    if tightness <= 0.0:
        raise ValueError(f"tightness = {tightness:g} is not positive")
    max_passes = check_integer(max_passes, "max_passes", at_least=1)
    return _trained(search(data, objective, start, Stop(tightness), max_passes))


def _trained(found: Found) -> SVMCertificate:
    """The certificate of the best model."""
    value = float(found.best_value)
    return SVMCertificate(value, float(found.dual), found.passes, found.best, value)


def train_pilot(data: LabelledSet, objective: SVMObjective, size: int, *, rng: Rng) -> SVMCertificate:
    """A model trained on a uniform pilot and improved by two Newton steps on all points: three passes.

    Parameters
    ----------
    data : LabelledSet
        n points.
    objective : SVMObjective
        The problem.
    size : int
        Points of the pilot; all are taken if there are no more.
    rng : int, numpy.random.SeedSequence or numpy.random.Generator
        Which points.

    Returns
    -------
    SVMCertificate
        Its ``dual`` is a lower bound on the optimum of all the data, whichever points were taken, and
        ``best`` the model.
    """
    if data.n <= size:
        return train_svm(data, objective, tightness=0.05)
    generator = resolve_rng(rng)
    rows, weights = [], []
    for sign, mass in zip((-1, 1), data.class_weights, strict=True):
        own = np.flatnonzero((data.signs == sign) & (data.weights > 0.0))
        if own.size == 0:
            continue
        share = max(min(own.size, 50), round(size * own.size / data.n))
        chosen = own if share >= own.size else own[np.unique(generator.integers(0, own.size, share))]
        rows.append(chosen)
        weights.append(data.weights[chosen] * (mass / data.weights[chosen].sum()))
    pilot = train_svm(
        data.take(np.concatenate(rows), np.concatenate(weights)), objective, tightness=0.01, max_passes=50
    )
    return _trained(search(data, objective, pilot.best, Stop(tightness=0.01), max_passes=3))


def pilot_lower_bound(data: LabelledSet, objective: SVMObjective, size: int, *, rng: Rng) -> float:
    """Certified lower bound on the optimum from a model trained on a uniform pilot, in three passes.

    Parameters
    ----------
    data, objective, size, rng
        As for the pilot: all points are taken if there are no more than ``size``.

    Returns
    -------
    float
        At least 0, and at most the optimum.
    """
    return train_pilot(data, objective, size, rng=rng).dual
