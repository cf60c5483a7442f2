"""Checks of arguments, each naming the offending value and the remedy.

Every public function validates before it works, and only through this module, so that one
mistake gives one message wherever it is made. Arrays may come from any array-API library; they
are looked at in their own namespace and never copied to another device.
"""

from __future__ import annotations

import math
import operator
from typing import Any, SupportsIndex

import numpy as np
from array_api_compat import array_namespace, device, is_array_api_obj, is_dask_array

__all__ = [
    "as_array",
    "as_floating",
    "beside",
    "check_epsilon",
    "check_finite",
    "check_integer",
    "check_non_negative",
    "check_open_unit",
    "check_points",
    "check_probability",
    "check_real",
    "check_weights",
    "plain_array",
]

Array = Any  # an object of any array-API library; the standard has no common base class


def plain_array(value: object, name: str) -> Array:
    """Return ``value`` without its gradient if it is an array of some library, else a NumPy array of it.

    NumPy arrays, of any dtype, come back as plain ones in native byte order.

    Raises
    ------
    TypeError
        If the array is masked or sparse: what is missing or left out would be taken for numbers.
    ValueError
        If nested sequences are ragged.
    """
    if isinstance(value, np.ma.MaskedArray):
        raise TypeError(f"{name} is a masked array; pass {name}.filled(...), or the unmasked rows alone")
    if hasattr(value, "toarray"):  # SciPy's sparse matrices, which NumPy would wrap as one object
        raise TypeError(f"{name} is a sparse {type(value).__name__}; pass {name}.toarray()")
    if is_dask_array(value):
        raise TypeError(
            f"{name} is a Dask array, which is not in memory; pass {name}.compute(), or reduce it where it "
            "is with coresets.distributed"
        )
    if is_array_api_obj(value) and not isinstance(value, (np.ndarray, np.generic)):
        tensor: Any = value
        return tensor.detach() if getattr(tensor, "requires_grad", False) else tensor
    try:
        array = np.asarray(value)
    except ValueError as error:  # ragged nested sequences
        raise ValueError(f"{name} is not a regular array: {error}") from error
    return array if array.dtype.isnative else array.astype(array.dtype.newbyteorder("="))


def as_array(value: object, name: str) -> Array:
    """Return an array of numbers: of the library of ``value`` if it has one, else of NumPy."""
    array = plain_array(value, name)
    if isinstance(array, np.ndarray) and array.dtype.kind not in "biuf":
        raise TypeError(f"{name} has dtype {array.dtype}; pass real numbers")
    return array


def as_floating(value: object, name: str) -> Array:
    """Return a real floating array: float32 and float64 are kept, anything else becomes float64.

    Half precisions have too little range for squares and sums, and long double has no BLAS.
    """
    array = as_array(value, name)
    xp = array_namespace(array)
    if xp.isdtype(array.dtype, "complex floating"):
        raise TypeError(f"{name} has complex dtype {array.dtype}; pass real numbers")
    if xp.isdtype(array.dtype, "real floating"):
        return array if array.dtype in (xp.float32, xp.float64) else xp.astype(array, xp.float64)
    return xp.astype(array, xp.float64)


def _first_bad(bad: Array, values: Array) -> tuple[str, float]:
    """Position and value of the first true entry of ``bad``."""
    xp = array_namespace(bad)
    flat = int(xp.argmax(xp.astype(xp.reshape(bad, (-1,)), xp.int8)))
    index = np.unravel_index(flat, tuple(bad.shape)) if bad.ndim else ()
    value = float(xp.reshape(values, (-1,))[flat])
    return f"[{', '.join(str(int(i)) for i in index)}]" if index else "", value


def beside(values: Array, reference: Array, name: str) -> Array:
    """Values in the library of ``reference``; arrays of that library must share its device already.

    Lists and arrays of another library are small change (masses, one a row) and are moved.
    """
    xp = array_namespace(reference)
    if array_namespace(values) is not xp:
        if hasattr(values, "cpu"):  # a tensor, perhaps on a device that the other library cannot read
            values = values.cpu()
        # A copy, since not every library takes read-only memory or negative strides.
        return xp.asarray(np.asarray(values).copy(), device=device(reference))
    if device(values) != device(reference):
        raise ValueError(f"{name} is on {device(values)}, the data on {device(reference)}; move one of them")
    return values


