"""What of a card is the same in every run."""

from __future__ import annotations

from typing import Any


def untimed(thing: Any) -> Any:
    """A card, or a part of one, without what depends on the clock."""
    if isinstance(thing, dict):
        return {k: untimed(v) for k, v in thing.items() if "seconds" not in k and k not in ("threads", "made")}
    return [untimed(v) for v in thing] if isinstance(thing, list) else thing
