from __future__ import annotations

import numpy as np
import pytest

from coresets.accuracy import Accuracy
from coresets.guarantee import Claim
from coresets.guarantees import MatrixChernoff, SubspaceClass
from coresets.weighted_set import WeightedSet
from proofs_check.checks._common import DELTA
from proofs_check.scaling import smallest_sizes, vary_dimension, vary_epsilon
from proofs_check.workloads import Workload

TRIALS = 25


@pytest.fixture(scope="module")
def workload() -> Workload:
    points = np.random.default_rng(0).standard_normal((1500, 10))
    return Workload("normal", "adversarial", WeightedSet(points))


def test_measured_sizes_fall_with_epsilon_and_stay_below_proved_ones(workload: Workload) -> None:
    data = WeightedSet(workload.data.points[:, :4])
    epsilons = [0.3, 0.8, 0.5]
    measured, proved = smallest_sizes(data, epsilons, trials=TRIALS, rng=np.random.default_rng(1))
    order = np.argsort(epsilons)
    assert np.all(np.diff(measured[order]) < 0.0)
    # The bound is proved, so its sizes reach the error; the quantile of 25 draws is within a factor of it.
    assert np.all(measured <= proved)
    claim = Claim(MatrixChernoff(), SubspaceClass(4.0, 4))
    expected = [claim.size(Accuracy(e, DELTA)) for e in epsilons]
    assert proved == pytest.approx(expected, abs=1.0)  # leverage scores add up to 4 but for rounding


def test_the_same_generator_gives_the_same_sizes(workload: Workload) -> None:
    data = WeightedSet(workload.data.points[:, :2])
    runs = [smallest_sizes(data, [0.5], trials=5, rng=np.random.default_rng(s)) for s in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0] != runs[2]


def test_sizes_grow_with_the_square_of_one_over_epsilon(workload: Workload) -> None:
    fit = vary_epsilon(workload, trials=TRIALS, rng=np.random.default_rng(2))
    assert (fit.key, fit.variable, fit.workload) == ("MC", "1/epsilon", "normal, first 8")
    assert fit.values == pytest.approx([1.25, 1 / 0.6, 1 / 0.45, 1 / 0.35, 4.0])
    assert len(fit.values) == len(fit.measured) == len(fit.proved)
    # Bennett's function makes the proved exponent a little less than 2 at such epsilon; seven quantiles
    # of 25 draws, each known to about a tenth, over a factor of 3.2 leave the measured one within 0.5.
    assert 1.8 <= fit.proved_exponent <= 2.0
    assert 1.5 <= fit.measured_exponent <= 2.6


def test_sizes_grow_a_little_faster_than_the_dimension(workload: Workload) -> None:
    fit = vary_dimension(workload, trials=TRIALS, rng=np.random.default_rng(3))
    assert fit.values == (4.0, 8.0)  # of the ten columns that there are
    assert 1.0 < fit.proved_exponent < 1.5  # d log d
    assert 0.5 < fit.measured_exponent < 2.0
