"""Profiles of Hypothesis, and the marker of tests that need a GPU."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings

# No deadline: compiled functions are slow on their first call, and the machine may be shared.
_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}

# The default repeats itself exactly; `pytest --hypothesis-profile nightly` looks for new examples.
settings.register_profile("default", derandomize=True, **_COMMON)
settings.register_profile("nightly", max_examples=1000, print_blob=True, **_COMMON)
settings.load_profile("default")


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip a test marked ``gpu`` where there is no CUDA device."""
    if item.get_closest_marker("gpu"):
        torch = pytest.importorskip("torch")
        if not torch.cuda.is_available():
            pytest.skip("no CUDA device")
