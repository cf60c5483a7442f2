"""Attack a construction of your own: from a script, from pytest, from Hypothesis.

:func:`attack` runs a construction again and again, measures each result at the worst query that
it can find, and compares the number of failures with what the claim allows. The design is exact:
it states the probability of refuting a true claim and the failure rate that it is sure to see.
Planted faults show that the attack has teeth.

The worst query is the reader's business, since nobody else knows the family; for the common ones
:class:`WorstSquares`, :class:`WorstAbsolute` and :class:`WorstListed` are exact or close to it, and
:class:`WorstSearched` maximises the error of any loss from several starts.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any, Generic, TypeVar

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize
from tqdm import tqdm

from coresets._random import host_generator
from coresets._validate import check_finite, check_integer, check_non_negative
from coresets.accuracy import Accuracy
from coresets.reduction import Loss
from coresets.residuals import residual_rows
from coresets.weighted_set import Coreset, WeightedSet, to_host
from proofs_check.design import Design
from proofs_check.queries import AbsoluteWorst, FiniteWorst, SquaresWorst, WorstError
from proofs_check.results import TestResult, Verdict
from proofs_check.trials import test_claim, test_exactly

__all__ = [
    "AttackReport",
    "Verdict",
    "WorstAbsolute",
    "WorstListed",
    "WorstSearched",
    "WorstSquares",
    "assert_not_refuted",
    "attack",
]

Floats = npt.NDArray[np.float64]
R = TypeVar("R")


@dataclass(frozen=True)
class AttackReport:
    """Outcome of an attack.

    Attributes
    ----------
    claimed : Accuracy
        The claim.
    design : proofs_check.design.Design or None
        Trials and error rates; None for a claim that allows no failure at all.
    result : TestResult
        Failures of the construction.
    faults : mapping of str to TestResult
        Failures of its broken versions.
    """

    claimed: Accuracy
    design: Design | None
    result: TestResult
    faults: Mapping[str, TestResult]

    @property
    def verdict(self) -> Verdict:
        """Verdict on the construction.

        INCONCLUSIVE if it was not refuted but a planted fault was not refuted either: then the
        attack has shown nothing.
        """
        if self.result.verdict is Verdict.CONSISTENT and self.missed:
            return Verdict.INCONCLUSIVE
        return self.result.verdict

    @property
    def missed(self) -> tuple[str, ...]:
        """Planted faults that were not refuted."""
        return tuple(name for name, fault in self.faults.items() if fault.verdict is not Verdict.REFUTED)

    def __str__(self) -> str:
        result, claimed = self.result, self.claimed
        verdict = (
            f"{self.verdict}: {result.failures} of {result.trials} runs had an error above "
            f"{claimed.epsilon:g}; {result.critical} or more refute a failure rate of {claimed.delta:g}"
        )
        errors = (
            f"errors: median {result.typical:.3g}, {1.0 - claimed.delta:.0%} quantile {result.quantile:.3g}, "
            f"largest {result.largest:.3g}"
        )
        lines = [verdict, errors]
        if self.design is not None:
            lines.append(
                f"probability of so many failures under the claim: {result.p_value:.2g} "
                f"(a true claim is refuted with probability at most {self.design.false_alarm:g})"
            )
        lines.extend(f"planted fault {name!r}: {fault.verdict}" for name, fault in self.faults.items())
        return "\n".join(lines)


def attack(
    construct: Callable[[np.random.Generator], R],
    worst_error: Callable[[R], float],
    claimed: Accuracy,
    *,
    rng: int | np.random.Generator,
    design: Design | None = None,
    progress: bool | None = None,
    faults: Mapping[str, Callable[[np.random.Generator], R]] = MappingProxyType({}),
) -> AttackReport:
    """Try to refute that a construction reaches an accuracy.

    Parameters
    ----------
    construct : callable
        ``construct(rng)`` runs the construction once, with the generator that it is handed as its
        only randomness, and returns anything.
    worst_error : callable
        ``worst_error(result)`` is the error at the worst query, at least 0; NaN counts as a failure.
    claimed : Accuracy
        Epsilon below 1, and delta; a delta of 0 means that a single failure refutes.
    rng : int or numpy.random.Generator
        Seed of the attack.
    design : proofs_check.design.Design, optional
        Trials and error rates, for the claimed delta. By default a true claim is refuted with
        probability at most 1e-4, and a failure rate 0.2 above delta passes with at most 0.01.
    progress : bool, optional
        Whether to show a progress bar of the runs; by default on a terminal only. It is closed
        whatever the construction raises.
    faults : mapping of str to callable
        Broken versions of the construction by name, to be refuted by the same test.

    Returns
    -------
    AttackReport
        VACUOUS without a single run if the claim excludes nothing.

    Raises
    ------
    TypeError
        If ``claimed`` is not an Accuracy.
    ValueError
        If the design is for another delta, if delta is so close to 1 that the default design
        would need more than a million runs, if a fault has no name, or if ``worst_error`` returns
        a negative number or none at all.

    Examples
    --------
    >>> import numpy as np
    >>> from coresets import Accuracy, LeastSquares, SensitivityReducer, WeightedSet
    >>> from proofs_check.testing import WorstSquares, attack
    >>> data = WeightedSet(np.random.default_rng(0).standard_normal((3000, 3)))
    >>> claimed = Accuracy(0.3, 0.1)
    >>> reducer = SensitivityReducer(LeastSquares())
    >>> report = attack(
    ...     lambda rng: reducer.reduce(data, accuracy=claimed, rng=rng), WorstSquares(data), claimed, rng=0
    ... )
    >>> report.verdict
    <Verdict.CONSISTENT: 'CONSISTENT'>
    """
    if not isinstance(claimed, Accuracy):
        raise TypeError(f"claimed = {claimed!r} is no Accuracy; pass Accuracy(epsilon, delta)")
    if "" in faults:
        raise ValueError("a fault is named ''; give it a name, by which the report can mention it")
    generator = host_generator(rng)
    arms = {"": construct, **faults}
    children = generator.spawn(len(arms))
    if claimed.vacuous:
        empty = TestResult(Verdict.VACUOUS, 0, 0, 1, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0)
        return AttackReport(claimed, None, empty, MappingProxyType({}))
    if claimed.delta == 0.0:
        design = None  # one failure refutes
    elif design is None:
        detect = min(claimed.delta + 0.2, (1.0 + claimed.delta) / 2.0)
        design = Design.plan(delta=claimed.delta, detect=detect, false_alarm=1e-4, miss=0.01)

    results = {}
    disable = None if progress is None else not progress  # None: tqdm looks for a terminal
    runs = (design.trials if design is not None else _EXACT_TRIALS) * len(arms)
    with tqdm(total=runs, unit="run", disable=disable, leave=False) as bar:
        for (name, arm), child in zip(arms.items(), children, strict=True):
            trial = _Trial(arm, worst_error, bar)
            if design is None:
                results[name] = test_exactly(trial, claimed.epsilon, child, trials=_EXACT_TRIALS)
            else:
                results[name] = test_claim(trial, claimed, design, child, stop_when_refuted=bool(name))
    return AttackReport(claimed, design, results.pop(""), MappingProxyType(results))


_EXACT_TRIALS = 30  # runs of a construction that claims never to fail


@dataclass(frozen=True)
class _Trial(Generic[R]):
    construct: Callable[[np.random.Generator], R]
    worst_error: Callable[[R], float]
    bar: Any

    def __call__(self, rng: np.random.Generator) -> float:
        error = _real(self.worst_error(self.construct(rng)))
        if error < 0.0:
            raise ValueError(
                f"worst_error returned {error:g}; return an error of at least 0, such as abs(...)"
            )
        self.bar.update()
        return error


def _real(value: Any) -> float:
    """The value as a real number; NaN is one here, and so is an array of one number."""
    try:
        # By way of complex, since NumPy drops imaginary parts with a warning only.
        number = complex(value) if not isinstance(value, str) else None
    except (TypeError, ValueError, RuntimeError):
        number = None
    if number is None or number.imag != 0.0:
        raise ValueError(f"worst_error returned {value!r}; return one real number, the error")
    return number.real


def assert_not_refuted(report: AttackReport) -> None:
    """Fail a test unless the verdict is CONSISTENT, with the whole report as the message.

    Raises
    ------
    AssertionError
        If the claim was refuted or vacuous, or a planted fault was missed.
    """
    if report.verdict is not Verdict.CONSISTENT:
        raise AssertionError(str(report))


def _factors(data: WeightedSet, coreset: Coreset) -> tuple[npt.NDArray[np.intp], Floats]:
    """Kept indices, and the factors by which their weights grew."""
    if coreset.indices is None:
        raise TypeError("the coreset has free points; use WorstSearched, which evaluates the loss on them")
    indices = to_host(coreset.indices)
    before = to_host(data.weights)[indices].astype(np.float64)
    after = to_host(coreset.weights).astype(np.float64)
    grown = np.flatnonzero((before == 0.0) & (after > 0.0))
    if grown.size:
        place = grown[0]
        raise ValueError(
            f"row {indices[place]} weighs 0 in the data and {after[place]:g} in the coreset, so no factor "
            "describes the error; drop such rows from the coreset or use WorstSearched"
        )
    return indices, np.divide(after, before, out=np.zeros_like(after), where=before > 0.0)


def _linear(data: WeightedSet, *, intercept: bool) -> WeightedSet:
    """The residual rows as points: their linear functions are all residuals, up to scale."""
    return WeightedSet(to_host(residual_rows(data, intercept=intercept)), to_host(data.weights))


class _WorstOnCoreset:
    """Adapts an error of indices and factors to coresets of one data set."""

    def __init__(self, data: WeightedSet, error: WorstError) -> None:
        self._data, self._error = data, error

    def __call__(self, coreset: Coreset) -> float:
        """Error of a coreset of the data."""
        return self._error(*_factors(self._data, coreset))


class WorstSquares(_WorstOnCoreset):
    """Largest relative error of sum w (p.x + b - y)^2 over all coefficients, exactly.

    This is the family of :class:`~coresets.LeastSquares`. Without labels the y are 0.

    Parameters
    ----------
    data : WeightedSet
        The full data, with labels or without.
    intercept : bool, optional
        Whether the constant b is free, as in ``LeastSquares(intercept=True)``; by default it is 0.

    Notes
    -----
    A residual is a linear function of the row (p, 1, y) with the coefficient -1 for y. Errors are
    relative, so all other coefficients but 0 give the same errors, and 0 is a limit of them.
    """

    def __init__(self, data: WeightedSet, *, intercept: bool = False) -> None:
        super().__init__(data, SquaresWorst(_linear(data, intercept=intercept)))


class WorstAbsolute(_WorstOnCoreset):
    """Largest relative error of sum w |p.x + b - y| over all coefficients.

    This is the family of :class:`~coresets.L1Regression`. Without labels the y are 0. Exact if the
    points, the constant and the labels are two columns at most, else searched for.

    Parameters
    ----------
    data : WeightedSet
        The full data, with labels or without.
    intercept : bool, optional
        Whether the constant b is free, as in ``L1Regression(intercept=True)``; by default it is 0.
    """

    def __init__(self, data: WeightedSet, *, intercept: bool = False) -> None:
        super().__init__(data, AbsoluteWorst(_linear(data, intercept=intercept)))


class WorstListed(_WorstOnCoreset):
    """Largest relative error of a loss over listed queries, exactly.

    Parameters
    ----------
    data : WeightedSet
        The full data.
    loss : callable
        ``loss(data, query)`` returns the losses of all points, shape (n,).
    queries : sequence
        The queries, at least one, fixed before any draw.

    Raises
    ------
    ValueError
        If there are no queries, or if losses are negative, not finite or not of shape (n,).
    """

    def __init__(
        self, data: WeightedSet, loss: Callable[[WeightedSet, Any], Any], queries: Sequence[Any]
    ) -> None:
        if len(queries) == 0:
            raise ValueError("queries is empty; list at least one query")
        costs = [_costs(data, loss(data, query), place) for place, query in enumerate(queries)]
        super().__init__(data, FiniteWorst.of(data, costs))


def _costs(data: WeightedSet, losses: Any, place: int) -> Floats:
    """The losses at one query, checked."""
    name = f"loss at query {place}"
    costs: Floats = check_non_negative(to_host(losses), name=name).astype(np.float64)
    if costs.shape != (data.n,):
        raise ValueError(f"{name} has shape {costs.shape}; return ({data.n},) losses, one a point")
    return costs


class WorstSearched:
    """Largest relative error of any loss that was found by optimisation from several starts.

    From every start the error is maximised by a derivative-free simplex search, which copes with
    kinks. The query that minimises the cost is a good start, and so are points of the data where
    queries are points. A coreset that kept nothing answers 0, an error of 1.

    Parameters
    ----------
    data : WeightedSet
        The full data.
    loss : Loss
        Only its ``costs`` are used; queries are real vectors.
    starts : array of shape (k, q)
        Starting queries.
    steps : int
        Evaluations per start, at least 1.

    Raises
    ------
    ValueError
        If there are no starts, or if starts are not finite.
    """

    def __init__(self, data: WeightedSet, loss: Loss, starts: npt.ArrayLike, *, steps: int = 200) -> None:
        self._data, self._loss = data, loss
        self._steps = check_integer(steps, "steps", at_least=1)
        self._starts = np.atleast_2d(np.asarray(starts, dtype=np.float64))
        if self._starts.ndim != 2 or self._starts.size == 0:
            raise ValueError(f"starts has shape {self._starts.shape}; pass (k, q), one query a row")
        check_finite(self._starts, "starts")

    def __call__(self, coreset: Coreset) -> float:
        """Largest error found for a coreset of the data."""
        # Poisson sampling may keep nothing, or nothing that weighs; that is no weighted set.
        kept = coreset.of(self._data) if np.any(to_host(coreset.weights) > 0.0) else None

        def error(query: Floats) -> float:
            full = float((self._data.weights * self._loss.costs(self._data, query)).sum())
            estimate = 0.0 if kept is None else float((kept.weights * self._loss.costs(kept, query)).sum())
            return abs(estimate / full - 1.0) if full > 0.0 else 0.0

        found = [error(start) for start in self._starts]
        # The simplex search is slow: it starts from the best three starts only.
        for start in self._starts[np.argsort(found)[-3:]]:
            best = minimize(
                lambda query: -error(query), start, method="Nelder-Mead", options={"maxfev": self._steps}
            )
            found.append(-float(best.fun))
        return max(found)
