"""Points in blocks: the same answer as in memory, and sources that cannot be read twice."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from coresets.ellipsoid import AddOnly, Blocks, loewner_ellipsoid


def gaussian(n: int, d: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d))


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("n", [30, 5000])
def test_blocks_give_the_ellipsoid_of_the_whole(n: int, symmetric: bool) -> None:
    points = gaussian(n, 4) + 0.5
    whole = loewner_ellipsoid(points, symmetric=symmetric, gap=1e-9)
    parts = loewner_ellipsoid(Blocks(np.array_split(points, 7)), symmetric=symmetric, gap=1e-9)
    assert parts.weights.shape == (n,)
    assert parts.certificate.holds
    # Two designs with gap g have log-volumes within k g / 2 of each other.
    assert abs(parts.log_volume - whole.log_volume) <= 5 * 1e-9
    # The log-determinant is strongly concave in the shape: a gap g leaves it free by about sqrt(g).
    np.testing.assert_allclose(parts.shape, whole.shape, atol=1e-3 * np.abs(whole.shape).max())


def test_float32_blocks_and_empty_blocks_are_welcome() -> None:
    points = gaussian(300, 3).astype(np.float32)
    found = loewner_ellipsoid(Blocks([points[:100], points[:0], points[100:]]))
    assert found.contains(points).all()


def test_add_only_reads_blocks() -> None:
    points = gaussian(5000, 3)
    found = loewner_ellipsoid(Blocks(np.array_split(points, 3)), gap=0.1, solver=AddOnly())
    assert found.certificate.holds


def test_function_is_called_anew_for_each_pass() -> None:
    points, calls = gaussian(4000, 3), []

    def source() -> Iterator[np.ndarray]:
        calls.append(None)
        yield from np.array_split(points, 4)

    assert loewner_ellipsoid(Blocks(source)).certificate.holds
    assert len(calls) > 1


def test_function_that_returns_no_blocks_is_named() -> None:
    with pytest.raises(TypeError, match="returned a NoneType"):
        loewner_ellipsoid(Blocks(lambda: None))


def test_one_shot_iterator_is_refused_with_the_remedy() -> None:
    with pytest.raises(TypeError, match=r"one-shot generator.*pass a list, or a function"):
        Blocks(block for block in [np.zeros((2, 2))])
    with pytest.raises(TypeError, match="iterable of"):
        Blocks(3)  # type: ignore[arg-type]


def test_changed_number_of_rows_is_an_error() -> None:
    for second in (3, 5):
        sizes = iter([4, second, second, second, second])
        with pytest.raises(ValueError, match="every pass must give the same rows"):
            loewner_ellipsoid(Blocks(lambda sizes=sizes: [gaussian(next(sizes), 2)]))


def test_function_that_returns_one_exhausted_iterator_is_an_error() -> None:
    once = iter([gaussian(40, 2)])
    with pytest.raises(ValueError, match="only 0 rows after one with 40"):
        loewner_ellipsoid(Blocks(lambda: once))


@pytest.mark.parametrize(
    ("blocks", "message"),
    [
        ([], "no rows"),
        ([np.zeros((0, 2))], "no rows"),
        ([np.ones((2, 2)), np.ones((2, 3))], "block 1 has 3 columns"),
        ([np.ones((2, 2)), np.array([[np.nan, 1.0]])], r"block 1\[0, 0\] = nan"),
        ([np.ones(3)], "block 0"),
        ([np.ones((2, 2, 2))], "block 0"),
    ],
    ids=["none", "empty", "columns", "nan", "vector", "cube"],
)
def test_bad_blocks_are_named(blocks: list[np.ndarray], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        loewner_ellipsoid(Blocks(blocks))
