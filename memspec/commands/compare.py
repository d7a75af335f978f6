"""``memspec compare``: is one record worse than another?"""

from __future__ import annotations

import argparse
from pathlib import Path

from memspec.commands.base import Commands, command, show
from memspec.errors import UsageProblem


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = command(
        commands,
        "compare",
        _compare,
        help="is B worse than A?",
        description="Compare two records, effect sizes first. Exit 0 no worse, 1 worse, 2 usage, 3 inconclusive, "
        "4 not comparable.",
    )
    parser.add_argument("old", type=Path, metavar="A.json")
    parser.add_argument("new", type=Path, metavar="B.json")
    parser.add_argument(
        "--tolerance", type=float, default=0.02, help="how much worse is no regression, as a share of the range (0.02)"
    )
    parser.add_argument(
        "--gate",
        default="all",
        metavar="POLICY",
        help="what must not be worse: laws, scores, default, all, FILE.toml (all)",
    )
    parser.add_argument("--all", action="store_true", help="show every move, however many there are")


def _compare(options: argparse.Namespace) -> int:
    from memspec.scorecard import record
    from memspec.scorecard.compare import INCONCLUSIVE, NOT_COMPARABLE, WORSE, compare, matched
    from memspec.scorecard.differences import comparison
    from memspec.scorecard.gate import policy_of
    from memspec.scorecard.side_by_side import side_by_side

    if options.tolerance < 0:
        raise UsageProblem(f"--tolerance is {options.tolerance}; it must be at least 0")
    old, new = record.load(options.old), record.load(options.new)
    codes = []
    for ours, theirs in matched(new, old):
        if theirs is None:
            print(f"{ours.name} is not in {options.old}: not compared")
            codes.append(INCONCLUSIVE if len(new) > 1 else NOT_COMPARABLE)
            continue
        result = compare(ours, theirs, policy=policy_of(options.gate, options.tolerance))
        title = ours.name if ours.name == theirs.name else f"{ours.name} against {theirs.name}"
        show(comparison(result, title, most=10**6 if options.all else 20))
        if not result.refused:
            show(side_by_side(ours, theirs))
        codes.append(result.exit_status)
    left = {r.name for r in old} - {r.name for r in new} if len(old) + len(new) > 2 else set()
    for name in sorted(left):
        print(f"{name} is not in {options.new}: not compared")
        codes.append(INCONCLUSIVE)
    return next((code for code in (WORSE, NOT_COMPARABLE, INCONCLUSIVE) if code in codes), 0)