def check_finite(values: Array, name: str) -> None:
    """Raise ``ValueError`` at the first NaN or infinity."""
    xp = array_namespace(values)
    # One reduction and no temporary in the common case: a sum is finite only if all terms are,
    # apart from overflow, which the exact test below sorts out.
    with np.errstate(over="ignore", invalid="ignore"):
        if math.isfinite(float(xp.sum(values))):
            return
    bad = ~xp.isfinite(values)
    if bool(xp.any(bad)):
        place, value = _first_bad(bad, values)
        raise ValueError(f"{name}{place} = {value} is not finite; remove or impute such entries")


def check_points(points: object, *, name: str = "points") -> Array:
    """Return finite points of shape (..., n, d) with n, d >= 1 as a floating array."""
    array = as_floating(points, name)
    if array.ndim < 2:
        raise ValueError(
            f"{name} has shape {tuple(array.shape)}; pass (n, d), one row a point "
            "(a single column is points[:, None])"
        )
    if array.shape[-2] < 1 or array.shape[-1] < 1:
        raise ValueError(f"{name} has shape {tuple(array.shape)}; at least one row and one column are needed")
    check_finite(array, name)
    return array


def check_non_negative(values: object, *, name: str) -> Array:
    """Return finite non-negative values as a floating array, of any shape but the empty one."""
    array = as_floating(values, name)
    if array.ndim < 1 or 0 in array.shape:
        raise ValueError(f"{name} has shape {tuple(array.shape)}; pass at least one value")
    check_finite(array, name)
    xp = array_namespace(array)
    if float(xp.min(array)) < 0.0:
        place, value = _first_bad(array < 0, array)
        raise ValueError(f"{name}{place} = {value:g} is negative; pass non-negative values")
    return array


def check_weights(weights: object, n: int, *, name: str = "weights") -> Array:
    """Return n non-negative finite masses, not all zero."""
    array = as_floating(weights, name)
    if tuple(array.shape) != (n,):
        raise ValueError(f"{name} has shape {tuple(array.shape)}; expected ({n},), one mass a point")
    array = check_non_negative(array, name=name)
    xp = array_namespace(array)
    if float(xp.max(array)) == 0.0:
        raise ValueError(f"{name} are all zero; at least one point needs a positive mass")
    return array


def check_real(value: object, name: str) -> float:
    """Return a finite real number as a float."""
    if isinstance(value, (bool, np.bool_, str, bytes)) or value is None:
        raise TypeError(f"{name} = {value!r} is not a real number")
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError) as error:
        raise TypeError(f"{name} = {value!r} is not a real number") from error
    except OverflowError as error:
        raise ValueError(f"{name} is an integer beyond the range of float64") from error
    if not math.isfinite(number):
        raise ValueError(f"{name} = {number} is not finite")
    return number


def check_integer(value: object, name: str, *, at_least: int) -> int:
    """Return an integer that is not smaller than ``at_least``."""
    if isinstance(value, (bool, np.bool_)) or not isinstance(value, SupportsIndex):
        raise TypeError(f"{name} = {value!r} is not an integer")
    number = operator.index(value)
    if number < at_least:
        raise ValueError(f"{name} = {number} is too small; pass at least {at_least}")
    return number


def check_open_unit(value: object, name: str) -> float:
    """Return a number strictly between 0 and 1."""
    number = check_real(value, name)
    if not 0.0 < number < 1.0:
        raise ValueError(f"{name} = {number:g} is not strictly between 0 and 1")
    return number


def check_probability(value: object, name: str) -> float:
    """Return a number in [0, 1]."""
    number = check_real(value, name)
    if not 0.0 <= number <= 1.0:
        raise ValueError(f"{name} = {number:g} is not between 0 and 1")
    return number


def check_epsilon(value: object, name: str = "epsilon") -> float:
    """Return a relative error in (0, 1], the range for which sizes are proved."""
    number = check_real(value, name)
    if not 0.0 < number <= 1.0:
        raise ValueError(f"{name} = {number:g} is outside (0, 1]; ask for a relative error in that range")
    return number
