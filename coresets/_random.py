"""Sources of randomness: what counts as one, how it yields uniforms, how it has children.

Two kinds of source are told apart. A seed, a ``SeedSequence`` or a NumPy ``Generator`` draws
float64 uniforms on the host in row-major order, whatever library holds the data, so that every
backend and every batching sees the same numbers. A ``torch.Generator`` draws float64 uniforms
on its own device; the numbers then depend on the device and on the version of torch. It is
recognised by its type's name: this package never imports torch.
"""

from __future__ import annotations

import operator
import sys
from typing import Any

import numpy as np
from array_api_compat import array_namespace, device, is_torch_array

from coresets._validate import check_integer

__all__ = ["Rng", "host_generator", "is_torch_generator", "resolve_rng", "spawn", "uniforms"]

Array = Any
Rng = Any  # a seed, or a generator of NumPy or torch; see resolve_rng

_SEED_RANGE = 2**63 - 1  # torch draws seeds as signed 64-bit integers


def is_torch_generator(rng: Rng) -> bool:
    """Whether ``rng`` is a ``torch.Generator``, found out without importing torch."""
    kinds = ((kind.__module__.partition(".")[0], kind.__name__) for kind in type(rng).__mro__)
    return ("torch", "Generator") in kinds


def resolve_rng(rng: Rng) -> Rng:
    """Return the generator that an ``rng`` argument stands for.

    Parameters
    ----------
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or torch.Generator
        A generator is returned as it is, so its state advances with use. A seed (an integer of
        at least 0) or a seed sequence gives a fresh generator, the same each time.

    Returns
    -------
    numpy.random.Generator or torch.Generator

    Raises
    ------
    TypeError
        If ``rng`` is anything else; ``None`` too, since a run that cannot be repeated has to be
        asked for (``numpy.random.default_rng()``).
    ValueError
        If a seed is negative.

    Examples
    --------
    >>> resolve_rng(7).random() == resolve_rng(7).random()
    True
    """
    if isinstance(rng, np.random.Generator) or is_torch_generator(rng):
        return rng
    if isinstance(rng, np.random.SeedSequence):
        return np.random.default_rng(rng)
    if isinstance(rng, (int, np.integer)) and not isinstance(rng, bool):
        seed = operator.index(rng)
        if seed < 0:
            raise ValueError(f"rng = {seed} is negative; pass a seed of at least 0")
        return np.random.default_rng(seed)
    raise TypeError(
        f"rng = {rng!r} is not a source of randomness; pass a seed (an integer of at least 0), "
        "numpy.random.default_rng(seed), a SeedSequence or a torch.Generator"
    )


def host_generator(rng: Rng) -> np.random.Generator:
    """Return ``rng`` resolved, insisting on a NumPy generator."""
    generator = resolve_rng(rng)
    if not isinstance(generator, np.random.Generator):
        raise TypeError(
            "a torch.Generator draws only for torch tensors; pass a seed or numpy.random.default_rng(seed) "
            "for arrays of other libraries"
        )
    return generator


def uniforms(rng: Rng, shape: tuple[int, ...], like: Array) -> Array:
    """Return independent float64 uniforms on [0, 1), beside ``like``.

    Parameters
    ----------
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or torch.Generator
        Source; see :func:`resolve_rng`.
    shape : tuple of int
        Shape of the result. NumPy generators fill it in row-major order.
    like : array
        Its library and device are those of the result.

    Returns
    -------
    array of shape ``shape``, float64

    Raises
    ------
    TypeError
        If ``rng`` is no source, or a ``torch.Generator`` while ``like`` is not a tensor.
    ValueError
        If the generator and ``like`` are on different devices.

    Examples
    --------
    >>> u = uniforms(0, (2, 3), like=np.zeros(1))
    >>> bool((u == np.random.default_rng(0).random((2, 3))).all())
    True
    """
    generator = resolve_rng(rng)
    if not is_torch_array(like):
        host = host_generator(generator).random(shape)
        if isinstance(like, np.ndarray):
            return host
        return array_namespace(like).asarray(host, device=device(like))
    xp = array_namespace(like)
    if isinstance(generator, np.random.Generator):
        return xp.asarray(generator.random(shape), device=device(like))
    if generator.device.type != like.device.type:
        raise ValueError(
            f"rng draws on {generator.device}, the data are on {like.device}; make it with "
            f"torch.Generator({str(like.device)!r}) or pass a seed"
        )
    return xp.rand(shape, generator=generator, dtype=xp.float64, device=like.device)


def spawn(rng: Rng, count: int) -> list[Rng]:
    """Return independent child generators, one for each part of a computation.

    A generator or a seed sequence never hands out the same child twice: asking again gives new
    ones. A plain seed has no memory; resolve it once and spawn from the result.

    Parameters
    ----------
    rng : int, numpy.random.SeedSequence, numpy.random.Generator or torch.Generator
        Parent; see :func:`resolve_rng`. The children of a ``torch.Generator`` live on its device
        and are seeded with 63-bit integers that it draws.
    count : int
        Number of children, at least 0.

    Returns
    -------
    list of numpy.random.Generator or of torch.Generator

    Raises
    ------
    TypeError
        If ``rng`` is no source, or its bit generator was made without a seed sequence.

    Examples
    --------
    >>> first, second = spawn(np.random.default_rng(3), 2)
    >>> first.random() == second.random()
    False
    """
    count = check_integer(count, "count", at_least=0)
    if isinstance(rng, np.random.SeedSequence):
        return [np.random.default_rng(child) for child in rng.spawn(count)]
    generator = resolve_rng(rng)
    if isinstance(generator, np.random.Generator):
        return list(generator.spawn(count))
    torch = sys.modules["torch"]  # loaded by whoever made the generator
    seeds = torch.randint(_SEED_RANGE, (count,), generator=generator, device=generator.device)
    return [type(generator)(device=generator.device).manual_seed(int(seed)) for seed in seeds]
