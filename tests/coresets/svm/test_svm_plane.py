"""Sensitivities in the plane against their exact values, which are those of a sequence of convex programs.

Where the hinge loss of a point p is positive it is affine, so that lam u_p (1 - margin_p) - tau F is concave:
its maximum tells whether some model gives p a share above tau. Dinkelbach's iteration puts the share at the
maximiser in place of tau, and ends at the largest share after a few programs.
"""

import cvxpy as cp
import numpy as np
import pytest

from coresets.svm import (
    ClusterBounds,
    Clusters,
    FreeIntercept,
    LabelledSet,
    LinearModel,
    NoIntercept,
    NormBounds,
    RegularisedIntercept,
    SVMObjective,
    cluster_sensitivities,
    train_svm,
)

INTERCEPTS = [RegularisedIntercept(), FreeIntercept(), NoIntercept()]


def shares(data: LabelledSet, objective: SVMObjective, model: LinearModel) -> np.ndarray:
    losses = np.maximum(0.0, 1.0 - data.signs * model.decision(data.points))
    return objective.lam * data.weights * losses / objective.value(data, model)


def largest_shares(data: LabelledSet, objective: SVMObjective) -> np.ndarray:
    """Shares that are attained at models found by Dinkelbach's iteration, or approached at a constant."""
    w, b, pull, tau = cp.Variable(data.d), cp.Variable(), cp.Parameter(data.d + 1), cp.Parameter(nonneg=True)
    intercept = objective.intercept
    penalty = 0.5 * cp.sum_squares(w)
    constraints = []
    if intercept.scale > 0.0:
        penalty += 0.5 * cp.square(b / intercept.scale)
    elif not intercept.free:
        constraints = [b == 0]
    margins = cp.multiply(data.signs, data.points @ w + b)
    value = penalty + objective.lam * data.weights @ cp.pos(1 - margins)
    problem = cp.Problem(cp.Minimize(tau * value + pull[:-1] @ w + pull[-1] * b), constraints)
    by_class = np.asarray(data.class_weights)[(data.signs > 0).astype(int)]
    best = shares(data, objective, LinearModel(np.zeros(data.d)))
    if intercept.free:
        best = np.maximum(best, data.weights / by_class)  # b to infinity
    for p in range(data.n):
        pull.value = objective.lam * data.weights[p] * data.signs[p] * np.append(data.points[p], 1.0)
        for _ in range(12):
            tau.value = best[p] * (1.0 + 1e-7)
            problem.solve(solver=cp.CLARABEL)
            found = shares(data, objective, LinearModel(w.value, float(b.value) if not constraints else 0.0))[
                p
            ]
            if found <= best[p] * (1.0 + 1e-6):
                break
            best[p] = found
    return best


def plane(seed: int, n: int = 8) -> LabelledSet:
    rng = np.random.default_rng(seed)
    y = np.array([-1, 1, *rng.choice([-1, 1], n - 2)])
    return LabelledSet(rng.standard_normal((n, 2)) + 0.7 * y[:, None], y, rng.uniform(0.3, 2.0, n))


@pytest.mark.parametrize("intercept", INTERCEPTS, ids=lambda i: type(i).__name__)
@pytest.mark.parametrize(("seed", "lam"), [(0, 0.05), (1, 1.0)], ids=["weak", "strong"])
def test_bounds_in_the_plane_are_not_exceeded(intercept, seed, lam):
    data, objective = plane(seed), SVMObjective(lam, intercept)
    exact = largest_shares(data, objective)
    low = train_svm(data, objective, tightness=1e-6).dual
    clusters = cluster_sensitivities(data, Clusters.of_classes(data), objective, low)
    two = cluster_sensitivities(data, Clusters.fit(data, 2, rng=0), objective, low)
    norms = NormBounds(low=low).sensitivities(data, objective, 0).values
    default = ClusterBounds().sensitivities(data, objective, 0).values
    for bounds in (clusters, two, norms, default):
        assert np.all(exact <= bounds * (1.0 + 1e-9))


def test_bounds_in_the_plane_are_nearly_attained():
    data, objective = plane(0), SVMObjective(0.05, FreeIntercept())
    low = train_svm(data, objective, tightness=1e-6).dual
    values = cluster_sensitivities(data, Clusters.of_classes(data), objective, low)
    assert np.max(largest_shares(data, objective) / values) > 0.9


def test_seeds_in_place_of_means_are_exceeded_in_the_plane():
    data, objective = plane(0), SVMObjective(0.05, FreeIntercept())
    low = train_svm(data, objective, tightness=1e-6).dual
    honest = Clusters.of_classes(data)
    first = [int(np.flatnonzero(data.signs == sign)[0]) for sign in (-1, 1)]
    seeds = Clusters(honest.labels, data.points[first], honest.masses)
    values = cluster_sensitivities(data, seeds, objective, low)
    assert np.max(largest_shares(data, objective) / values) > 1.0 + 1e-6
