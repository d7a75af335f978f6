"""What counts as a regression: the user's policy for a comparison with a baseline, and what a card says of it."""

from __future__ import annotations

import difflib
import fnmatch
import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from memspec.errors import BoundsError

NAMES = ("default", "laws", "scores", "all")


@dataclass(frozen=True)
class Policy:
    """What is gated, and how much worse is still no regression.

    Attributes:
        judged: ``laws`` (laws and claims that held and are broken now), ``scores`` (metrics that scores are made of),
            ``default`` (both) or ``all`` (every metric and every check).
        tolerance: as a share of the metric's range (or of the old value's size).
        tolerances: by axis or by metric (``capacity``, ``capacity.load[[]n64].recall_cosine``; globs): they come first.
    """

    judged: str = "default"
    tolerance: float = 0.02
    tolerances: Mapping[str, float] = field(default_factory=dict)

    def metric(self, experiment: str, setting: str, name: str) -> bool:
        """Whether a metric of an experiment and setting is gated."""
        if self.judged == "all":
            return True
        if self.judged == "laws":
            return False
        labels = self._scored.get((experiment, name), ())
        return labels is None or setting in labels

    @cached_property
    def _scored(self) -> dict[tuple[str, str], tuple[str, ...] | None]:
        """The settings of each metric that a score is made of; None = all."""
        from memspec.experiments.catalog import scorings

        found: dict[tuple[str, str], tuple[str, ...] | None] = {}
        for one in scorings():
            key = one.experiment, one.metric
            known = found.get(key, ())
            found[key] = None if one.labels is None or known is None else (*known, *one.labels)
        return found

    def check(self, kind: str) -> bool:
        """Whether a check of this kind is gated: fails the comparison where it passed before and fails now."""
        return self.judged == "all" or (self.judged in ("default", "laws") and kind in ("law", "claim"))

    def tolerated(self, experiment: str, setting: str, name: str) -> float:
        """How much worse a metric may get."""
        full, axis = f"{experiment}[{setting}].{name}", experiment.partition(".")[0]
        for pattern, tolerance in self.tolerances.items():
            if any(fnmatch.fnmatchcase(text, pattern) for text in (axis, experiment, full, f"{experiment}.{name}")):
                return tolerance
        return self.tolerance

    def __str__(self) -> str:
        return {
            "default": "laws, claims and scores",
            "laws": "laws and claims",
            "scores": "scores",
            "all": "every metric and check",
        }[self.judged]


def policy_of(text: str | None, tolerance: float = 0.02) -> Policy:
    """The policy that ``--memspec-gate`` names: ``laws``, ``scores``, ``all``, or a TOML file with ``judged``, ``tolerance``
    and a table ``tolerances``.

    Raises:
        BoundsError: if it is none of these, or the file cannot be meant.
    """
    if text is None or text in NAMES:
        return Policy(text or "default", tolerance)
    path = Path(text)
    if path.suffix != ".toml":
        raise BoundsError(f"--memspec-gate={text}: give one of {', '.join(NAMES)}, or a file that ends in .toml")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BoundsError(f"--memspec-gate={text}: there is no such file") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BoundsError(f"--memspec-gate={text}: not a readable TOML file ({error})") from error
    unknown = sorted(set(table) - {"judged", "tolerance", "tolerances"})
    if unknown:
        raise BoundsError(
            f"--memspec-gate={text}: it has {', '.join(unknown)}; there are judged, tolerance, tolerances"
        )
    judged = table.get("judged", "default")
    if judged not in NAMES:
        raise BoundsError(f"--memspec-gate={text}: judged is {judged!r}; there are {', '.join(NAMES)}")
    sizes = {"tolerance": table.get("tolerance", tolerance), **table.get("tolerances", {})}
    for name, value in sizes.items():
        if isinstance(value, bool) or not isinstance(value, (int, float)) or not value >= 0:
            raise BoundsError(f"--memspec-gate={text}: {name} is {value!r}; it must be a number, at least 0")
    for name in table.get("tolerances", {}):
        if near := _unmeant(name):
            raise BoundsError(f"--memspec-gate={text}: tolerances: no axis and no metric is called {name!r}; {near}")
    return Policy(judged, float(sizes.pop("tolerance")), {k: float(v) for k, v in sizes.items()})


def _unmeant(pattern: str) -> str:
    """What a pattern of tolerances may have meant, where it can match nothing; empty where it can."""
    from memspec.experiments.catalog import experiments

    named = {f"{name}.{metric}" for name, one in experiments().items() for metric in one.metrics}
    named |= set(experiments()) | {name.partition(".")[0] for name in experiments()}
    anywhere = re.sub(r"\[\[\].*\]", "", pattern)  # any setting: a sweep or a later version may have others
    if any(fnmatch.fnmatchcase(name, glob) for name in named for glob in (pattern, anywhere)):
        return ""
    near = difflib.get_close_matches(anywhere, named, n=3, cutoff=0.6)
    axes = sorted({name.partition(".")[0] for name in named})
    return f"near it are {', '.join(near)}" if near else f"the axes are {', '.join(axes)}"


def summary(losses: Sequence[str], most: int = 3) -> str:
    """A few losses in one line, and how many more there are."""
    more = f" and {len(losses) - most} more" if len(losses) > most else ""
    return "; ".join(losses[:most]) + more
