"""``memspec list | adapt | describe``: what memories there are, how a class becomes one, and what it is seen to do."""

from __future__ import annotations

import argparse
import inspect
import sys
from typing import Any

from memspec.commands.base import Commands, command, expanded, show


def add(commands: Commands) -> None:
    """Enter the commands."""
    command(commands, "list", _list, help="the reference memories, and networks that carry one")

    adapter = command(
        commands,
        "adapt",
        _adapt,
        help="write the adapter for a class that is no memory yet",
        description="Look at a class (or a function that builds something), try what would make a memory of it, and print "
        "the adapter to paste. Exit 0 if it works, 1 if something in it is left to fill in.",
    )
    adapter.add_argument("plug", metavar="module:Class")

    describe = command(
        commands,
        "describe",
        _describe,
        help="what a memory is seen to do, and the spec to declare it",
        description="Try every promise a spec can make, by the checks that would ask it; print what holds with the "
        "evidence, and a MemorySpec(...) to paste.",
    )
    describe.add_argument("plugs", nargs="+", metavar="PLUG")
    describe.add_argument("--bare", action="store_true", help="as if it declared nothing but what it needs")


def _list(options: argparse.Namespace) -> int:
    from memspec.plugs.loading import load_plug
    from memspec.plugs.references import network_plugs, reference_plugs
    from memspec.plugs.sequences import listed

    for name in [*reference_plugs(), *network_plugs()]:
        plug = load_plug(name)
        what, source = described(plug.factory)
        print(f"{plug.name}\n  {what}")
        kind = f"a sequence model ({listed(plug.sizes)})" if plug.is_sequence_model else f"family {plug.spec.family}"
        print(f"  {kind}; {', '.join(sorted(plug.capabilities)) or 'no optional capabilities'}")
        if source:
            print(f"  source: {source}")
    return 0


def _adapt(options: argparse.Namespace) -> int:
    from memspec.plugs.advising import advise, module_of
    from memspec.plugs.loading import find

    factory, _ = find(options.plug)
    advice = advise(factory)
    module, name = module_of(options.plug)
    print(advice.file(module, name), end="")
    if advice.missing:
        print(f"# fill in {', '.join(advice.missing)}: memspec cannot know what {name} wants there", file=sys.stderr)
        return 1
    if advice.problem:
        print(f"# this is the likeliest form, but it does not work yet: {advice.problem}", file=sys.stderr)
        return 1
    if "update" in advice.options and "reset" not in advice.options:
        print(f"# no method of {name} is seen to clear it, so reset builds it anew", file=sys.stderr)
    print("# one pair was stored and asked for with it; save it as adapted.py, then:", file=sys.stderr)
    print("#     memspec score adapted.py:Adapted", file=sys.stderr)
    return 0


def _describe(options: argparse.Namespace) -> int:
    from memspec.running.selfcheck import run_plan
    from memspec.scorecard import render

    arguments = ["--memspec-bare"] if options.bare else []
    cards = run_plan({plug: ["observed/*"] for plug in expanded(options.plugs)}, 1, arguments)
    for one in cards.values():
        show(render.observed(one))
    return 0 if all(one.observed for one in cards.values()) else 1


def described(thing: Any) -> tuple[str, str]:
    """A docstring's first sentence or line, and its ``Source:`` paragraph as one line."""
    paragraphs = [" ".join(p.split()) for p in (inspect.getdoc(thing) or "").split("\n\n")]
    source = next((p.removeprefix("Source:").strip() for p in paragraphs if p.startswith("Source:")), "")
    return paragraphs[0] or "(no description)", source
