"""Directions that are nothing but rounding are told from those of the data."""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import pytest

from coresets.recombination import CaratheodoryStream, ConeSum, Mean, Preserve, SecondMoment, caratheodory

EPS = float(np.finfo(np.float64).eps)


def exact_mean(points: np.ndarray, weights: np.ndarray) -> list[Fraction]:
    """Weighted means of the columns, without any rounding."""
    w = [Fraction(float(u)) for u in weights]
    return [
        sum((u * Fraction(float(x)) for u, x in zip(w, column, strict=True)), Fraction(0)) / sum(w)
        for column in points.T
    ]


@pytest.mark.parametrize("n", [2, 5, 100])
@pytest.mark.parametrize("offset", [0.0, 1.0, 1e3, 1e6])
def test_points_on_a_line_far_from_the_origin_count_as_a_line(n: int, offset: float) -> None:
    rng = np.random.default_rng(n)
    for _ in range(5):
        # Rounding takes the points off the line by machine epsilons of the offset.
        points = np.outer(rng.standard_normal(n), rng.standard_normal(3)) + offset * rng.standard_normal(3)
        coreset = caratheodory(points, preserve=SecondMoment(mean=True))
        assert coreset.support_size <= 3
        means = (
            exact_mean(points, np.ones(n)),
            exact_mean(points[coreset.indices], np.asarray(coreset.weights)),
        )
        # What is lost across the line is part of the certificate; a column mixes up to three coordinates.
        bound = math.sqrt(3.0) * coreset.certificates[0].value
        assert bound <= 1e-13 + 1e3 * EPS * np.max(np.abs(points) / np.std(points, axis=0))
        for before, after, deviation in zip(*means, np.std(points, axis=0), strict=True):
            assert abs(float(after - before)) <= bound * deviation


@pytest.mark.parametrize("preserve", [Mean(), ConeSum(), SecondMoment(), SecondMoment(mean=True)])
def test_subnormal_points_are_reduced(preserve: Preserve) -> None:
    points = np.random.default_rng(0).standard_normal((40, 2)) * 1e-310
    assert caratheodory(points, preserve=preserve).support_size <= preserve.most_points(2)
    stream = CaratheodoryStream(preserve=preserve)
    stream.push(points)
    assert stream.result().support_size <= preserve.most_points(2)


def test_two_equal_points_are_of_rank_one() -> None:
    # A QR decomposition of two rows leaves a second direction of a few machine epsilons.
    points = np.tile([-535669.37316111, 361595.05490948], (2, 1))
    coreset = caratheodory(points, preserve=SecondMoment())
    assert coreset.certificates[0].value < 1e-13
