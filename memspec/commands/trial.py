"""``memspec trial``: one trial of an experiment again, its setting read from text."""

from __future__ import annotations

import argparse
import ast
import types
import typing
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from memspec.commands.base import Commands, command
from memspec.errors import UsageProblem

if TYPE_CHECKING:
    from memspec.experiments.base import Experiment, Setting


def add(commands: Commands) -> None:
    """Enter the command."""
    parser = command(
        commands,
        "trial",
        _trial,
        help="repeat one trial of an experiment",
        description="Repeat one trial, on the stream every memory sees in it, and print what was measured.",
    )
    parser.add_argument("plug", metavar="PLUG")
    parser.add_argument("experiment", metavar="EXPERIMENT", help="such as capacity.load")
    parser.add_argument("--set", action="append", default=[], metavar="FIELD=VALUE", help="a field of the setting")
    parser.add_argument(
        "--nearest", action="store_true", help="take the nearest width that the memory can have, as the suites do"
    )
    parser.add_argument("--trial", type=int, default=0, metavar="T")
    parser.add_argument("--seed", type=int, default=0, metavar="N")


def _trial(options: argparse.Namespace) -> int:
    from memspec.experiments import catalog
    from memspec.experiments.base import named
    from memspec.plugs.loading import load_plug
    from memspec.scorecard.formatting import number

    known = catalog.experiments()
    if options.experiment not in known:
        raise UsageProblem(f"there is no experiment {options.experiment!r}; there are {', '.join(sorted(known))}")
    if options.trial < 0:
        raise UsageProblem(f"--trial is {options.trial}; trials count from 0")
    experiment = known[options.experiment]
    setting = parsed_setting(experiment, options.set)
    plug = load_plug(options.plug)
    if not options.nearest:
        plug = plug.exactly(named(text.partition("=")[0] for text in options.set))
    print(f"{plug.name}: {experiment.describe(setting)} (trial {options.trial}, seed {options.seed})")
    measured = experiment.arrays(plug, setting, [options.trial], options.seed)
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


def parsed_setting(experiment: Experiment, texts: Sequence[str]) -> Setting:
    """The setting that ``--set field=value ...`` describes, each value read as its field's type.

    Raises:
        UsageProblem: for an unknown field, or a value that is not of its type.
    """
    from memspec.experiments.base import types_of

    fields = types_of(experiment.setting)
    chosen = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or name not in fields:
            raise UsageProblem(f"--set {text}: write field=value; {experiment.name} has {', '.join(fields)}")
        try:
            chosen[name] = parsed(value, fields[name])
        except (ValueError, SyntaxError) as error:
            shown = getattr(fields[name], "__name__", str(fields[name]))
            raise UsageProblem(f"--set {text}: {name} takes a value of type {shown} ({error})") from None
    try:
        return experiment.setting(**chosen)
    except ValueError as error:
        raise UsageProblem(f"--set: {error}") from None


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
