"""Certificates: what holds means, and that they survive copies, pickles and JSON."""

from __future__ import annotations

import copy
import json
import math
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from coresets import Certificate, SolverError

finite = st.floats(allow_nan=False, allow_infinity=False)
certificates = st.builds(
    Certificate,
    name=st.text(max_size=8),
    statement=st.text(max_size=8),
    value=finite,
    bound=st.none() | st.just(math.inf) | finite,
    confidence=st.floats(0.0, 1.0),
    details=st.dictionaries(st.text(max_size=4), finite, max_size=3),
)


@given(certificates)
def test_copies_pickles_and_json_give_the_same_certificate(certificate: Certificate) -> None:
    twins = (
        copy.copy(certificate),
        copy.deepcopy(certificate),
        pickle.loads(pickle.dumps(certificate)),
        Certificate.from_dict(json.loads(json.dumps(certificate.to_dict()))),
    )
    for twin in twins:
        assert twin == certificate


@given(certificates)
def test_holds_compares_the_value_with_the_bound_if_there_is_one(certificate: Certificate) -> None:
    if certificate.bound is None:
        assert certificate.holds is None
    else:
        assert certificate.holds is (certificate.value <= certificate.bound)


def test_an_infinite_bound_holds_always() -> None:
    assert Certificate("error", "relative error", 5.0, bound=math.inf).holds is True


def test_details_are_a_read_only_copy() -> None:
    details = {"low": 0.5}
    certificate = Certificate("ratio", "extreme ratios", 0.5, details=details)
    details["low"] = 7.0
    assert certificate.details["low"] == 0.5
    with pytest.raises(TypeError):
        certificate.details["low"] = 1.0  # type: ignore[index]


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_value_that_is_not_finite_is_refused(value: float) -> None:
    with pytest.raises(ValueError, match=r"value = (nan|inf) is not finite"):
        Certificate("error", "relative error", value)


def test_a_bound_that_is_no_number_is_refused() -> None:
    with pytest.raises(ValueError, match="bound = nan"):
        Certificate("error", "relative error", 0.1, bound=math.nan)
    with pytest.raises(TypeError, match="bound = 'x'"):
        Certificate("error", "relative error", 0.1, bound="x")  # type: ignore[arg-type]


def test_a_confidence_outside_the_unit_interval_is_refused() -> None:
    with pytest.raises(ValueError, match=r"confidence = 1\.5 is not between 0 and 1"):
        Certificate("error", "relative error", 0.1, confidence=1.5)


def test_a_solver_error_carries_the_certificate_reached() -> None:
    reached = Certificate("gap", "duality gap", 0.1, bound=0.01)
    assert SolverError("gap 0.1 after 5 steps; 0.01 was asked for", reached).certificate is reached
