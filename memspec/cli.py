"""The command line: memspec score | compare | report | list | trial | selfcheck."""

from __future__ import annotations

import argparse
import ast
import dataclasses
import importlib
import inspect
import os
import sys
import types
import typing
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from memspec.errors import MemspecError

if TYPE_CHECKING:
    from memspec.experiments.base import Experiment, Setting

USAGE = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command.

    Returns:
        The exit code. ``compare``: 0 no worse, 1 worse, 2 usage, 3 inconclusive, 4 not comparable. ``score``: pytest's,
        and 5 where nothing was measured. Wrong usage of any command is 2.
    """
    given = list(sys.argv[1:] if arguments is None else arguments)
    rest: list[str] = []
    if given[:1] == ["score"] and given[1:2] not in (["-h"], ["--help"]):
        plugs = next((i for i, text in enumerate(given) if text.startswith("-")), len(given))
        given, rest = given[:plugs], given[plugs:]  # what follows the plugs is pytest's
    options = _parser().parse_args(given)
    try:
        return int(options.run(options, rest))
    except (MemspecError, UsageProblem) as error:
        print(f"memspec {options.command}: {error}", file=sys.stderr)
        return USAGE


class UsageProblem(Exception):
    """Something on the command line that cannot be meant."""


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="memspec", description="A conformance suite for neural memories: laws, claims and measurements."
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")

    score = commands.add_parser(
        "score",
        help="run the suites on memories",
        description="Run the suites on one memory or several, without writing a test. Every other option is pytest's: "
        "--scorecard=card.json --html, --baseline=old.json, --checks='capacity/*', --full, -n 2, ...",
    )
    score.add_argument("plugs", nargs="+", metavar="PLUG", help="module:attribute or file.py:attribute")
    score.set_defaults(run=_score)

    compare = commands.add_parser(
        "compare",
        help="is B worse than A?",
        description="Compare two records, effect sizes first. Exit 0 no worse, 1 worse, 2 usage, 3 inconclusive, "
        "4 not comparable.",
    )
    compare.add_argument("old", type=Path, metavar="A.json")
    compare.add_argument("new", type=Path, metavar="B.json")
    compare.add_argument(
        "--tolerance", type=float, default=0.02, help="how much worse is no regression, as a share of the range (0.02)"
    )
    compare.add_argument("--all", action="store_true", help="show every move, however many there are")
    compare.set_defaults(run=_compare)

    report = commands.add_parser(
        "report",
        help="show a saved record",
        description="Show a saved record in the terminal; its scores are computed again from its raw rows.",
    )
    report.add_argument("card", type=Path, metavar="CARD.json")
    report.add_argument("--html", type=Path, metavar="OUT.html", help="write a self-contained page with plots")
    report.add_argument("--md", type=Path, metavar="OUT.md", help="write Markdown")
    report.set_defaults(run=_report)

    references = commands.add_parser("list", help="the reference memories")
    references.set_defaults(run=_list)

    trial = commands.add_parser(
        "trial",
        help="repeat one trial of an experiment",
        description="Repeat one trial, on the stream every memory sees in it, and print what was measured.",
    )
    trial.add_argument("plug", metavar="PLUG")
    trial.add_argument("experiment", metavar="EXPERIMENT", help="such as capacity.load")
    trial.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the setting")
    trial.add_argument("--trial", type=int, default=0, metavar="T")
    trial.add_argument("--suite-seed", type=int, default=0, metavar="N")
    trial.set_defaults(run=_trial)

    selfcheck = commands.add_parser(
        "selfcheck",
        help="hold the suites to what they must catch",
        description="Run every check on every memory broken on purpose and on every reference, and print the matrix.",
    )
    selfcheck.add_argument("-n", dest="workers", default="auto", metavar="N", help="processes (default: one a core)")
    selfcheck.add_argument("--quick", action="store_true", help="only the checks each broken memory names")
    selfcheck.add_argument("--only", action="append", default=[], metavar="NAME", help="only these broken memories")
    selfcheck.set_defaults(run=_selfcheck)
    return parser


# ---- the commands ---------------------------------------------------------------------------------------------


def _score(options: argparse.Namespace, rest: list[str]) -> int:
    import pytest

    arguments = [
        "--pyargs",
        "memspec.suites",
        f"-c{os.devnull}",  # the caller's own pytest settings must not change what is run
        f"--rootdir={Path.cwd()}",
        "-q",
        "--no-header",
        "--tb=no",
        "-r",
        "N",
        "-p",
        "no:cacheprovider",
        "--import-mode=importlib",
        *(f"--memory={name}" for name in options.plugs),
        *rest,
    ]
    return int(pytest.main(arguments))


def _compare(options: argparse.Namespace, rest: list[str]) -> int:
    from memspec.scorecard import record, render
    from memspec.scorecard.compare import INCONCLUSIVE, NOT_COMPARABLE, WORSE, compare, matched

    if options.tolerance < 0:
        raise UsageProblem(f"--tolerance is {options.tolerance}; it must be at least 0")
    old, new = record.load(options.old), record.load(options.new)
    codes = []
    for ours, theirs in matched(new, old):
        if theirs is None:
            print(f"{ours.name} is not in {options.old}: not compared")
            codes.append(INCONCLUSIVE if len(new) > 1 else NOT_COMPARABLE)
            continue
        result = compare(ours, theirs, tolerance=options.tolerance)
        title = ours.name if ours.name == theirs.name else f"{ours.name} against {theirs.name}"
        show(render.comparison(result, title, most=10**6 if options.all else 20))
        codes.append(result.exit_status)
    left = {r.name for r in old} - {r.name for r in new} if len(old) + len(new) > 2 else set()
    for name in sorted(left):
        print(f"{name} is not in {options.new}: not compared")
        codes.append(INCONCLUSIVE)
    return next((code for code in (WORSE, NOT_COMPARABLE, INCONCLUSIVE) if code in codes), 0)


def _report(options: argparse.Namespace, rest: list[str]) -> int:
    from memspec.scorecard import record, render
    from memspec.scorecard.score import rescore

    cards = [rescore(card) for card in record.load(options.card)]
    show(render.terminal(cards))
    if options.md:
        record.write_atomically(options.md, render.markdown(cards))
        print(f"written: {options.md}")
    if options.html:
        from memspec.scorecard.html import page

        record.write_atomically(options.html, page(cards))
        print(f"written: {options.html}")
    return 0


def _list(options: argparse.Namespace, rest: list[str]) -> int:
    from memspec.plug import load_plug

    for name in reference_names():
        plug = load_plug(f"memspec.reference:{name}")
        what, source = described(plug.factory)
        print(f"{plug.name}\n  {what}")
        print(f"  family {plug.spec.family}; {', '.join(sorted(plug.capabilities)) or 'no optional capabilities'}")
        if source:
            print(f"  source: {source}")
    return 0


def _trial(options: argparse.Namespace, rest: list[str]) -> int:
    from memspec.experiments import catalog
    from memspec.experiments.base import arrays
    from memspec.plug import load_plug
    from memspec.scorecard.render import number

    known = catalog.experiments()
    if options.experiment not in known:
        raise UsageProblem(f"there is no experiment {options.experiment!r}; there are {', '.join(sorted(known))}")
    if options.trial < 0:
        raise UsageProblem(f"--trial is {options.trial}; trials count from 0")
    experiment = known[options.experiment]
    setting = parsed_setting(experiment, options.set)
    plug = load_plug(options.plug)
    print(f"{plug.name}: {experiment.describe(setting)} (trial {options.trial}, seed {options.suite_seed})")
    measured = arrays(experiment, experiment.measure(plug, setting, [options.trial], options.suite_seed), 1)
    width = max(map(len, measured))
    for name, (values, at) in measured.items():
        meaning = experiment.metrics[name].description
        if at is None:
            print(f"  {name:<{width}}  {number(values[0]):>9}  {meaning}")
            continue
        print(f"  {name:<{width}}  {'curve':>9}  {meaning}")
        for point, value in zip(at, values[0]):
            print(f"  {'':<{width}}  {number(value):>9}  at {point:g}")
    return 0


def _selfcheck(options: argparse.Namespace, rest: list[str]) -> int:
    from memspec.selfcheck import matrix

    found = matrix(workers=options.workers, only=options.only, named_checks_only=options.quick)
    show(found.lines())
    return 0 if found.sound else 1


# ---- helpers --------------------------------------------------------------------------------------------------


def show(lines: Sequence[tuple[str, str]]) -> None:
    """Print lines, in colour where the terminal has it."""
    from _pytest._io import TerminalWriter

    writer = TerminalWriter()
    for text, style in lines:
        writer.line(text, **dict.fromkeys(style.split(), True))


def reference_names() -> list[str]:
    """Names of the reference memories that are installed."""
    return sorted(importlib.import_module("memspec.reference").__all__)


def described(thing: Any) -> tuple[str, str]:
    """A docstring's first sentence or line, and its ``Source:`` paragraph as one line."""
    paragraphs = [" ".join(p.split()) for p in (inspect.getdoc(thing) or "").split("\n\n")]
    source = next((p.removeprefix("Source:").strip() for p in paragraphs if p.startswith("Source:")), "")
    return paragraphs[0] or "(no description)", source


