"""Drawing exact numbers of units."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from coresets.guarantee import Scheme
from nn.neurons.draws import Drawing, ExactPoisson, Pivotal, TopScores, UnitSampler, UntilDistinct, whole

SAMPLERS: list[UnitSampler] = [ExactPoisson(), Pivotal(), TopScores(), UntilDistinct()]
SCORES = st.lists(st.floats(0.0, 1e6), min_size=2, max_size=12)


@settings(deadline=None, max_examples=60)
@given(values=SCORES, share=st.floats(0.0, 1.0), seed=st.integers(0, 99))
@pytest.mark.parametrize("sampler", SAMPLERS, ids=lambda s: type(s).__name__)
def test_exactly_the_number_asked_for_is_kept_and_only_kept_units_have_factors(
    sampler: UnitSampler, values: list[float], share: float, seed: int
):
    count = max(1, round(share * len(values)))
    draw = sampler.draw(torch.tensor(values), count, np.random.default_rng(seed))
    assert int(draw.keep.sum()) == count
    assert torch.equal(draw.factors > 0.0, draw.keep)


def test_the_chance_of_the_size_is_that_of_all_subsets_of_it():
    scores, count = torch.tensor([5.0, 1.0, 2.0, 1.0, 3.0]), 3
    draw = ExactPoisson().draw(scores, count, np.random.default_rng(0))
    pi = np.minimum(1.0, draw.level * scores.numpy() / 12.0)
    by_hand = sum(
        math.prod(pi[i] if i in kept else 1.0 - pi[i] for i in range(5))
        for kept in itertools.combinations(range(5), count)
    )
    assert draw.chance == pytest.approx(by_hand, rel=1e-12)
    assert pi.sum() == pytest.approx(count)
    kept = draw.keep.numpy()
    assert draw.factors.numpy()[kept] == pytest.approx(1.0 / pi[kept])


def test_exact_poisson_has_the_law_of_independent_draws_given_their_number():
    scores, rng = torch.tensor([4.0, 2.0, 1.0, 1.0]), np.random.default_rng(1)
    trials = 4000
    draws = [ExactPoisson().draw(scores, 2, rng) for _ in range(trials)]
    pi = np.minimum(1.0, draws[0].level * scores.numpy() / 8.0)
    for kept in itertools.combinations(range(4), 2):
        law = math.prod(pi[i] if i in kept else 1.0 - pi[i] for i in range(4)) / draws[0].chance
        seen = sum(tuple(np.flatnonzero(d.keep.numpy())) == kept for d in draws)
        # Five standard deviations of a binomial count.
        assert abs(seen - trials * law) <= 5.0 * math.sqrt(trials * law * (1.0 - law)) + 1.0


def test_draws_until_distinct_count_every_draw():
    # The factors are counts over (draws times probabilities): weighted by the scores they give 1.
    scores = torch.tensor([8.0, 1.0, 1.0, 1.0, 1.0])
    draw = UntilDistinct().draw(scores, 3, np.random.default_rng(2))
    assert float(draw.factors @ (scores / scores.sum()).double()) == pytest.approx(1.0)
    assert draw.scheme is Scheme.WITH_REPLACEMENT


def test_the_number_of_draws_until_distinct_has_the_mean_of_the_coupon_collector():
    rng, scores = np.random.default_rng(3), torch.ones(4)
    counts = []
    for _ in range(2000):
        draw = UntilDistinct().draw(scores, 3, rng)
        # Uniform scores: a factor is count * 4 / draws; the smallest count is 1 nearly always.
        counts.append(4.0 / float(draw.factors[draw.keep].min()))
    assert np.mean(counts) == pytest.approx(1.0 + 4.0 / 3.0 + 4.0 / 2.0, rel=0.1)


def test_units_without_a_score_are_kept_last():
    draw = ExactPoisson().draw(torch.tensor([1.0, 0.0, 1.0, 0.0]), 2, np.random.default_rng(0))
    assert draw.keep.tolist() == [True, False, True, False]


def test_a_level_that_is_whole_but_for_rounding_is_not_rounded_down():
    assert whole(199.99999999999997) == 200
    assert whole(0.3) == 1


@pytest.mark.parametrize("bad", [math.nan, math.inf, -1.0])
def test_scores_that_are_no_scores_are_refused(bad: float):
    with pytest.raises(ValueError, match="not finite"):
        TopScores().draw(torch.tensor([1.0, bad]), 1, None)


def test_a_drawing_takes_samplers_as_values():
    with pytest.raises(TypeError, match="pass ExactPoisson"):
        Drawing(ExactPoisson)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="delta"):
        Drawing(delta=1.0)
