"""The number of BLAS threads is one while a computation runs, and what it was afterwards."""

from __future__ import annotations

import threading

import pytest
from threadpoolctl import OpenBLASController, threadpool_info, threadpool_limits

from coresets._threads import one_blas_thread

# One solver of cvxpy brings a BLAS that was built for a single thread; it is there once cvxpy is imported.
_SINGLE = "scs.libs"


def threads() -> set[int]:
    pools = [pool for pool in threadpool_info() if pool["user_api"] == "blas"]
    return {pool["num_threads"] for pool in pools if _SINGLE not in pool["filepath"]}


@pytest.fixture(autouse=True)
def two_threads():
    with threadpool_limits(limits=2, user_api="blas"):
        yield


def test_limit_holds_inside_and_is_lifted_outside():
    with one_blas_thread():
        assert threads() == {1}
        with one_blas_thread():
            assert threads() == {1}
        assert threads() == {1}
    assert threads() == {2}


def test_limit_is_lifted_after_an_error():
    with pytest.raises(KeyError), one_blas_thread():
        raise KeyError
    assert threads() == {2}


@pytest.mark.skipif(
    not hasattr(OpenBLASController, "clear_controlling_thread"),
    reason="before that, overlapping limits were restored in the wrong order",
)
def test_overlapping_threads_leave_no_limit_behind():
    inside, go_on = threading.Event(), threading.Event()

    def other() -> None:
        with one_blas_thread():
            inside.set()
            go_on.wait(10)

    with one_blas_thread():
        worker = threading.Thread(target=other)
        worker.start()
        assert inside.wait(10)
    go_on.set()
    worker.join(10)
    assert threads() == {2}
