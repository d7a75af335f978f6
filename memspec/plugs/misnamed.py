"""Arguments behind a plug's name that its factory does not take, and those that may have been meant."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Collection, Iterator
from typing import Any


def misnamed(factory: Callable[..., Any], given: Collection[str]) -> Iterator[str]:
    """A line for each name in ``given`` that is no argument of the factory; none where it takes any keyword."""
    try:
        parameters = inspect.signature(factory).parameters.values()
    except (TypeError, ValueError):
        return
    if any(p.kind is p.VAR_KEYWORD for p in parameters):
        return
    taken = [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    for name in given:
        if name not in taken:
            near = difflib.get_close_matches(name, [t for t in taken if t not in given], n=3, cutoff=0.5)
            meant = f"Close matches: {', '.join(near)}" if near else f"It takes: {', '.join(taken) or 'none'}"
            yield f"  It has no argument {name!r}. {meant}"
