"""The laws that the samplers claim: exact for small n, by designed tests elsewhere.

Every statistical test uses fixed seeds and states its false-alarm rate, which is the chance that
a correct sampler would have been given seeds that fail, and the fault that it must catch.
"""

from __future__ import annotations

from collections.abc import Callable
from fractions import Fraction
from itertools import combinations, product
from typing import Any

import numpy as np
import pytest
from array_api_compat import array_namespace
from scipy import stats

from coresets._sampling_arrays import tournament
from coresets._sampling_kernels import tournament as compiled_tournament
from coresets.samplers import IID, FixedSize, Hybrid, Poisson, Sampler
from coresets.sampling import (
    best_split,
    inclusion_probabilities,
    sample_fixed_size,
    sample_hybrid,
    sample_iid,
    sample_poisson,
)

NUMPY = array_namespace(np.empty(0))  # with the names of the standard, which old versions lack

FALSE_ALARM = 1e-6  # of each test, over all items; a union bound over the file stays below 1e-4
TRIALS = 40_000
SENSITIVITIES = np.array([5.0, 0.3, 1.0, 0.0, 2.0, 0.7, 1.0, 0.05, 3.0, 0.4, 0.4])
RANDOM: list[Sampler] = [IID(), Poisson(), FixedSize(), Hybrid()]


def name_of(value: object) -> str:
    return type(value).__name__


def replicate(sensitivities: np.ndarray, trials: int = TRIALS) -> np.ndarray:
    return np.broadcast_to(sensitivities, (trials, sensitivities.size)).copy()


# --------------------------------------------------------------------- tournaments, exactly


def play(probabilities: list[Fraction], wins: tuple[bool, ...]) -> tuple[frozenset[int], Fraction]:
    """One run of a knock-out tournament in rational arithmetic: who is kept, and how likely it is.

    ``wins[t]`` says whether the first of the pair wins duel t. This is written from the definition
    of pivotal sampling, with carriers that move, unlike the code under test.
    """
    kept = {i for i, p in enumerate(probabilities) if p == 1}
    carriers = [(i, Fraction(0) if p == 1 else p) for i, p in enumerate(probabilities)]
    chance, duel = Fraction(1), 0
    while len(carriers) > 1:
        following = []
        for (i, a), (j, b) in zip(carriers[::2], carriers[1::2], strict=False):
            first = wins[duel]
            duel += 1
            if a + b < 1:
                win = a / (a + b) if a + b else Fraction(0)
                following.append((i if first else j, a + b))
            else:
                win = (1 - b) / (2 - a - b)
                kept.add(i if first else j)
                following.append((j if first else i, a + b - 1))
            chance *= win if first else 1 - win
        if len(carriers) % 2:
            following.append(carriers[-1])
        carriers = following
    if carriers[0][1] == 1:
        kept.add(carriers[0][0])
    return frozenset(kept), chance


def law(probabilities: list[Fraction]) -> dict[frozenset[int], Fraction]:
    """Exact distribution of the kept set."""
    outcome: dict[frozenset[int], Fraction] = {}
    for wins in product((True, False), repeat=len(probabilities) - 1):
        kept, chance = play(probabilities, wins)
        if chance:
            outcome[kept] = outcome.get(kept, Fraction(0)) + chance
    return outcome


def in_sixteenths(*numerators: int) -> list[Fraction]:
    """Probabilities that float64 adds and subtracts without rounding."""
    return [Fraction(k, 16) for k in numerators]


DESIGNS = {
    "halves": in_sixteenths(8, 8, 8, 8),
    "light": in_sixteenths(4, 2, 6, 3, 1),
    "heavy": in_sixteenths(15, 13, 14, 12, 10),
    "mixed": in_sixteenths(15, 1, 9, 4, 12, 6, 1),
    "sure_and_never": in_sixteenths(16, 0, 5, 11, 0, 16, 7, 9),
    "one_of_two": in_sixteenths(3, 13),
    "single": in_sixteenths(16),
}


