"""The suites against memories broken on purpose: what every check catches, and what it must spare.

:func:`matrix` runs the suites on every mutant (``memspec.fixtures.mutants``), its good twin, and every reference, and
says what does not hold: a mutant that survives, a message that names another cause, a check that
catches nothing, a good memory that fails. Loaded with ``-p memspec.running.selfcheck`` this module is also the small pytest
plugin that lets each memory run its own selection of checks.
"""

from __future__ import annotations

import difflib
import fnmatch
import importlib
import json
import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from memspec.errors import MemspecError
from memspec.running.counting import Counting
from memspec.running.executors import processes, results, worker_count
from memspec.running.run import PLAN, is_check

if TYPE_CHECKING:
    from memspec.failure import Failure
    from memspec.scorecard.record import Record

EXPECTED_TO_FAIL = frozenset({"memspec.reference:NullMemory"})
"""The score-0 anchor: it answers zeros, so it must fail the liveness laws."""

PARTS = 2
"""Runs of pytest for each worker: few, because starting one takes seconds."""


# ---- the pytest plugin ----------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("memspec").addoption(
        "--memspec-selfcheck-plan", type=Path, help="JSON: the checks (globs) of each plug"
    )


def pytest_configure(config: pytest.Config) -> None:
    path = config.getoption("--memspec-selfcheck-plan")
    if path is not None:
        config.stash[PLAN] = json.loads(path.read_text(encoding="utf-8"))


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    from memspec.running.checks import identify

    kept: list[pytest.Item] = []
    left: list[pytest.Item] = []
    for item in items:
        name = str(getattr(getattr(item, "callspec", None), "params", {}).get("_memspec_plug_name"))
        wanted = is_check(item) and any(
            fnmatch.fnmatchcase(identify(item).id, glob) for glob in config.stash[PLAN].get(name, [])
        )
        (kept if wanted else left).append(item)
    config.hook.pytest_deselected(items=left)
    items[:] = kept


# ---- the matrix -----------------------------------------------------------------------------------------------


