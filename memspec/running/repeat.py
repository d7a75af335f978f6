"""Commands that repeat what a failure shows: one trial, one check, or one test of a user's own file."""

from __future__ import annotations

import dataclasses
import glob
import os
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memspec.experiments.base import Experiment, Setting
    from memspec.plugs.plug import Plug
    from memspec.running.options import Options


def trial_command(plug: Plug, experiment: Experiment, setting: Setting, trial: int, seed: int) -> str:
    """``memspec trial ...``; empty for an experiment that is not one of memspec's own, which it would not find.

    A memory whose widths are restricted is measured at the nearest that it can have, as it was.
    """
    from memspec.experiments import catalog
    from memspec.experiments.base import named

    if catalog.experiments().get(experiment.name) is not experiment:
        return ""
    sets = [
        f"--set {shlex.quote(f'{field.name}={getattr(setting, field.name)}')}"
        for field in dataclasses.fields(setting)
        if getattr(setting, field.name) != field.default
    ]
    if named(text.removeprefix("--set ").partition("=")[0] for text in sets) and plug.widths_found() != "any":
        sets.append("--nearest")
    return " ".join(
        [f"memspec trial {shlex.quote(plug.name)} {experiment.name}", *sets, f"--trial {trial} --seed {seed}"]
    )


def check_command(plug: str, check: str, options: Options) -> str:
    """``memspec score PLUG --checks ID`` with the options that differ from their defaults."""
    return " ".join(
        [f"memspec score {shlex.quote(plug)} --checks {shlex.quote(glob.escape(check))}", *given(options, "--")]
    )


def check_call(plug: str, check: str, options: Options) -> str:
    """A call of ``memspec.score``, for a memory that it was given as an object; named as its class or function is."""
    name = plug.rpartition("(")[0] or plug
    settings = {field.name: getattr(options, field.name) for field in dataclasses.fields(options)}
    default = type(options)()
    given = [
        f"{name}={value!r}"
        for name, value in settings.items()
        if name in ("seed", "alpha", "max_trials", "full") and value != getattr(default, name)
    ]
    arguments = ", ".join([name.rpartition(":")[2].rpartition(".")[2], f"checks=[{glob.escape(check)!r}]", *given])
    return f"import memspec\nprint(memspec.score({arguments}))"


def test_command(path: Path, nodeid: str, plug: str | None, options: Options, named_by: str) -> str:
    """``pytest FILE::TEST``, for a check of the user's own file; ``plug`` where the option ``named_by`` gave it."""
    file = os.path.relpath(path)
    test = nodeid.partition("::")[2]
    memory = [f"{named_by}={shlex.quote(plug)}"] if plug else []
    return " ".join([f"pytest {shlex.quote(f'{file}::{test}')}", *memory, *given(options, "--memspec-")])


def given(options: Options, prefix: str) -> list[str]:
    """The command-line options that make these options, where they are not the defaults.

    Args:
        prefix: ``--memspec-`` for pytest, ``--`` for ``memspec score``.
    """
    out = []
    for field in dataclasses.fields(options):
        value: Any = getattr(options, field.name)
        if value == field.default or field.name == "strict":  # strictness changes no result, only the exit code
            continue
        option = prefix + field.name.replace("_", "-")
        out.append(option if value is True else f"{option} {shlex.quote(str(value))}")
    return out
