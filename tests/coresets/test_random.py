"""Sources of randomness: the same numbers everywhere, and children that are never reused."""

from __future__ import annotations

import array_api_strict
import numpy as np
import pytest

from coresets._random import resolve_rng, spawn, uniforms


def test_children_differ_and_are_never_handed_out_twice() -> None:
    for parent in (np.random.default_rng(0), np.random.SeedSequence(0)):
        children = spawn(parent, 3) + spawn(parent, 3)
        assert len({child.random() for child in children}) == 6
    assert [c.random() for c in spawn(5, 2)] == [c.random() for c in spawn(np.random.default_rng(5), 2)]
    with pytest.raises(ValueError, match="count = -1"):
        spawn(0, -1)


def test_children_of_a_torch_generator_differ_and_repeat() -> None:
    torch = pytest.importorskip("torch")

    parent, twin = torch.Generator().manual_seed(0), torch.Generator().manual_seed(0)
    children = spawn(parent, 2) + spawn(parent, 2)
    assert len({child.initial_seed() for child in children}) == 4
    assert [c.initial_seed() for c in spawn(twin, 2)] == [c.initial_seed() for c in children[:2]]
    assert resolve_rng(parent) is parent


def test_uniforms_are_the_same_numbers_in_every_library() -> None:
    host = np.random.default_rng(2).random((3, 4))
    assert np.array_equal(uniforms(2, (3, 4), like=np.zeros(1, dtype=np.float32)), host)
    assert np.array_equal(np.asarray(uniforms(2, (3, 4), like=array_api_strict.zeros(1))), host)


@pytest.mark.parametrize("bad", [None, 1.0, "0", True, np.random.RandomState(0), np.random.PCG64(0)])
def test_what_is_no_source_is_refused_with_a_remedy(bad: object) -> None:
    with pytest.raises(TypeError, match="default_rng"):
        resolve_rng(bad)
