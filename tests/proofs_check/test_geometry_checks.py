"""The figures of the geometric checks, on sets whose ellipsoids, factors and shares are known."""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from coresets.reduction import SensitivityReducer
from coresets.weighted_set import WeightedSet
from proofs_check.checks import designs, ellipsoid, geometry, moments, neurons
from proofs_check.checks._geometry import CERTAIN, certain, named, renamed, small, tight
from proofs_check.checks._views import Rounded, View
from proofs_check.geometry_oracles import variances
from proofs_check.neuron_queries import NeuronWorst
from proofs_check.trials import ROUNDING
from proofs_check.workloads import adversarial, degenerate

TIGHT = 1.0 + ROUNDING  # what a claim may reach before the run calls it refuted


def cross(d: int = 3) -> np.ndarray:
    return np.vstack([np.eye(d), -np.eye(d)])


def cloud(n: int = 60, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


def ball(radius: float, d: int = 3, gap: float = 0.0) -> Rounded:
    """A claim about the cross-polytope: its smallest ellipsoid is the unit ball, its rounding is d."""
    return Rounded(np.zeros(d), radius**2 * np.eye(d), np.full(2 * d, 0.5 / d), gap, d * (1.0 + gap))


class TestView:
    @pytest.mark.parametrize("symmetric", [True, False])
    def test_the_smallest_ellipsoid_attains_all_of_its_claims(self, symmetric: bool) -> None:
        view = View(cross(), symmetric)
        assert view.enclosed(ball(1.0)) == pytest.approx(1.0, rel=ROUNDING)
        assert view.volume(ball(1.0)) == 0.0
        reach = view.inscribed(ball(1.0))
        # Centred, the inscribed ball touches the facets; free, it is smaller than what fits.
        assert reach == pytest.approx(1.0 if symmetric else 1.0 / math.sqrt(3.0), rel=ROUNDING)

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_an_ellipsoid_that_is_too_small_does_not_enclose(self, symmetric: bool) -> None:
        assert View(cross(), symmetric).enclosed(ball(0.9)) > 1.2

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_an_ellipsoid_that_is_too_large_has_too_much_volume_and_is_not_inscribed(
        self, symmetric: bool
    ) -> None:
        view = View(cross(), symmetric)
        assert view.volume(ball(1.1, gap=1e-3)) > 100.0
        assert view.inscribed(ball(2.0)) > TIGHT
        assert view.enclosed(ball(1.1, gap=1e-3)) <= TIGHT

    def test_a_gap_below_the_true_one_is_seen(self) -> None:
        view = View(cloud(), True)
        uniform = np.full(60, 1.0 / 60.0)
        gap = float(variances(view.rows, uniform).max()) / 3.0 - 1.0
        assert view.enclosed(view.claimed(uniform, gap)) == pytest.approx(1.0, rel=ROUNDING)
        assert view.enclosed(view.claimed(uniform, 0.9 * gap)) > TIGHT

    def test_an_ellipsoid_that_sticks_out_of_flat_points_does_not_pass(self) -> None:
        flat = np.hstack([cross(2), np.zeros((4, 1))])
        thick = Rounded(np.zeros(3), np.eye(3), np.full(4, 0.25), 0.0, 2.0)
        assert View(flat, True).enclosed(thick) == math.inf
        thin = replace(thick, shape=np.diag([1.0, 1.0, 0.0]))
        assert View(flat, True).enclosed(thin) == pytest.approx(1.0, rel=ROUNDING)

    def test_a_stated_rounding_error_of_the_enclosure_is_allowed(self) -> None:
        claim = ball(1.0 - 1e-6)
        assert View(cross(), True).enclosed(claim) > TIGHT
        assert View(cross(), True).enclosed(replace(claim, tolerance=1e-5)) <= TIGHT

    def test_one_point_is_its_own_ellipsoid(self) -> None:
        view = View([[1.0, 2.0]], False)
        claim = Rounded(np.array([1.0, 2.0]), np.zeros((2, 2)), np.ones(1), 0.0, 0.0)
        assert (view.enclosed(claim), view.inscribed(claim), view.volume(claim)) == (0.0, 0.0, 0.0)
        assert view.enclosed(replace(claim, center=np.array([1.0, 2.1]))) == math.inf


class TestEllipsoidFaults:
    def test_a_design_that_stopped_early_claims_less_than_its_gap(self) -> None:
        view = View(cloud(), False)
        found = ellipsoid.Stopped(view, 1e-6)()
        assert found.gap == 1e-6
        assert float(variances(view.rows, found.weights).max()) / 4.0 - 1.0 > 1e-3

    def test_a_subsample_knows_nothing_of_the_other_points(self) -> None:
        points = cloud()
        points[1] = 100.0
        view = View(points, False)
        found = ellipsoid.Subsampled(view)()
        assert np.count_nonzero(found.weights[np.arange(60) % 3 != 0]) == 0
        assert view.enclosed(found) > 100.0

    def test_an_ellipsoid_that_is_not_grown_falls_short_by_its_gap(self) -> None:
        view = View(cloud(), True)
        found = ellipsoid.Ungrown(view)()
        assert 0.0 < found.gap <= 0.2
        assert view.enclosed(found) == pytest.approx(1.0 + found.gap, rel=ROUNDING)

    def test_a_lost_contact_point_leaves_the_claim_as_it_was(self) -> None:
        honest = ellipsoid.Library(View(cloud(), True), ellipsoid.By(), 1e-6)
        before, after = honest(), ellipsoid.Lost(honest)()
        assert np.count_nonzero(after.weights) == np.count_nonzero(before.weights) - 1
        assert after.rounding == before.rounding
        assert np.array_equal(after.shape, before.shape)

    def test_the_member_of_a_batch_that_counts_is_the_last(self) -> None:
        points = cloud() * np.array([1.0, 2.0, 4.0])
        view = View(points, False)
        assert view.rounded(ellipsoid.Library(view, ellipsoid.in_batch, 1e-2)()) <= TIGHT
        assert view.rounded(ellipsoid.Library(view, ellipsoid.of_another, 1e-2)()) > TIGHT

    def test_points_of_the_last_block_are_missing_from_the_broken_route_only(self) -> None:
        points = cloud(140)
        points[-1] = 100.0
        view = View(points, False)
        assert view.rounded(ellipsoid.Library(view, ellipsoid.in_blocks, 1e-6)()) <= TIGHT
        assert view.rounded(ellipsoid.Library(view, ellipsoid.without_last_block, 1e-6)()) > 100.0


class TestDesigns:
    def test_the_formula_with_a_relative_excess_eliminates_a_contact_point(self) -> None:
        # Twenty points +-e_i in ten dimensions; one axis has more than its share.
        view = View(np.eye(10), True)
        over = designs.LeastInSupport(view)
        assert over(designs.Threshold(designs._honest_rule)()) <= TIGHT
        assert over(designs.Threshold(designs._relative_rule)()) > 1.5
        assert over(designs.Threshold(designs._dimension_rule)()) > 1.5

    def test_half_a_step_gains_less_than_promised(self) -> None:
        view = View(cloud() * 2.0 ** np.arange(3), True)
        over = designs.StepsOver(view, 0.05)
        assert over(designs.LibraryAscent(view, 0.05)()) <= TIGHT
        assert over(designs.PlainAscent(view, 0.05)()) <= TIGHT
        assert over(designs.PlainAscent(view, 0.05, nearest=True)()) == math.inf

    @pytest.mark.parametrize("steps", [1, 4, 32])
    def test_the_plain_average_obeys_the_bound_as_the_library_does(self, steps: int) -> None:
        view = View(cloud(), True)
        over = designs.VarianceOver(view, steps)
        plain, library = (f(view, steps)() for f in (designs.PlainAverage, designs.LibraryAverage))
        assert over(plain) <= TIGHT
        assert over(library) <= over(plain) * TIGHT

    def test_a_start_with_too_many_points_is_no_start(self) -> None:
        view = View(cloud(), True)
        assert designs.Behind(view)(np.full(60, 1.0 / 60.0)) == math.inf
        assert designs.Behind(view)(designs.Start(view, streamed=True)()) <= TIGHT


class TestMoments:
    @pytest.mark.parametrize("mass", [True, False])
    def test_more_points_than_suffice_are_counted(self, mass: bool) -> None:
        task = moments.Task(WeightedSet(cloud()), mass)
        assert task.measure(task.weights) == pytest.approx(60.0 / (3.0 + mass))
        assert task.measure(moments.AtOnce(task)()) <= TIGHT
        assert task.measure(moments.InAStream(task)()) <= TIGHT

    def test_every_mistake_is_seen_on_an_uneven_set(self) -> None:
        task = moments.Task(WeightedSet(cloud(), np.random.default_rng(1).uniform(0.1, 2.0, 60)), mass=True)
        for mistake in (moments._SUMS, moments._STALE, moments._POINT, moments._CONE):
            assert task.measure(moments.Broken(task, mistake[0])()) > 1e6, mistake[0]

    def test_a_sum_of_zero_is_kept_by_no_point(self) -> None:
        task = moments.Task(WeightedSet(cross()), mass=False)
        assert task.measure(moments.InAStream(task)()) == 0.0

    @pytest.mark.parametrize("symmetric", [True, False])
    def test_a_reduced_design_keeps_its_moments_and_a_thinned_one_does_not(self, symmetric: bool) -> None:
        view = View(cloud(), symmetric)
        honest = moments.Reduced(view, moments._after_steps)
        measure = moments.MomentsKept(view, moments._after_steps)
        assert measure(honest()) <= TIGHT
        assert measure(moments.Thinned(honest)()) > 1e6
        assert measure(moments.Plain(view, moments._after_steps, sums=False)()) <= TIGHT
        assert measure(moments.Plain(view, moments._after_steps, sums=True)()) > 1e6


class TestFactors:
    POINTS = np.vstack([np.eye(3), np.ones((1, 3))])

    def test_the_exact_factor_is_divided_by_the_certified_one(self) -> None:
        chosen = geometry.Chosen(np.arange(3), factor=6.0, one_sided=1.5)
        assert geometry.FactorOver(self.POINTS, 4)(chosen) == pytest.approx(0.5, rel=1e-6)
        assert geometry.FactorOver(self.POINTS, 4, one_sided=True)(chosen) == pytest.approx(2.0, rel=1e-6)

    def test_more_points_than_promised_refute(self) -> None:
        chosen = geometry.Chosen(np.arange(3), factor=6.0)
        assert geometry.FactorOver(self.POINTS, 2)(chosen) == math.inf

    def test_where_nothing_is_claimed_nothing_is_refuted(self) -> None:
        chosen = geometry.Chosen(np.arange(3), factor=1.0)
        assert geometry.FactorOver(self.POINTS, 4, one_sided=True)(chosen) == 0.0

    def test_rounds_from_the_other_end_are_the_same_bounds_in_reverse(self) -> None:
        data = WeightedSet(cloud(40))
        honest = geometry.PeelingBound()
        before, after = honest(data), geometry.FromTheOtherEnd(honest)(data)
        assert set(after) == set(before)
        assert np.array_equal(np.argsort(-before, kind="stable")[:1], np.argmin(after)[None])


class TestAlone:
    def test_points_alone_are_counted_as_the_library_counts_them(self) -> None:
        points = np.block([[cloud(8, 2), np.zeros((8, 1))], [np.zeros((1, 2)), np.ones((1, 1))]])
        shares = geometry.Shares(WeightedSet(points), one_sided=False)
        honest = geometry.Diagnosis(shares)
        assert honest().count == 1
        over = geometry.AloneOver(shares)
        assert over(honest()) <= TIGHT
        assert over(geometry.Miscounted(honest, 1)()) > TIGHT
        assert over(geometry.Unnoticed(honest)()) > TIGHT

    def test_points_outside_the_cone_have_the_whole_of_a_one_sided_share(self) -> None:
        shares = geometry.Shares(WeightedSet([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]), one_sided=True)
        found = geometry.Diagnosis(shares)()
        assert found.count == 2
        assert found.bounds == pytest.approx([1.0, 1.0, 0.5])
        assert geometry.AloneOver(shares)(found) == pytest.approx(1.0, rel=1e-6)

    def test_points_without_mass_take_no_part(self) -> None:
        data = WeightedSet(np.vstack([np.eye(2), np.zeros((1, 2)), np.ones((1, 2))]), [1.0, 1.0, 1.0, 0.0])
        shares = geometry.Shares(data, one_sided=False)
        assert shares.attained.size == shares.bounds.size == 2


class TestNeurons:
    def test_kappa_is_compared_with_what_a_query_attains(self) -> None:
        data = WeightedSet([[3.0], [-1.0]])
        over = neurons.BalanceOver(data)
        assert over(neurons.Balance(data)()) == pytest.approx(1.0, rel=1e-6)
        assert over(neurons.Balance(data, 2.0)()) == pytest.approx(2.0, rel=1e-6)
        one_side = neurons.BalanceOver(WeightedSet([[3.0], [1.0]]))
        assert one_side(0.0) == 0.0
        assert one_side(1e-3) > TIGHT

    def test_outputs_with_factors_of_their_own_break_the_promise(self) -> None:
        data = WeightedSet(cloud(200, 2))
        _, layer, link = next(neurons._layers(data))
        masses = layer.data(data.points)
        error = NeuronWorst(data.points, layer.outgoing, masses.weights, link)
        coreset = SensitivityReducer(layer).reduce(masses, size=50, rng=0)
        honest = neurons.OnCoreset(layer, masses, error)
        assert 0.0 < honest(coreset) < 1.0

        class Crooked:
            outgoing = layer.outgoing

            def reweighted(self, data: object, coreset: object) -> np.ndarray:
                return layer.reweighted(masses, coreset) * np.array([1.0, 1.1])

        assert math.isnan(neurons.OnCoreset(Crooked(), masses, error)(coreset))  # type: ignore[arg-type]

    def test_a_set_on_one_side_is_vacuous_with_its_reason(self) -> None:
        scenario = neurons._one_sided(named("one side", np.abs(cloud())))
        assert scenario.claimed.vacuous
        assert scenario.vacuous.startswith("kappa = 0")
        assert scenario.trial(np.random.default_rng(0)) == 1.0


class TestParts:
    def test_a_claim_without_chance_has_a_bound_of_one(self) -> None:
        workload = named("points", cloud())
        scenario = certain(workload, lambda: 0.5, lambda x: 2.0 * x, {"double": lambda: 1.0}, note="n")
        assert scenario.claimed == CERTAIN
        assert (scenario.size, scenario.note) == (60, "n")
        rng = np.random.default_rng(0)
        assert scenario.trial(rng) == 1.0
        assert [fault.trial(rng) for fault in scenario.faults] == [2.0]

    def test_degenerate_sets_keep_their_columns_and_others_four(self) -> None:
        shown = small([*adversarial(), *degenerate()], 50)
        assert all(w.n <= 50 for w in shown)
        assert {w.d for w in shown if w.kind == "degenerate"} == {w.d for w in degenerate()}
        assert all(w.d <= 4 for w in shown if w.kind != "degenerate")

    def test_tight_sets_have_names_of_their_own(self) -> None:
        names = [w.name for w in tight()]
        assert len(set(names)) == len(names)
        assert renamed(next(tight()), "twice").name == f"{names[0]}, twice"
