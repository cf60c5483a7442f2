"""Losses of k centres: sensitivities against searches, claims, streams, lightweight coresets."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.optimize import minimize
from scipy.spatial.distance import cdist
from sklearn.cluster import KMeans

from coresets import (
    IID,
    Accuracy,
    AssumptionError,
    FixedSize,
    Hybrid,
    Poisson,
    Scheme,
    SensitivityReducer,
    Top,
    WeightedSet,
)
from coresets.clustering import (
    ClusteringLoss,
    Distance,
    LightweightLoss,
    Partition,
    Seeding,
    SquaredDistance,
    cluster_sensitivities,
    find_centres,
    optimum_lower_bound,
)
from coresets.guarantees import ClusterSensitivity
from coresets.streams import KnownLength, MergeReduce, NodeSize

EPS = float(np.finfo(np.float64).eps)
POWERS = pytest.mark.parametrize("power", [SquaredDistance(), Distance()], ids=["squares", "distances"])
LOSSES = pytest.mark.parametrize(
    "loss", [ClusteringLoss(2), LightweightLoss(2)], ids=["clusters", "lightweight"]
)


def costs_of(points: np.ndarray, centres: np.ndarray, exponent: int) -> np.ndarray:
    return cdist(points, centres).min(axis=1) ** exponent


def three_clusters(n: int, seed: int = 0, d: int = 2) -> np.ndarray:
    rng = np.random.default_rng(seed)
    return rng.standard_normal((n, d)) + 12.0 * rng.integers(0, 3, (n, 1))


# ---- sensitivities


@POWERS
@pytest.mark.parametrize("k", [1, 2, 3])
def test_no_share_found_by_search_exceeds_its_bound(power: SquaredDistance | Distance, k: int) -> None:
    rng = np.random.default_rng(k)
    points, weights = rng.standard_normal((12, 2)) * [1.0, 4.0], rng.uniform(0.2, 3.0, 12)
    points[:2] += 60.0
    data = WeightedSet(points, weights)
    bounds = np.asarray(ClusteringLoss(k, power).sensitivities(data).values)

    def share(flat: np.ndarray, p: int) -> float:
        costs = weights * costs_of(points, flat.reshape(k, 2), power.exponent)
        return -float(costs[p] / costs.sum())

    for p in range(12):
        starts = [
            points[rng.choice(12, k, replace=False)] + 0.1 * rng.standard_normal((k, 2)) for _ in range(3)
        ]
        starts.append(np.repeat((2.0 * points.mean(axis=0) - points[p])[None], k, axis=0))
        for start in starts:
            found = minimize(share, start.ravel(), args=(p,), method="Nelder-Mead", options={"maxiter": 150})
            assert -found.fun <= bounds[p] * (1.0 + 1e3 * EPS)


@POWERS
@settings(max_examples=20)
@given(seed=st.integers(0, 2**32 - 1), k=st.integers(1, 4), clusters=st.integers(1, 8), n=st.integers(9, 80))
def test_the_total_is_at_most_that_of_the_theorem(
    power: SquaredDistance | Distance, seed: int, k: int, clusters: int, n: int
) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.standard_normal((n, 2)), rng.uniform(0.1, 2.0, n)
    low = optimum_lower_bound(WeightedSet(points, weights), k, power, rng=seed)
    found = Partition.around(points, weights, points[:clusters], power)
    total = float(cluster_sensitivities(weights, found, low, power).sum())
    filled = int(np.count_nonzero(found.masses))
    stated = ClusterSensitivity.total(found.cost / low, filled, squared=power.exponent == 2)
    assert total <= stated * (1.0 + 64 * n * EPS)
    assert total >= 1.0 - 64 * n * EPS


def test_one_centre_for_squares_is_bounded_within_the_known_formula() -> None:
    """The exact sensitivity of one centre is w D^2 / OPT + w / W."""
    points = np.random.default_rng(0).standard_normal((200, 3))
    squares = np.square(points - points.mean(axis=0)).sum(axis=1)
    exact = squares / squares.sum() + 1.0 / 200
    bounds = np.asarray(ClusteringLoss(1).sensitivities(WeightedSet(points)).values)
    # (sqrt(x + y) + sqrt(y))^2 <= 4 (x + y), with x = D^2 / OPT and y = 1 / n, and singular values are sharp.
    assert np.all(bounds >= exact * (1.0 - 1e3 * EPS))
    assert np.all(bounds <= 4.0 * exact * (1.0 + 1e-8))


@POWERS
@settings(max_examples=10)
@given(seed=st.integers(0, 2**32 - 1), scale=st.integers(-9, 9), mass=st.integers(-9, 9))
def test_sensitivities_do_not_change_with_the_units(
    power: SquaredDistance | Distance, seed: int, scale: int, mass: int
) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.standard_normal((50, 2)), rng.uniform(0.1, 2.0, 50)
    loss = ClusteringLoss(2, power)
    plain = loss.sensitivities(WeightedSet(points, weights)).values
    other = loss.sensitivities(WeightedSet(2.0**scale * points, 2.0**mass * weights)).values
    assert np.asarray(other) == pytest.approx(np.asarray(plain), rel=1e4 * EPS)


@POWERS
def test_a_tiny_cluster_far_away_is_worth_a_share_of_one(power: SquaredDistance | Distance) -> None:
    points = three_clusters(20_000)
    points[:4] += 1e5
    bounds = ClusteringLoss(4, power).sensitivities(WeightedSet(points))
    assert float(np.sum(bounds.values[:4])) >= 1.0 - 1e-6
    assert bounds.total < 40.0
    missed = [
        np.count_nonzero(
            SensitivityReducer(ClusteringLoss(4, power), IID())
            .reduce(WeightedSet(points), size=400, rng=seed)
            .indices
            < 4
        )
        == 0
        for seed in range(5)
    ]
    # Each draw finds it with probability 1/40 at least: all five find it but for 5 (39/40)^400 < 3e-4.
    assert not any(missed)


@POWERS
def test_points_without_mass_and_coinciding_points_are_understood(power: SquaredDistance | Distance) -> None:
    places = np.repeat(np.array([[0.0], [8.0]]), [3, 2], axis=0)
    weights = np.array([1.0, 0.0, 3.0, 2.0, 2.0])
    bounds = ClusteringLoss(2, power).sensitivities(WeightedSet(places, weights))  # the optimum is 0
    assert np.asarray(bounds.values) == pytest.approx([0.25, 0.0, 0.75, 0.5, 0.5], rel=4 * EPS)
    every = ClusteringLoss(9, power).sensitivities(WeightedSet(np.arange(5.0)[:, None]))
    assert np.all(np.asarray(every.values) == 1.0)  # as many centres as points: nothing can be left out


def test_a_lower_bound_of_zero_leaves_every_share_at_most_one() -> None:
    points = np.random.default_rng(0).standard_normal((30, 2))
    found = Partition.around(points, np.ones(30), points[:3], SquaredDistance())
    assert np.all(cluster_sensitivities(np.ones(30), found, 0.0, SquaredDistance()) == 1.0)


def test_the_certificate_names_the_bound_the_cost_and_their_ratio() -> None:
    points = three_clusters(5000)
    (evidence,) = ClusteringLoss(3).sensitivities(WeightedSet(points)).certificates
    best = KMeans(3, n_init=3, random_state=0).fit(points).inertia_
    assert evidence.value <= best
    assert evidence.details["cost"] >= best * (1.0 - 1e-9)
    assert evidence.details["ratio"] == evidence.details["cost"] / evidence.value < 6.0
    assert evidence.confidence == 1.0


# ---- partitions


@POWERS
def test_every_point_is_with_its_nearest_centre(power: SquaredDistance | Distance) -> None:
    rng = np.random.default_rng(2)
    points, weights, centres = (
        rng.standard_normal((500, 3)),
        rng.uniform(0.0, 2.0, 500),
        rng.standard_normal((7, 3)),
    )
    found = Partition.around(points, weights, centres, power)
    assert np.array_equal(found.labels, cdist(points, centres).argmin(axis=1))
    if power.exponent == 2:
        centres = np.stack(
            [
                np.average(points[found.labels == q], axis=0, weights=weights[found.labels == q])
                for q in range(7)
            ]
        )
    assert found.centres == pytest.approx(centres, abs=500 * EPS)
    own = np.linalg.norm(points - centres[found.labels], axis=1) ** power.exponent
    assert found.cost == pytest.approx(float(weights @ own), rel=500 * EPS)
    assert found.masses == pytest.approx(np.bincount(found.labels, weights), rel=500 * EPS)


def test_means_keep_their_digits_far_from_the_origin() -> None:
    points = np.random.default_rng(0).standard_normal((4000, 2))
    far = points + 2.0**30
    near = far - 2.0**30  # exact, so that both sets differ by a shift only
    power = SquaredDistance()
    shifted = Partition.around(far, np.ones(4000), far[:3], power)
    plain = Partition.around(near, np.ones(4000), near[:3], power)
    # A centre at 2^30 has an absolute rounding of 2^30 eps, squared in the cost of a mean.
    assert shifted.cost == pytest.approx(plain.cost, rel=1e-9)


def test_centres_are_as_good_as_those_of_scikit_learn_within_a_tenth() -> None:
    points = three_clusters(30_000, d=5)
    found = find_centres(
        points,
        np.ones(30_000),
        3,
        SquaredDistance(),
        low=1.0,
        seeding=Seeding(),
        rng=np.random.default_rng(0),
    )
    assert found.cost <= 1.1 * KMeans(3, n_init=3, random_state=0).fit(points).inertia_


def test_later_rounds_find_what_the_first_one_missed() -> None:
    """Two tiny far clusters, of which a hundred points in proportion to mass and cost see one only."""
    points = three_clusters(30_000)
    points[:3], points[3:6] = [150.0, -100.0], [-100.0, 150.0]
    first, third = (
        find_centres(
            points,
            np.ones(30_000),
            5,
            SquaredDistance(),
            low=0.0,
            seeding=Seeding(sample=100, rounds=rounds),
            rng=np.random.default_rng(0),
        )
        for rounds in (1, 3)
    )
    assert third.cost < 0.5 * first.cost


def test_float32_and_tensors_give_the_same_bounds() -> None:
    torch = pytest.importorskip("torch")
    points = three_clusters(3000).astype(np.float32)
    for loss in (ClusteringLoss(3), LightweightLoss(3)):
        expected = loss.sensitivities(WeightedSet(points)).values
        found = loss.sensitivities(WeightedSet(torch.asarray(points))).values
        assert expected.dtype == np.float32
        assert isinstance(found, torch.Tensor)
        assert np.array_equal(found.numpy(), expected)
        costs = loss.costs(WeightedSet(torch.asarray(points)), torch.zeros((1, 2)))
        assert np.allclose(costs.numpy(), np.square(points).sum(axis=1), rtol=1e-5)


# ---- claims and draws


@pytest.mark.parametrize(
    ("sampler", "key"),
    [(IID(), "KM-A"), (Poisson(), "E1-P"), (FixedSize(), "E1-F"), (Hybrid(), "E1-H"), (Top(), "TOP")],
    ids=["iid", "poisson", "fixed", "hybrid", "top"],
)
def test_each_sampler_gets_the_theorem_that_covers_it(sampler: IID, key: str) -> None:
    data = WeightedSet(three_clusters(500))
    assert SensitivityReducer(ClusteringLoss(2), sampler).claim(data).guarantee.key == key
    light = SensitivityReducer(LightweightLoss(2), sampler)
    if sampler.scheme is Scheme.WITH_REPLACEMENT:
        assert light.claim(data).guarantee.key == "KM-L"
    else:
        with pytest.raises(AssumptionError, match=r"no theorem promises a lightweight coreset .* use IID"):
            light.claim(data)


@POWERS
def test_centres_trained_on_the_coreset_are_nearly_as_good(power: SquaredDistance | Distance) -> None:
    points = three_clusters(20_000)
    data, loss = WeightedSet(points), ClusteringLoss(3, power)
    coreset = SensitivityReducer(loss, IID()).reduce(data, size=2000, rng=0)
    kept = coreset.of(data)
    small = find_centres(
        np.asarray(kept.points), kept.weights, 3, power, low=0.0, seeding=Seeding(rounds=1, steps=30), rng=0
    )
    full = find_centres(
        points, np.ones(20_000), 3, power, low=0.0, seeding=Seeding(sample=20_000, steps=30), rng=0
    )
    ours, theirs = (float(np.sum(loss.costs(data, f.centres[:3]))) for f in (small, full))
    assert ours <= 1.02 * theirs


def test_costs_are_those_of_the_nearest_centre() -> None:
    points = three_clusters(50)
    for power in (SquaredDistance(), Distance()):
        loss = ClusteringLoss(3, power)
        found = loss.costs(WeightedSet(points), points[:3])
        assert found == pytest.approx(costs_of(points, points[:3], power.exponent), rel=16 * EPS, abs=1e-300)


# ---- lightweight


@POWERS
@settings(max_examples=30)
@given(seed=st.integers(0, 2**32 - 1), share=st.floats(0.05, 0.95), far=st.floats(-3.0, 6.0))
def test_lightweight_bounds_hold_relative_to_both_costs(
    power: SquaredDistance | Distance, seed: int, share: float, far: float
) -> None:
    rng = np.random.default_rng(seed)
    points, weights = rng.standard_normal((40, 2)), rng.uniform(0.1, 2.0, 40)
    bounds = np.asarray(LightweightLoss(3, power, share).sensitivities(WeightedSet(points, weights)).values)
    mean = np.average(points, axis=0, weights=weights)
    single = float(weights @ costs_of(points, mean[None], power.exponent))
    centres = 10.0**far * rng.standard_normal((3, 2))
    costs = weights * costs_of(points, centres, power.exponent)
    assert np.all(costs <= bounds * (costs.sum() + single) * (1.0 + 1e3 * EPS))
    assert bounds.sum() == pytest.approx(max(power.exponent / share, 1.0 / (1.0 - share)), rel=1e3 * EPS)


def test_the_smallest_totals_are_those_of_the_page() -> None:
    data = WeightedSet(three_clusters(100))
    totals = [
        LightweightLoss(1, power, share).sensitivities(data).total
        for power, share in ((SquaredDistance(), 0.5), (SquaredDistance(), 2 / 3), (Distance(), 0.5))
    ]
    assert totals == pytest.approx([4.0, 3.0, 2.0], rel=1e3 * EPS)


def test_a_lightweight_coreset_of_one_place_draws_by_mass() -> None:
    bounds = LightweightLoss(1).sensitivities(WeightedSet(np.ones((4, 2)), [1.0, 2.0, 3.0, 4.0]))
    assert bounds.values == pytest.approx(np.array([0.2, 0.4, 0.6, 0.8]), rel=8 * EPS)


# ---- streams


@POWERS
def test_a_stream_keeps_the_cost_of_centres_within_its_accuracy(power: SquaredDistance | Distance) -> None:
    points = three_clusters(60_000)
    promised = Accuracy(0.3, 0.1)
    reducer = SensitivityReducer(
        ClusteringLoss(3, power, Seeding(sample=1000, repeats=1, steps=3)), Poisson()
    )
    stream = MergeReduce(reducer, KnownLength(promised, 60_000), block=15_000, rng=1)
    for start in range(0, 60_000, 20_000):
        stream.push(WeightedSet(points[start : start + 20_000]))
    result = stream.result()
    assert result.data.n < 60_000
    assert result.accuracy.epsilon <= 0.3
    centres = np.array([[0.0, 0.0], [12.0, 12.0], [24.0, 24.0]])
    kept = result.data
    answer = float(kept.weights @ costs_of(np.asarray(kept.points), centres, power.exponent))
    truth = float(costs_of(points, centres, power.exponent).sum())
    assert abs(answer / truth - 1.0) <= 0.3


def test_a_stream_promises_nothing_with_a_lightweight_loss() -> None:
    reducer = SensitivityReducer(LightweightLoss(2), IID())
    with pytest.raises(AssumptionError, match="do not add up over a tree"):
        MergeReduce(reducer, KnownLength(Accuracy(0.3, 0.1), 1000), block=100, rng=0)
    stream = MergeReduce(reducer, NodeSize(50), block=200, rng=0)
    stream.push(WeightedSet(three_clusters(450)))
    assert stream.result().accuracy.epsilon == np.inf


# ---- refusals


@LOSSES
def test_bad_queries_are_named(loss: ClusteringLoss | LightweightLoss) -> None:
    data = WeightedSet(np.eye(3))
    with pytest.raises(ValueError, match=r"centres has shape \(1, 2\); expected \(k, 3\)"):
        loss.costs(data, [[0.0, 1.0]])
    with pytest.raises(ValueError, match="centres has 3 rows; the loss is that of at most k = 2"):
        loss.costs(data, np.eye(3))
    with pytest.raises(ValueError, match=r"centres\[0, 1\] = nan"):
        loss.costs(data, [[0.0, np.nan, 0.0]])


@pytest.mark.parametrize("make", [ClusteringLoss, LightweightLoss])
def test_bad_parameters_are_named(make: type[ClusteringLoss] | type[LightweightLoss]) -> None:
    with pytest.raises(ValueError, match="k = 0 is too small"):
        make(0)
    with pytest.raises(TypeError, match=r"power = 2; pass SquaredDistance\(\)"):
        make(2, 2)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="power = <class"):
        make(2, Distance)  # type: ignore[arg-type]


def test_bad_shares_and_seedings_are_named() -> None:
    with pytest.raises(ValueError, match="uniform_share = 1 is not strictly between"):
        LightweightLoss(2, uniform_share=1.0)
    with pytest.raises(TypeError, match="seeding = 3; pass Seeding"):
        ClusteringLoss(2, seeding=3)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="rounds = 0 is too small"):
        Seeding(rounds=0)
