"""Bounds of the user's own, by check id, from a TOML file."""

from __future__ import annotations

import fnmatch
import importlib.util
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from memspec.errors import BoundsError
from memspec.judging.verdicts import Bound


def read_bounds(path: Path) -> dict[str, Bound]:
    """Bounds by check id (or glob) from a TOML file: ``["capacity/recall/n8"]`` with at_least and/or at_most.

    Raises:
        BoundsError: if the file is missing, not TOML, or an entry is not a bound.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BoundsError(f"--memspec-bounds={path}: there is no such file") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BoundsError(f"--memspec-bounds={path}: not a readable TOML file ({error})") from error
    bounds = {}
    for pattern, table in tables.items():
        known = {"at_least", "at_most", "share"}
        if not isinstance(table, dict) or not table or set(table) - known:
            raise BoundsError(
                f'--memspec-bounds={path}: ["{pattern}"] must hold at_least and/or at_most (numbers), '
                f"and nothing but {', '.join(sorted(known))}"
            )
        try:
            bounds[pattern] = Bound(**{k: _number(k, v) for k, v in table.items()}, source=f"bounds file {path.name}")
        except (TypeError, ValueError) as error:
            raise BoundsError(f'--memspec-bounds={path}: ["{pattern}"]: {error}') from error
    return bounds


def unmatched(bounds: Iterable[str], judged: Sequence[str]) -> list[str]:
    """The patterns that match none of these checks; those of an axis that did not take part are left out.

    Args:
        bounds: patterns of a bounds file.
        judged: ids of the checks that judge a metric.
    """
    axes = {check.partition("/")[0] for check in judged}
    return [
        pattern
        for pattern in bounds
        if not any(fnmatch.fnmatchcase(check, pattern) for check in judged)
        and not (_suite(pattern.partition("/")[0]) and pattern.partition("/")[0] not in axes)
    ]


def _suite(axis: str) -> bool:
    """Whether memspec has suites of this name (a run of a few files leaves others out)."""
    return axis.isidentifier() and importlib.util.find_spec(f"memspec.suites.test_{axis}") is not None


def _number(name: str, value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}; it must be a number")
    return float(value)


def asks(check: str, bounds: Mapping[str, Bound], better: str) -> Bound | None:
    """What a bounds file requires of a metric of this check, if anything.

    A glob that asks "at least" means metrics of which more is better: of one of which less is better it asks nothing.

    Args:
        better: which way is better, as :class:`memspec.metrics.Metric` says it.
    """
    pattern = next((p for p in bounds if fnmatch.fnmatchcase(check, p)), None)
    if pattern is None:
        return None
    bound = bounds[pattern]
    contrary = better == "down" and bound.at_least is not None and bound.at_most is None
    return None if contrary and set(pattern) & set("*?[") else bound
