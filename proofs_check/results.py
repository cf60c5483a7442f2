"""What a run found: plain frozen values that turn into JSON and back into pages."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any

__all__ = [
    "CheckResult",
    "Curve",
    "FaultResult",
    "RunResult",
    "ScalingFit",
    "ScenarioResult",
    "TestResult",
    "Verdict",
]


class Verdict(StrEnum):
    """Outcome of a test. There is no "proved": experiments refute or fail to refute."""

    REFUTED = "REFUTED"
    CONSISTENT = "CONSISTENT"
    INCONCLUSIVE = "INCONCLUSIVE"
    VACUOUS = "VACUOUS"

    @classmethod
    def combine(cls, verdicts: Iterable[Verdict]) -> Verdict:
        """Verdict of a whole: one refutation refutes it; vacuous parts neither help nor harm.

        Of no parts, and of vacuous parts only, nothing was tested: VACUOUS.
        """
        seen = set(verdicts)
        for verdict in (cls.REFUTED, cls.INCONCLUSIVE, cls.CONSISTENT):
            if verdict in seen:
                return verdict
        return cls.VACUOUS


@dataclass(frozen=True, slots=True)
class TestResult:
    """One binomial test of one claim.

    Attributes
    ----------
    verdict : Verdict
        REFUTED if the failures reach the critical count; otherwise CONSISTENT if the design's
        power was reached, INCONCLUSIVE if not; VACUOUS if the claim excludes nothing.
    trials, failures, critical : int
        Trials made, trials whose error exceeded the claimed epsilon, failures that refute.
    rate_low, rate_high : float
        Exact 99 % confidence interval for the failure rate.
    p_value : float
        Probability of as many failures under the claim.
    typical, quantile, largest : float
        Median, (1 - delta)-quantile and maximum of the errors seen.
    """

    __test__ = False  # the name starts with "Test", but pytest has nothing to collect here

    verdict: Verdict
    trials: int
    failures: int
    critical: int
    rate_low: float
    rate_high: float
    p_value: float
    typical: float
    quantile: float
    largest: float


@dataclass(frozen=True, slots=True)
class FaultResult:
    """A planted fault: what was broken, whether it had to be caught, and whether it was.

    Attributes
    ----------
    name, description : str
        What was broken.
    power : float
        Lower bound on the probability that the design refutes this fault, from a pilot that is
        independent of the test.
    required : bool
        Whether that power was large enough to demand a refutation.
    result : TestResult
        The test of the broken construction against the honest claim; the pilot, which judges
        nothing, if the fault was not demanded.
    """

    name: str
    description: str
    power: float
    required: bool
    result: TestResult

    @property
    def caught(self) -> bool:
        """Whether the broken construction was refuted."""
        return self.result.verdict is Verdict.REFUTED


@dataclass(frozen=True, slots=True)
class Curve:
    """Observed error against size, with the bound.

    Attributes
    ----------
    sizes : tuple of int
        Coreset sizes, increasing.
    typical, quantile : tuple of float
        Median and (1 - delta)-quantile of the worst-query error at each size.
    bound : tuple of float
        Claimed epsilon at each size; may exceed 1.
    """

    sizes: tuple[int, ...]
    typical: tuple[float, ...]
    quantile: tuple[float, ...]
    bound: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class ScenarioResult:
    """One guarantee on one workload.

    Attributes
    ----------
    workload, kind : str
        Name of the data, and whether they are "real", "adversarial" or "degenerate".
    n, d, size : int
        Points, dimension, and coreset size.
    epsilon, delta : float
        The claim.
    queries : str
        How the worst query was searched for.
    honest : TestResult
        The construction as it is.
    faults : tuple of FaultResult
        The construction broken on purpose.
    curve : Curve or None
        Error against size.
    note : str
        Why the claim is vacuous here, or anything else a reader should know.
    """

    workload: str
    kind: str
    n: int
    d: int
    size: int
    epsilon: float
    delta: float
    queries: str
    honest: TestResult
    faults: tuple[FaultResult, ...] = ()
    curve: Curve | None = None
    note: str = ""

    @property
    def source(self) -> str:
        """Name of the data set, without what was done to it after the comma."""
        return self.workload.split(",")[0]

    @property
    def verdict(self) -> Verdict:
        """Verdict on the honest construction."""
        return self.honest.verdict

    @property
    def ratio(self) -> float:
        """Observed (1 - delta)-quantile of the error over the claimed epsilon."""
        return self.honest.quantile / self.epsilon if self.epsilon else float(self.honest.quantile > 0.0)


@dataclass(frozen=True, slots=True)
class CheckResult:
    """One guarantee on all its workloads; ``faults`` names all that its check plants."""

    key: str
    title: str
    statement: str
    scenarios: tuple[ScenarioResult, ...]
    seconds: float = 0.0
    faults: tuple[str, ...] = ()

    @property
    def verdict(self) -> Verdict:
        """Combined verdict."""
        return Verdict.combine(scenario.verdict for scenario in self.scenarios)

    @property
    def required_faults(self) -> int:
        """How many planted faults had to be caught."""
        return sum(fault.required for scenario in self.scenarios for fault in scenario.faults)

    @property
    def missed_faults(self) -> tuple[str, ...]:
        """Planted faults that had to be caught and were not."""
        return tuple(
            f"{fault.name} on {scenario.workload}"
            for scenario in self.scenarios
            for fault in scenario.faults
            if fault.required and not fault.caught
        )

    @property
    def untested_faults(self) -> tuple[str, ...]:
        """Faults of the check that no scenario had the power to demand: they have shown nothing."""
        demanded = {fault.name for s in self.scenarios for fault in s.faults if fault.required}
        return tuple(name for name in self.faults if name not in demanded)

    @property
    def ok(self) -> bool:
        """Not refuted, every fault was demanded somewhere, and none that was demanded was missed."""
        refuted = self.verdict is Verdict.REFUTED
        return not (refuted or self.missed_faults or self.untested_faults) and self.required_faults > 0


@dataclass(frozen=True, slots=True)
class ScalingFit:
    """Smallest size that meets an error in experiments, beside the bound, and fitted exponents.

    Attributes
    ----------
    key, workload, variable : str
        Guarantee, data, and what was varied: ``"1/epsilon"`` or ``"d"``.
    values : tuple of float
        Values of the variable.
    measured, proved : tuple of float
        Smallest size that reached the error in the experiment, and the size that theory asks for.
    measured_exponent, proved_exponent : float
        Slopes in logarithmic coordinates, by least squares.
    """

    key: str
    workload: str
    variable: str
    values: tuple[float, ...]
    measured: tuple[float, ...]
    proved: tuple[float, ...]
    measured_exponent: float
    proved_exponent: float


@dataclass(frozen=True, slots=True)
class RunResult:
    """Everything that one run found.

    Attributes
    ----------
    profile : str
        ``"quick"`` or ``"full"``.
    seed : int
        Seed of the run; the same seed gives the same report.
    false_alarm : float
        Probability that the whole run refutes anything that is true.
    checks : tuple of CheckResult
        One a guarantee.
    scaling : tuple of ScalingFit
        Measured sizes beside proved ones.
    left_out : tuple of str
        What was not run, and why.
    versions : dict
        Versions of Python and the libraries.
    seconds : float
        Duration.
    """

    profile: str
    seed: int
    false_alarm: float
    checks: tuple[CheckResult, ...]
    scaling: tuple[ScalingFit, ...] = ()
    left_out: tuple[str, ...] = ()
    versions: dict[str, str] = field(default_factory=dict)
    seconds: float = 0.0

    @property
    def ok(self) -> bool:
        """Whether nothing was refuted and every demanded fault was caught."""
        return bool(self.checks) and all(check.ok for check in self.checks)

    def count(self, verdict: Verdict) -> int:
        """How many checks ended with the verdict."""
        return sum(check.verdict is verdict for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        """JSON-serialisable form, with the derived verdicts included."""
        record = asdict(self)
        record["ok"] = self.ok
        for check, entry in zip(self.checks, record["checks"], strict=True):
            entry["verdict"] = check.verdict.value
            entry["ok"] = check.ok
            entry["missed_faults"] = list(check.missed_faults)
            entry["untested_faults"] = list(check.untested_faults)
            for scenario, part in zip(check.scenarios, entry["scenarios"], strict=True):
                part["ratio"] = scenario.ratio
                part["verdict"] = scenario.verdict.value
                for fault, piece in zip(scenario.faults, part["faults"], strict=True):
                    piece["caught"] = fault.caught
        return record