@dataclass
class Matrix:
    """Mutants x checks.

    Attributes:
        mutants: name -> its entry in the registry.
        references: plugs of the good memories that ran every check.
        cards: what each plug's run recorded.
        complete: every mutant ran every check (else only those it names).
    """

    mutants: Mapping[str, Any]
    references: Sequence[str]
    cards: Mapping[str, Record]
    complete: bool = True
    problems: list[str] = field(default_factory=list)

    @property
    def sound(self) -> bool:
        return not self.problems

    def failed(self, plug: str) -> dict[str, str]:
        """Failed checks of one memory, with their messages."""
        return {check: str(failure) for check, failure in self.failures(plug).items()}

    def failures(self, plug: str) -> dict[str, Failure]:
        """Failed checks of one memory, with their parts."""
        return {c.id: c.failure for c in self.cards[plug].checks if c.status == "fail" and c.failure is not None}

    @cached_property
    def checks(self) -> list[str]:
        """Every check that any memory was asked or spared, without parameters: ``axis/name``."""
        ids = {c.id for card in self.cards.values() for c in card.checks}
        slow = {i for card in self.cards.values() for i, why in card.not_asked.items() if "--memspec-full" in why}
        ids |= {i for card in self.cards.values() for i in card.not_asked} - slow
        return sorted({"/".join(i.split("/")[:2]) for i in ids})

    @cached_property
    def kills(self) -> dict[str, list[str]]:
        """Check (without parameters) -> the mutants it fails."""
        out: dict[str, list[str]] = {check: [] for check in self.checks}
        for name, mutant in self.mutants.items():
            for check in {"/".join(i.split("/")[:2]) for i in self.failed(mutant.plug)}:
                out[check].append(name)
        return out

    def survivors(self) -> Iterator[str]:
        """Mutants that a check named in ``killed_by`` does not fail, or fails with another message."""
        for name, mutant in self.mutants.items():
            failed = self.failed(mutant.plug)
            statuses = {c.id: str(c.status) for c in self.cards[mutant.plug].checks}
            for number, glob in enumerate(mutant.killed_by):
                hits = [message for i, message in failed.items() if fnmatch.fnmatchcase(i, glob)]
                if not hits:
                    came = {s for i, s in statuses.items() if fnmatch.fnmatchcase(i, glob)} or {
                        "no such check, or not asked"
                    }
                    yield f"{name} ({mutant.defect}) survives {glob}: {', '.join(sorted(came))}"
                elif number == 0 and not any(re.search(mutant.message, m) for m in hits):
                    yield f"{name}: the message of {glob} does not match {mutant.message!r}:\n{hits[0]}"

    def false_alarms(self) -> Iterator[str]:
        """Good memories (references and twins) that fail a check."""
        twins = {mutant.twin for mutant in self.mutants.values()}
        for plug in sorted({*self.references, *twins} - EXPECTED_TO_FAIL):
            for check, message in self.failed(plug).items():
                yield f"{plug} fails {check}:\n{message}"
            if self.cards[plug].verdict == "error":
                yield f"{plug}: nothing was measured"

    def idle(self) -> list[str]:
        """Checks that fail no mutant."""
        return [check for check, names in self.kills.items() if not names]

    def lines(self) -> list[tuple[str, str]]:
        """The matrix as text: a row a mutant, a column an axis, then totals and problems."""
        axes = sorted({check.split("/")[0] for check in self.checks})
        width = max(map(len, [*self.mutants, "mutant"])) + 2
        lines = [
            ("".join([f"{'mutant':<{width}}", *(f"{a[:12]:>14}" for a in axes)]) + "   (checks that fail it)", "bold")
        ]
        for name, mutant in sorted(self.mutants.items()):
            by_axis = [i.split("/")[0] for i in self.failed(mutant.plug)]
            cells = [by_axis.count(axis) for axis in axes]
            lines.append((f"{name:<{width}}" + "".join(f"{n or '.':>14}" for n in cells), "" if any(cells) else "red"))
        for plug in self.references:
            counts = self.cards[plug].counts
            text = f"{plug}: {counts['pass']} pass, {counts['fail']} fail, {counts['inconclusive']} inconclusive, {counts['skip']} skipped"
            expected = plug in EXPECTED_TO_FAIL
            lines.append(
                (
                    text + (" (the anchor that must fail)" if expected else ""),
                    "red" if counts["fail"] and not expected else "",
                )
            )
        caught = sum(bool(self.failed(m.plug)) for m in self.mutants.values())
        lines.append((f"{caught} of {len(self.mutants)} mutants are failed by a check", "bold"))
        lines.append((f"{len(self.checks) - len(self.idle())} of {len(self.checks)} checks fail a mutant", "bold"))
        good = [p for p in self.references if p not in EXPECTED_TO_FAIL]
        spared = sum(not self.failed(p) for p in good)
        lines.append((f"{spared} of {len(good)} references pass all they are asked", "bold"))
        lines += [(problem, "red") for problem in self.problems]
        return lines


def matrix(
    workers: str | int = "auto",
    only: Sequence[str] | None = None,
    named_checks_only: bool = False,
    references: Sequence[str] | None = None,
    arguments: Sequence[str] = (),
    quiet: bool = False,
) -> Matrix:
    """Run the suites on mutants, twins and references, and collect what does not hold.

    Args:
        workers: runs of pytest at once, or ``auto``: one a core.
        only: names of mutants; None = all of them.
        named_checks_only: run on each mutant (and its twin) only the checks its ``killed_by`` names.
        references: plugs that run every check; None = all references, or none if ``only`` is given.
        arguments: further pytest options.
        quiet: show no progress.

    Raises:
        MemspecError: if a name in ``only`` is unknown, or the run breaks down.
    """
    from memspec.plugs.references import reference_plugs

    mutants = importlib.import_module("memspec.fixtures.mutants").all_mutants()
    everything = only is None
    only = list(mutants) if only is None else only
    unknown = [name for name in only if name not in mutants]
    if unknown:
        near = sorted({name for wrong in unknown for name in difflib.get_close_matches(wrong, mutants)})
        listed = f"near it: {', '.join(near)}" if near else f"there are {len(mutants)}, such as {min(mutants)}"
        raise MemspecError(f"there is no mutant named {', '.join(unknown)}; {listed}")
    mutants = {name: m for name, m in mutants.items() if name in only}
    if references is None:
        references = reference_plugs() if everything else []
    plan: dict[str, list[str]] = {}
    for mutant in mutants.values():
        globs = list(mutant.killed_by) if named_checks_only else ["*"]
        plan.setdefault(mutant.plug, []).extend(globs)
        plan.setdefault(mutant.twin, []).extend(mutant.killed_by)
    plan |= {plug: ["*"] for plug in references}
    found = Matrix(mutants, references, run_plan(plan, workers, arguments, quiet), complete=not named_checks_only)
    found.problems += [*found.survivors(), *found.false_alarms()]
    if everything:
        found.problems += [f"{check} fails no mutant" for check in found.idle()]
    return found


