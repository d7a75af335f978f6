"""Closed-form predictions per family, as two-sided bands. Tested against simulation."""

from __future__ import annotations

from memspec.experiments.base import Setting
from memspec.judge import Bound
from memspec.plug import Plug


def band(plug: Plug, experiment: str, setting: Setting, metric: str) -> Bound | None:
    """What theory requires of this family in this setting, or None where it says nothing."""
    return None