@pytest.mark.parametrize("design", DESIGNS)
def test_every_run_of_the_tournament_ends_as_pivotal_sampling_says(design: str) -> None:
    exact = DESIGNS[design]
    p = np.array([float(x) for x in exact])
    runs = list(product((True, False), repeat=p.size - 1))
    # The smallest uniform makes the first of a pair win whenever that is possible at all, the
    # largest one makes the second win.
    u = np.where(np.array(runs, dtype=bool).reshape(len(runs), p.size - 1), 0.0, 1.0 - 2.0**-53)
    rows = replicate(p, len(runs))
    by_arrays = tournament(NUMPY, rows, u)
    by_loop = np.empty_like(by_arrays)
    compiled_tournament(rows, u, by_loop)
    assert np.array_equal(by_arrays, by_loop)
    for run, mask in zip(runs, by_arrays, strict=True):
        kept, chance = play(exact, run)
        if chance:
            assert set(np.flatnonzero(mask)) == kept


@pytest.mark.parametrize("design", DESIGNS)
def test_the_tournament_has_its_inclusion_probabilities_and_negative_correlation(design: str) -> None:
    exact = DESIGNS[design]
    kept = law(exact)
    assert sum(kept.values()) == 1
    assert {len(items) for items in kept} == {sum(exact)}
    for i, p in enumerate(exact):
        assert sum(chance for items, chance in kept.items() if i in items) == p
    for i, j in combinations(range(len(exact)), 2):
        both = sum((chance for items, chance in kept.items() if {i, j} <= items), Fraction(0))
        assert both <= exact[i] * exact[j]


@pytest.mark.parametrize("design", DESIGNS)
@pytest.mark.parametrize("growth", [Fraction(1, 8), Fraction(1, 2), Fraction(2), Fraction(5)])
def test_moment_generating_functions_are_dominated_by_independent_ones(design: str, growth: Fraction) -> None:
    # E prod growth**(c_i [i kept]) <= prod (1 - p_i + p_i growth**c_i) for integers c_i >= 0,
    # growth below and above 1: both tails.
    exact = DESIGNS[design]
    kept = law(exact)
    for seed in range(5):
        c = [int(x) for x in np.random.default_rng(seed).integers(0, 4, len(exact))]
        dependent = sum(chance * growth ** sum(c[i] for i in items) for items, chance in kept.items())
        independent = Fraction(1)
        for p, exponent in zip(exact, c, strict=True):
            independent *= 1 - p + p * growth**exponent
        assert dependent <= independent


@pytest.mark.parametrize("compiled", [True, False])
def test_whole_tournaments_follow_their_exact_law(compiled: bool) -> None:
    # Chi-square over all kept sets, at the false-alarm rate of the file.
    exact = DESIGNS["mixed"]
    p = replicate(np.array([float(x) for x in exact]))
    u = np.random.default_rng(11).random((TRIALS, p.shape[1] - 1))
    kept = np.empty(p.shape, dtype=bool)
    if compiled:
        compiled_tournament(p, u, kept)
    else:
        kept = tournament(NUMPY, p, u)
    codes = kept @ (1 << np.arange(p.shape[1]))
    law_by_code = {sum(1 << i for i in items): float(chance) for items, chance in law(exact).items()}
    assert set(codes.tolist()) <= set(law_by_code)
    observed = np.array([(codes == code).sum() for code in law_by_code])
    expected = TRIALS * np.array(list(law_by_code.values()))
    frequent = expected >= 5.0  # chi-square approximation; the rare sets form one class
    pooled = [np.append(x[frequent], x[~frequent].sum() + 1e-12) for x in (observed, expected)]
    statistic = float(((pooled[0] - pooled[1]) ** 2 / pooled[1])[pooled[1] > 1e-9].sum())
    assert stats.chi2.sf(statistic, frequent.sum()) > FALSE_ALARM


# --------------------------------------------------------------------- inclusion probabilities


def assert_binomial(counts: np.ndarray, trials: int, probabilities: np.ndarray) -> None:
    """Two-sided exact binomial test of each item, the false alarm shared among the items.

    At 40 000 trials a probability of 0.3 that is off by 0.02 fails with probability above 0.99.
    """
    level = FALSE_ALARM / counts.size
    for count, p in zip(counts, probabilities, strict=True):
        assert stats.binom.cdf(count, trials, p) > level / 2
        assert stats.binom.sf(count - 1, trials, p) > level / 2


@pytest.mark.parametrize("size", [2, 5])
@pytest.mark.parametrize("sampler", [Poisson(), FixedSize()], ids=name_of)
def test_items_are_kept_with_their_inclusion_probabilities(sampler: Sampler, size: int) -> None:
    draw = sampler.draw(replicate(SENSITIVITIES), size, 21)
    p = inclusion_probabilities(SENSITIVITIES, size)
    assert_binomial(draw.mask.sum(axis=0), TRIALS, p)


