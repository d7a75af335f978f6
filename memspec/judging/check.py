"""One check of one memory: what it is, and what is known of it, from collection to the card."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any, Literal, get_args

from memspec.failure import Failure
from memspec.judging.verdicts import Bound, Verdict

Kind = Literal["law", "claim", "measurement"]
Status = Literal["pass", "measured", "fail", "inconclusive", "skip", "not_asked", "not_run"]

KINDS: tuple[Kind, ...] = get_args(Kind)
"""In the order in which failures are to be looked at: what breaks a law may well break the rest."""


@dataclass(frozen=True)
class Check:
    """What one check is, and what came of it.

    Attributes:
        id: ``axis/name`` or ``axis/name/parameters``, the same in every kind of run.
        kind, axis: law, claim or measurement, and the suite it belongs to.
        status: None until it is known; ``measured`` for a measurement within a bound that a blind memory meets as
            well, so that it is no pass; ``not_asked`` where the check does not apply to the memory,
            ``not_run`` where it was planned and the run ended before it.
        reason: why it was skipped, not asked or not run.
        failure: why it failed, or could not be decided.
        experiment, setting: what was measured, where a metric was judged.
        metric, estimate, interval, alpha, bound, trials: the verdict.
        judged: ``share`` where ``interval`` is of the share of trials that meet the bound.
        seconds: what the check took.
        blind: the mean (or median, as ``estimate``) that a memory which answers zeros reaches; None where that was not
            looked at: for laws, for what did not pass, and where no such memory can be measured.
        required: False where that memory meets the bound as well.
    """

    id: str
    kind: Kind
    axis: str
    status: Status | None = None
    metric: str | None = None
    estimate: float | None = None
    interval: tuple[float, float] | None = None
    alpha: float | None = None
    bound: Bound | None = None
    judged: Literal["mean", "share"] = "mean"
    trials: int | None = None
    seconds: float | None = None
    experiment: str | None = None
    setting: str | None = None
    failure: Failure | None = None
    reason: str = ""
    blind: float | None = None
    required: bool = True

    @property
    def message(self) -> str:
        """What there is to say, as text: the failure, or why the check was not carried out."""
        return str(self.failure) if self.failure is not None else self.reason

    def with_verdict(
        self,
        verdict: Verdict,
        experiment: str,
        setting: str,
        failure: Failure | None,
        blind: float | None = None,
        required: bool = True,
    ) -> Check:
        """This check, judged; ``blind`` and ``required`` say what a memory that answers zeros makes of the bound."""
        status: Status = verdict.status
        if status == "pass" and self.kind == "measurement" and not required:
            status = "measured"
        return replace(
            self,
            status=status,
            blind=blind,
            required=required,
            metric=verdict.metric,
            estimate=verdict.estimate,
            interval=verdict.interval,
            alpha=verdict.alpha,
            bound=verdict.bound,
            judged=verdict.judged,
            trials=verdict.trials,
            experiment=experiment,
            setting=setting,
            failure=failure,
        )

    def failed(self, failure: Failure) -> Check:
        """This check, failed."""
        return replace(self, status="fail", failure=failure)

    def to_json(self) -> dict[str, Any]:
        """As the card has it: ``bound`` with its ``share`` where that was judged, and ``message`` beside the parts."""
        own = {f.name: getattr(self, f.name) for f in fields(self) if f.name not in ("bound", "judged", "failure")}
        bound = None
        if self.bound is not None:
            bound = asdict(self.bound)
            if self.judged != "share":
                del bound["share"]
        failure = None if self.failure is None else self.failure.to_json()
        return {**own, "bound": bound, "failure": failure, "message": self.message}

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Check:
        """The check that a card has.

        Raises:
            KeyError: if it lacks an id, kind, axis or status.
        """
        known = {f.name: data[f.name] for f in fields(cls) if f.name in data}
        known |= {name: data[name] for name in ("id", "kind", "axis", "status")}  # these it must have
        if known.get("interval") is not None:
            low, high = known["interval"]
            known["interval"] = float(low), float(high)
        if known.get("estimate") is not None:
            known["estimate"] = float(known["estimate"])
        if known.get("blind") is not None:
            known["blind"] = float(known["blind"])
        if known.get("bound") is not None:
            known["judged"] = "share" if "share" in known["bound"] else "mean"
            given = dict(known["bound"])
            limits = {
                name: float(given[name]) for name in ("at_least", "at_most", "share") if given.get(name) is not None
            }
            known["bound"] = Bound(source=str(given["source"]), **limits)
        if known.get("failure") is not None:
            known["failure"] = Failure.from_json(known["failure"])
        return cls(**known)


class CheckRun:
    """A check while it is being carried out: its rule, its memory and how to repeat it, and what is known so far.

    Attributes:
        check: the record so far; replaced, never edited.
        memory: the plug's name.
        rule: the sentence that the check states.
        repeat: a command line that repeats the whole check.
        settled: its failure is on the record already.
    """

    def __init__(self, check: Check, rule: str, memory: str = "", repeat: str = "") -> None:
        self.check, self.rule, self.memory, self.repeat = check, rule, memory, repeat
        self.settled = False

    def failure(self, *, got: str, expected: str, cause: str, repeat: str = "", **more: str) -> Failure:
        """A failure of this check; repeated as a whole, unless ``repeat`` says how to repeat the part that failed."""
        return Failure(
            self.check.id, self.memory, self.rule, got, expected, cause, repeat=repeat or self.repeat, **more
        )

    def not_asked(self, reason: str) -> None:
        """The check does not apply to the memory."""
        self.check = replace(self.check, status="not_asked", reason=reason)

    def settle(self, failure: Failure) -> None:
        """The check ends in this failure; a verdict that is open, and fails under --strict, stays one."""
        self.settled = True
        if self.check.failure is not failure:
            self.check = self.check.failed(failure)
