"""A check: one guarantee, the ways to attack it, and the faults that the attack must catch."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from coresets.accuracy import Accuracy
from coresets.guarantee import Guarantee
from proofs_check.trials import Trial
from proofs_check.workloads import Workload

__all__ = ["Check", "Fault", "Profile", "Scenario"]


@dataclass(frozen=True, slots=True)
class Profile:
    """How thorough a run is.

    Parameters
    ----------
    name : str
        ``"quick"`` or ``"full"``.
    detect, miss : float
        Failure rate that must not pass, and the probability with which it may.
    pilot : int
        Trials of the pilot that decides whether a planted fault must be caught.
    curve_trials, curve_sizes : int
        Trials a size, and sizes, of the plots of error against size.
    scaling_trials : int
        Trials a size when exponents are measured.
    max_points : int
        Larger data sets are thinned to so many points, by a fixed stride.
    """

    name: str
    detect: float
    miss: float
    pilot: int
    curve_trials: int
    curve_sizes: int
    scaling_trials: int
    max_points: int


@dataclass(frozen=True, slots=True)
class Fault:
    """A construction broken on purpose, which claims what the honest one claims.

    Parameters
    ----------
    name : str
        Key into the check's list of faults.
    trial : callable
        Error of one run of the broken construction.
    power : float, optional
        Probability with which the test must refute it, where that can be computed beforehand; a
        pilot estimates it otherwise.
    """

    name: str
    trial: Trial
    power: float | None = None


@dataclass(frozen=True, slots=True)
class Scenario:
    """One guarantee on one workload, with a claim to test.

    Parameters
    ----------
    workload : Workload
        The data.
    size : int
        Coreset size.
    claimed : Accuracy
        What the guarantee promises at this size; a delta of 0 means that no failure is allowed.
    trial : callable
        Error of one run at the worst query found.
    faults : tuple of Fault
        Broken versions.
    at_size : callable, optional
        ``at_size(m)`` gives the trial and the promised epsilon at another size.
    trials : int, optional
        Number of trials; by default as many as the profile's error rates need. With one trial,
        delta itself is the false-alarm rate.
    note : str
        Anything a reader should know.
    vacuous : str
        Why the claim excludes nothing here; empty if it does not.
    """

    workload: Workload
    size: int
    claimed: Accuracy
    trial: Trial
    faults: tuple[Fault, ...] = ()
    at_size: Callable[[int], tuple[Trial, float]] | None = None
    trials: int | None = None
    note: str = ""
    vacuous: str = ""


@dataclass(frozen=True)
class Check:
    """The attack on one guarantee.

    Parameters
    ----------
    guarantee : Guarantee
        The theorem under attack.
    queries : str
        How the worst query is searched for, in one phrase.
    faults : mapping of str to str
        Name and description of every planted fault.
    scenarios : callable
        ``scenarios(workloads, profile)`` yields the scenarios that apply.
    """

    guarantee: Guarantee
    queries: str
    faults: Mapping[str, str]
    scenarios: Callable[[Sequence[Workload], Profile], Iterable[Scenario]]

    @property
    def key(self) -> str:
        """Key of the guarantee."""
        return self.guarantee.key

    @property
    def page(self) -> str:
        """Theory page, relative to the root of the repository."""
        return f"docs/theory/{self.key.lower()}.md"
