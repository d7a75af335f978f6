"""Bounds of the user's own, by check id, from a TOML file."""

from __future__ import annotations

import fnmatch
import tomllib
from collections.abc import Mapping
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
            bounds[pattern] = Bound(**{k: float(v) for k, v in table.items()}, source=f"bounds file {path.name}")
        except (TypeError, ValueError) as error:
            raise BoundsError(f'--memspec-bounds={path}: ["{pattern}"]: {error}') from error
    return bounds


def required_of(check: str, bounds: Mapping[str, Bound]) -> Bound | None:
    """What a bounds file requires of this check, if anything: its first entry whose glob matches the id."""
    return next((bound for pattern, bound in bounds.items() if fnmatch.fnmatchcase(check, pattern)), None)