def test_poisson_items_are_kept_independently() -> None:
    mask = sample_poisson(replicate(SENSITIVITIES), 4, rng=22).mask
    p = inclusion_probabilities(SENSITIVITIES, 4)
    pairs = list(combinations(range(p.size), 2))
    joint = np.array([(mask[:, i] & mask[:, j]).sum() for i, j in pairs])
    assert_binomial(joint, TRIALS, np.array([p[i] * p[j] for i, j in pairs]))


def test_a_fixed_size_makes_pairs_rarer_than_independence_would() -> None:
    p = inclusion_probabilities(SENSITIVITIES, 4)
    mask = sample_fixed_size(replicate(SENSITIVITIES), 4, rng=23).mask
    pairs = list(combinations(range(p.size), 2))
    for i, j in pairs:  # one-sided: more joint inclusions than the product allows
        joint = int((mask[:, i] & mask[:, j]).sum())
        assert stats.binom.sf(joint - 1, TRIALS, p[i] * p[j]) > FALSE_ALARM / len(pairs)


def test_draws_with_replacement_are_multinomial() -> None:
    m = 6
    p = SENSITIVITIES / SENSITIVITIES.sum()
    for scale in (1.0, 1.0 / SENSITIVITIES.sum()):
        counts = sample_iid(replicate(SENSITIVITIES) * scale, m, rng=24).counts
        assert np.all(counts.sum(axis=1) == m)
        assert_binomial(counts.sum(axis=0), TRIALS * m, p)
        assert_binomial((counts > 0).sum(axis=0), TRIALS, 1.0 - (1.0 - p) ** m)


def test_the_rest_of_a_hybrid_draw_is_multinomial() -> None:
    m = 6
    s = SENSITIVITIES / SENSITIVITIES.sum()
    k = int(best_split(s, m))
    assert 0 < k < m
    counts = sample_hybrid(replicate(s), m, rng=25).counts
    top = np.argsort(-s, kind="stable")[:k]
    assert np.all(counts[:, top] == 1)
    rest = s.copy()
    rest[top] = 0.0
    keep = np.delete(np.arange(s.size), top)
    assert_binomial(counts.sum(axis=0)[keep], TRIALS * (m - k), rest[keep] / rest.sum())


# --------------------------------------------------------------------- unbiasedness


def mean_is_exact(weights: np.ndarray, values: np.ndarray) -> bool:
    """Whether the weighted sums average to the sum, by a t test at the false-alarm rate of the file."""
    sums = weights @ values
    error = abs(sums.mean() - values.sum())
    critical = stats.t.isf(FALSE_ALARM / 2, sums.size - 1)
    return bool(error <= critical * sums.std(ddof=1) / np.sqrt(sums.size) + 1e-9)


VALUES = np.array([1.0, 2.0, 0.5, 0.0, 1.0, 3.0, 0.1, 0.4, 1.5, 0.2, 0.9])  # 0 where never kept


@pytest.mark.parametrize("sampler", RANDOM, ids=name_of)
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_weighted_sums_are_unbiased(sampler: Sampler, dtype: Any) -> None:
    draw = sampler.draw(replicate(SENSITIVITIES).astype(dtype), 5, 31)
    assert mean_is_exact(draw.weights.astype(np.float64), VALUES)


FAULTS: dict[str, Callable[[Any], np.ndarray]] = {
    "weights_not_divided_by_probability": lambda draw: draw.counts * 1.0,
    "duplicates_not_counted": lambda draw: draw.mask / np.maximum(draw.counts, 1) * draw.weights,
    "weights_of_uniform_draws": lambda draw: draw.counts * (draw.counts.shape[1] / 5.0),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_the_test_of_unbiasedness_catches_faults(fault: str) -> None:
    # Each fault shifts the mean by more than 20 standard errors at 40 000 trials, so that missing
    # it has a probability below 1e-50.
    draw = sample_iid(replicate(SENSITIVITIES), 5, rng=32)
    assert not mean_is_exact(FAULTS[fault](draw), VALUES)


def test_the_test_of_inclusion_probabilities_catches_uniform_draws() -> None:
    uniform = sample_poisson(replicate(np.ones(SENSITIVITIES.size)), 5, rng=33)
    with pytest.raises(AssertionError):
        assert_binomial(uniform.mask.sum(axis=0), TRIALS, inclusion_probabilities(SENSITIVITIES, 5))