def run_plan(
    plan: Mapping[str, Sequence[str]], workers: str | int, arguments: Sequence[str] = (), quiet: bool = False
) -> dict[str, Record]:
    """Run on each plug the checks that its globs choose; the cards, by plug; progress is shown unless ``quiet``.

    The plugs are dealt out to runs of pytest of their own, a few for each worker, so that all workers end together.

    Raises:
        MemspecError: if a run breaks down.
    """
    count = worker_count(workers)
    parts = dealt(plan, 1 if count == 1 else min(len(plan), PARTS * count))
    jobs = [Part(part, tuple(arguments), shown=len(parts) == 1 and not quiet) for part in parts]
    cards: dict[str, Record] = {}
    counting = Counting(len(plan), "memories")
    with processes(count) as executor:
        for _, ended in results(executor, run_part, jobs, window=count):
            cards |= ended
            if len(jobs) > 1 and not quiet:
                counting.show(len(cards))
    counting.close()
    return {plug: cards[plug] for plug in plan if plug in cards}


@dataclass(frozen=True)
class Part:
    """A job: some of a plan's plugs, with the checks of each; ``shown``: it shows its own progress."""

    plan: Mapping[str, Sequence[str]]
    arguments: tuple[str, ...] = ()
    shown: bool = False


def dealt(plan: Mapping[str, Sequence[str]], hands: int) -> list[dict[str, Sequence[str]]]:
    """The plan in so many parts; plugs that run every check, which take longest, are dealt first."""
    longest_first = sorted(plan, key=lambda plug: "*" not in plan[plug])
    return [{plug: plan[plug] for plug in longest_first[hand::hands]} for hand in range(hands)]


def run_part(part: Part) -> dict[str, Record]:
    """The cards of some plugs, by plug, from a pytest of their own.

    Raises:
        MemspecError: if the run breaks down.
    """
    from memspec.scorecard.record import load

    with tempfile.TemporaryDirectory() as folder:
        card, chosen = Path(folder, "card.json"), Path(folder, "plan.json")
        chosen.write_text(json.dumps(part.plan), encoding="utf-8")
        command = [
            sys.executable,
            "-m",
            "pytest",
            "--pyargs",
            "memspec.suites",
            "-p",
            "memspec.plugin",
            "-p",
            "memspec.running.selfcheck",
            *(["-p", "memspec.running.bar"] if part.shown else []),
            "-q",
            "--tb=no",
        ]
        command += [
            "-rN",
            "-p",
            "no:cacheprovider",
            "--import-mode=importlib",
            f"-c{os.devnull}",
            f"--rootdir={folder}",
        ]
        command += [
            f"--memspec-selfcheck-plan={chosen}",
            f"--memspec-scorecard={card}",
            *(f"--memspec-memory={plug}" for plug in part.plan),
        ]
        # The caller's own pytest options and whatever other plugins are installed must not change what is run.
        own = {name: text for name, text in os.environ.items() if name not in ("PYTEST_ADDOPTS", "PYTEST_PLUGINS")}
        own["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"
        done = subprocess.run([*command, *part.arguments], env=own, stdout=subprocess.PIPE, text=True, check=False)
        if not card.exists():
            raise MemspecError(f"the run broke down ({done.returncode}):\n{done.stdout[-3000:]}")
        return {record.name: record for record in load(card)}