def parsed_setting(experiment: Experiment, texts: Sequence[str]) -> Setting:
    """The setting that ``--set field=value ...`` describes, each value read as its field's type.

    Raises:
        UsageProblem: for an unknown field, or a value that is not of its type.
    """
    hints = typing.get_type_hints(experiment.setting)
    fields = {f.name: hints[f.name] for f in dataclasses.fields(experiment.setting)}
    chosen = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in fields:
            raise UsageProblem(f"--set {text}: write field=value; {experiment.name} has {', '.join(fields)}")
        try:
            chosen[name] = parsed(value, fields[name])
        except (ValueError, SyntaxError) as error:
            shown = getattr(fields[name], "__name__", str(fields[name]))
            raise UsageProblem(f"--set {text}: {name} is a {shown} ({error})") from None
    return experiment.setting(**chosen)


def parsed(text: str, kind: Any) -> Any:
    """``text`` as a value of an annotated type: bool, int, float, str, Literal, tuple, or a union of these.

    Raises:
        ValueError: if it is none.
    """
    origin, inner = typing.get_origin(kind), typing.get_args(kind)
    if origin in (typing.Union, types.UnionType):
        if types.NoneType in inner and text == "None":
            return None
        for one in inner:
            if one is not types.NoneType:
                try:
                    return parsed(text, one)
                except ValueError:
                    continue
        raise ValueError(f"{text!r} is none of {', '.join(map(str, inner))}")
    if origin is typing.Literal:
        for choice in inner:
            if text == str(choice):
                return choice
        raise ValueError(f"it must be one of {', '.join(map(str, inner))}")
    if kind is bool:
        if text.lower() in ("true", "1", "yes"):
            return True
        if text.lower() in ("false", "0", "no"):
            return False
        raise ValueError("write True or False")
    if kind in (int, float, str):
        return kind(text)
    value = ast.literal_eval(text)
    if origin is tuple or kind is tuple:
        return tuple(value)
    return value


if __name__ == "__main__":
    raise SystemExit(main())
