"""``memspec run``: one experiment of the sources, by its name, on a memory or a sequence model; progress, plots and a card."""

from __future__ import annotations

import argparse
from pathlib import Path

from memspec.commands import score
from memspec.commands.base import Commands, command

EXPERIMENTS: dict[str, tuple[str, ...]] = {
    **{name: (f"tasks/*/{name}",) for name in ("copy", "repeat-copy", "associative", "sort", "mqar")},
    "continual": ("continual/*",),
    "logical": ("reasoning/*/rules-*", "reasoning/*/entailment", "reasoning/*/chaining"),
    "temporal": ("reasoning/*/events-*", "reasoning/*/completion"),
    "knowledge": ("reasoning/*/family-*", "reasoning/graph/*"),
}
"""What each asks: checks (globs), whole trainings among them."""
ALL = "all"


def add(commands: Commands) -> None:
    """Enter the command."""
    run = command(
        commands,
        "run",
        _run,
        help="one experiment by name: copy, associative, continual, logical, ...",
        description="Run one experiment, its trainings included, on memories or sequence models: what the memory alone does, "
        "a few steps of learning, and whole trainings from three seeds beside an LSTM and a guess. Writes a card and a page "
        "with plots.",
    )
    run.add_argument("experiment", choices=[*EXPERIMENTS, ALL])
    run.add_argument("plugs", nargs="+", metavar="PLUG", help="module:attribute or file.py:attribute")
    run.add_argument("--quick", action="store_true", help="leave out whatever trains for minutes")
    run.add_argument("--scorecard", type=Path, metavar="PATH.json", help="the card (default EXPERIMENT.json)")
    run.add_argument("--data-root", type=Path, metavar="DIR", help="where knowledge graphs and CIFAR-10 lie")
    run.add_argument("-q", action="count", default=0, help="say less")


def _run(options: argparse.Namespace) -> int:
    names = EXPERIMENTS if options.experiment == ALL else {options.experiment: EXPERIMENTS[options.experiment]}
    checks = [f"--checks={glob}" for globs in names.values() for glob in globs]
    given = [
        *options.plugs,
        *checks,
        f"--scorecard={options.scorecard or f'{options.experiment}.json'}",
        "--html",
        *([] if options.quick else ["--full"]),
        *([f"--data-root={options.data_root}"] if options.data_root else []),
        *["-q"] * options.q,
    ]
    scored = score.arguments(given)
    return int(scored.run(scored))
