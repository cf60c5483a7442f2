"""One BLAS thread for computations on blocks.

Everything here calls BLAS and LAPACK on blocks that fit a cache, thousands of times. Threaded BLAS
gains little on such blocks and waits for its slowest thread in every call: with one core of two taken by
another job, the calls of an ellipsoid took thirty times as long. So the number of BLAS threads is set to
one while such a computation runs, and set back afterwards.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from threadpoolctl import ThreadpoolController

__all__ = ["one_blas_thread"]


@cache
def _controller() -> Any:
    """The BLAS libraries of NumPy and SciPy, which are loaded by now."""
    import scipy.linalg  # noqa: F401, PLC0415 - loads SciPy's own BLAS

    return ThreadpoolController()


@contextmanager
def one_blas_thread() -> Iterator[None]:
    """Limit BLAS to one thread for a while; also a decorator.

    The limit is one of the process. Where computations in several Python threads overlap, the first
    one's end lifts it: the others are slower then, and no limit is left behind.

    Examples
    --------
    >>> with one_blas_thread():
    ...     pass
    """
    with _controller().limit(limits=1, user_api="blas"):
        yield
