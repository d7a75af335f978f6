"""The world around a memory: it is left as it was found, and the run is steered by the harness alone."""

from __future__ import annotations

from dataclasses import replace

import pytest

from memspec.errors import LawBroken
from memspec.laws import world
from memspec.laws.law import Law


class TestWorld:
    """The world around a memory: it is left as it was found, and the run is steered by the harness alone."""

    pytestmark = pytest.mark.law

    def test_untouched(self, law: Law) -> None:
        """A memory leaves the world as it found it: settings, seeds of the global generators, the caller's tensors, and the process around it."""
        _fails([broken for kind, broken in world.survey(law).items() if kind != world.WORDS])

    def test_words(self, law: Law) -> None:
        """A memory raises exceptions of its own: skips, exits and "not asked" are for the harness to say."""
        _fails([broken for kind, broken in world.survey(law).items() if kind == world.WORDS])


def _fails(found: list[LawBroken]) -> None:
    """Break the law with the first of these, if there is one; the others are named with it."""
    if found:
        raise LawBroken(replace(found[0].failure, got="; also ".join(broken.failure.got for broken in found)))
