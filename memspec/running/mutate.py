"""``memspec selfcheck --mutate``: what share of machine-made mutants of the references the default tier fails.

Of each reference: every change that :mod:`memspec.running.mutation.operators` can make in a line that it runs, in an order
drawn from the seed. Those that cannot store three pairs are put aside, and so are those that a wide random search
(:mod:`memspec.running.mutation.histories`) cannot tell from the original; on the rest the suites run, with the reference's
own spec and with the spec taken away. The rates say how the suites do with defects that nobody chose.
"""

from __future__ import annotations

import functools
import importlib
import os
import random
import tempfile
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from memspec.errors import MemspecError
from memspec.running.executors import processes
from memspec.running.mutation import child
from memspec.running.process import Ended

PACKAGE = "memspec.reference"
CHANGED = ("memories", "ops")
"""Folders of the package whose modules are changed."""
FORMS = ("own", "bare")
"""With the reference's own spec, and with a spec that promises nothing."""
GOALS = {"own": 0.95, "bare": 0.85}
DEFAULT = (
    "DeltaMemory",
    "MatrixAssociativeMemory",
    "CachedMemory",
    "LRUMemory",
    "SoftmaxMemory",
    "NTMMemory",
    "TTTMemory",
    "LeastSquaresMemory",
)
"""One reference of each kind: what is mutated unless others are named."""


@dataclass(frozen=True)
class Tried:
    """One mutant.

    Attributes:
        reference: the plug of the original.
        operator: what kind of change; ``module``, ``line``, ``diff``: where and what.
        outcome: ``stillborn``, ``same`` or ``different``.
        shows: the plainest place where the two differ (:data:`memspec.running.mutation.histories.PLACES`), or ``no end``.
        where: the call that shows it, or the exception.
        killed_by: form -> the first check that failed (or ``time``, ``death``); None where all passed. Only for those
            that are different, in the forms in which that is not free.
        messages: form -> the first line of that failure.
        free: form -> why it is another memory and no worse one: it behaves as the reference does in another of its
            settings whose spec is the same (any setting, where the spec is taken away), or it differs only in what the
            contract leaves free (:data:`memspec.running.mutation.histories.FREE`).
    """

    reference: str
    operator: str
    module: str
    line: int
    diff: str
    outcome: str
    shows: str
    where: str
    killed_by: dict[str, str | None] = field(default_factory=dict)
    messages: dict[str, str] = field(default_factory=dict)
    free: dict[str, str] = field(default_factory=dict)


@dataclass
class Score:
    """What became of all mutants.

    Attributes:
        tried: every mutant, in the order they were drawn.
        command: the command line that repeats it.
        spared: reference and form -> checks that the original fails, which count for nothing.
    """

    tried: list[Tried]
    command: str
    spared: dict[str, list[str]]

    @property
    def counted(self) -> list[Tried]:
        """Those that behave otherwise than the original."""
        return [t for t in self.tried if t.outcome == "different"]

    def survivors(self, form: str) -> list[Tried]:
        """Those that pass the default tier."""
        return [t for t in self.counted if form not in t.free and t.killed_by[form] is None]

    def rate(self, form: str, among: Iterable[Tried] | None = None) -> float:
        """Share of the distinguishable mutants that a check fails, those that are free in this form left out; nan where there is none."""
        every = [t for t in (self.counted if among is None else among) if form not in t.free]
        return sum(t.killed_by[form] is not None for t in every) / len(every) if every else float("nan")

    def to_json(self) -> dict[str, Any]:
        return {
            "command": self.command,
            "rates": {form: self.rate(form) for form in FORMS},
            "spared": self.spared,
            "mutants": [asdict(t) for t in self.tried],
        }

    @staticmethod
    def from_json(told: Mapping[str, Any]) -> Score:
        """What :meth:`to_json` wrote."""
        return Score([Tried(**mutant) for mutant in told["mutants"]], told["command"], told["spared"])

    def markdown(self) -> str:
        """Tables by reference, by operator and by where a difference shows, with the command that made them."""
        lines = [f"Made by `{self.command}`.", ""]
        lines += self._table("reference", lambda t: t.reference.rpartition(":")[2])
        lines += ["", *self._table("operator", lambda t: t.operator)]
        lines += ["", *self._table("the difference shows in", lambda t: t.shows or None)]
        return "\n".join(lines) + "\n"

    def _table(self, head: str, name_of: Callable[[Tried], str | None]) -> list[str]:
        rows: dict[str, list[Tried]] = {}
        for t in self.tried:
            name = name_of(t)
            if name is not None:
                rows.setdefault(name, []).append(t)
        columns = (
            head,
            "drawn",
            "stillborn",
            "no difference found",
            "distinguishable",
            "free",
            "fail",
            "free, spec taken away",
            "fail, spec taken away",
        )
        lines = ["| " + " | ".join(columns) + " |", "|---|" + "---:|" * (len(columns) - 1)]
        for name, mine in [*rows.items(), ("**all**", self.tried)]:
            of = Counter(t.outcome for t in mine)
            different = [t for t in mine if t.outcome == "different"]
            cells: list[object] = [name, len(mine), of["stillborn"], of["same"], of["different"]]
            for form in FORMS:
                free = sum(form in t.free for t in different)
                cells += [free, f"{self.rate(form, different):.0%}" if len(different) > free else "-"]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
        return lines

    def lines(self) -> list[tuple[str, str]]:
        """The tables and the survivors' diffs, for a terminal."""
        out = [(line, "") for line in self.markdown().splitlines()]
        for form, words in (("own", "with its own spec"), ("bare", "with the spec taken away")):
            for t in self.survivors(form):
                out.append(
                    (f"\nsurvives {words}: {t.reference}, {t.operator}; shows in {t.shows} ({t.where})", "yellow")
                )
                out += [(line, "") for line in t.diff.splitlines()]
        for t in self.counted:
            if "own" in t.free:
                out.append((f"\nfree: {t.reference}, {t.operator}: {t.free['own']}", ""))
                out += [(line, "") for line in t.diff.splitlines()]
        for form, goal in GOALS.items():
            met = self.rate(form) >= goal
            out.append((f"{form}: {self.rate(form):.1%} fail; the goal is {goal:.0%}", "green" if met else "red"))
        return out


# ---- making it ------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Original:
    """What is known of a reference before it is mutated.

    Attributes:
        look: file that holds what its histories showed.
        seconds: form -> seconds of each check; ``failed``: form -> checks it fails itself.
        playing: seconds that playing all histories took.
    """

    plug: str
    look: str
    playing: float
    lines: Mapping[str, Sequence[int]]
    seconds: Mapping[str, dict[str, float]]
    failed: Mapping[str, list[str]]

    def limit(self, form: str) -> float:
        """Seconds after which a run of the suites is ended."""
        return 30 + 6 * sum(self.seconds[form].values())


def score(
    plugs: Sequence[str],
    sample: int | None = 25,
    seed: int = 0,
    workers: int = 1,
    full: bool = False,
    told: Callable[[Tried], None] = lambda tried: None,
) -> Score:
    """Mutate the references and count what the default tier fails.

    Args:
        plugs: plugs of reference memories, or their names.
        sample: distinguishable mutants of each; None = all there are.
        seed: draws the sample.
        workers: mutants judged at once.
        full: every check on every mutant, instead of stopping at the first failure.
        told: called with each mutant when it has been judged.

    Raises:
        MemspecError: for a plug that is no reference, or one that is not the same twice.
    """
    every: list[Tried] = []
    spared: dict[str, list[str]] = {}
    with tempfile.TemporaryDirectory() as folder, processes(workers) as pool:
        for number, name in enumerate(plugs):
            original = looked_at(plug_of(name), str(Path(folder, f"{number}.pt")))
            spared |= {f"{original.plug}, {form}": checks for form, checks in original.failed.items() if checks}
            judge = functools.partial(judged, original, stop=not full)
            found = 0
            for group in grouped(drawn(original, seed), workers):
                for tried in pool.map(judge, *zip(*group)):
                    if sample is None or found < sample:
                        every.append(tried)
                        told(tried)
                    found += tried.outcome == "different" and "own" not in tried.free
                if sample is not None and found >= sample:
                    break
    given = [f"--sample {sample}" if sample is not None else "--sample all", f"--seed {seed}", *["--full"] * full]
    return Score(every, " ".join(["memspec selfcheck --mutate", *given, *plugs]), spared)


def survivors_again(old: Score, workers: int = 1, told: Callable[[Tried], None] = lambda tried: None) -> Score:
    """Run the suites again on the survivors of an earlier score, in the form they survived in; the others keep their fate.

    For work on a check: quick, and right as long as no check has been taken away. A mutant whose line is no longer in the
    source is left out.

    Raises:
        MemspecError: as :func:`score` does.
    """
    originals: dict[str, Original] = {}
    alive = [t for t in old.counted if None in t.killed_by.values()]
    every = []
    with processes(workers) as pool:
        for plug in dict.fromkeys(t.reference for t in alive):
            originals[plug] = timed(plug)

        def again(tried: Tried) -> Tried | None:
            if tried not in alive:
                return tried
            found = changed_as(tried)
            if found is None:
                return None
            forms = [form for form in FORMS if form not in tried.free and tried.killed_by[form] is None]
            killed, messages = fates(originals[tried.reference], tried.module, found.source(), forms=forms)
            return replace(tried, killed_by=tried.killed_by | killed, messages=tried.messages | messages)

        for before, tried in zip(old.tried, pool.map(again, old.tried)):
            if tried is not None:
                every.append(tried)
            if before in alive and tried is not None:
                told(tried)
    spared = {f"{plug}, {form}": checks for plug, o in originals.items() for form, checks in o.failed.items() if checks}
    return Score(every, old.command, old.spared | spared)


def changed_as(tried: Tried) -> Any:
    """The change that made a mutant, or None where the source has become another."""
    from memspec.running.mutation.operators import changes

    path = Path(*tried.module.removeprefix(f"{PACKAGE}.").split(".")).with_suffix(".py")
    source = Path(package_folder(), path).read_text(encoding="utf-8")
    same = (c for c in changes(source) if c.operator == tried.operator and body(c.diff(str(path))) == body(tried.diff))
    return next(same, None)


def body(diff: str) -> list[str]:
    """A diff without the numbers of its lines."""
    return [line for line in diff.splitlines() if not line.startswith("@@")]


def package_folder() -> str:
    """Where the references lie."""
    return os.path.dirname(str(importlib.import_module(PACKAGE).__file__))


def plug_of(name: str) -> str:
    """The plug of a reference memory, which may be given by its name, with literal arguments behind it.

    Raises:
        MemspecError: if there is no such reference.
    """
    from memspec.plugs.references import reference_names

    plug = name if ":" in name.partition("(")[0] else f"{PACKAGE}:{name}"
    module, _, memory = plug.partition("(")[0].partition(":")
    if module != PACKAGE or memory not in reference_names():
        raise MemspecError(f"{name} is no reference memory; only those are mutated: {', '.join(reference_names())}")
    return plug


def looked_at(plug: str, path: str) -> Original:
    """Everything that must be known of an original.

    Raises:
        MemspecError: if it is not the same twice, or takes too long.
    """
    folder = package_folder()
    look = child.ask(child.look, {"plug": plug, "folder": folder, "path": path}, 600)
    if isinstance(look, Ended):
        raise MemspecError(f"{plug}: {look.what}")
    lines = {os.path.relpath(name, folder): numbers for name, numbers in look["lines"].items()}
    return replace(timed(plug), look=path, playing=look["seconds"], lines=lines)


def timed(plug: str) -> Original:
    """An original of which only its own run of the suites is known.

    Raises:
        MemspecError: if that takes too long.
    """
    runs = {}
    for form in FORMS:
        runs[form] = child.ask(child.suites, {"plug": plug, "bare": form == "bare", "stop": False}, 900)
        if isinstance(runs[form], Ended):
            raise MemspecError(f"{plug}: {runs[form].what}")
    seconds = {form: run["seconds"] for form, run in runs.items()}
    return Original(plug, "", 0.0, {}, seconds, {form: sorted(run["failed"]) for form, run in runs.items()})


def drawn(original: Original, seed: int) -> Iterator[tuple[str, str, Any]]:
    """Module, path and change: all that can be changed in the lines that an original runs, in the order of the seed."""
    from memspec.running.mutation.operators import changes

    every = []
    for path, lines in sorted(original.lines.items()):
        if Path(path).parts[0] not in CHANGED or Path(path).name == "__init__.py":
            continue
        module = ".".join((PACKAGE, *Path(path).with_suffix("").parts))
        ran = {0, *lines}
        for change in changes(Path(package_folder(), path).read_text(encoding="utf-8")):
            if not ran.isdisjoint(range(change.lines[0], change.lines[1] + 1)):
                every.append((module, path, change))
    random.Random(seed).shuffle(every)
    yield from every


def grouped(things: Iterable[Any], size: int) -> Iterator[list[Any]]:
    """Lists of ``size`` things, the last one maybe shorter."""
    group = []
    for thing in things:
        group.append(thing)
        if len(group) == size:
            yield group
            group = []
    if group:
        yield group


def judged(original: Original, module: str, path: str, change: Any, stop: bool = True) -> Tried:
    """One mutant: told apart from its original, and run through the suites if it is another memory."""
    source = change.source()
    mutant = {"plug": original.plug, "module": module, "source": source}
    limit = 20 + 10 * original.playing
    came = child.ask(child.tell_apart, mutant | {"path": original.look}, limit)
    if isinstance(came, Ended):
        came = {
            "outcome": "different",
            "shows": "no end" if came.why == "time" else "death",
            "where": came.what,
            "free": {},
        }
    forms = [form for form in FORMS if came["outcome"] == "different" and form not in came["free"]]
    killed, messages = fates(original, module, source, stop, forms)
    diff = change.diff(path)
    return Tried(
        original.plug, change.operator, module, change.lines[0], diff, **came, killed_by=killed, messages=messages
    )


def fates(
    original: Original, module: str, source: str, stop: bool = True, forms: Iterable[str] = FORMS
) -> tuple[dict[str, str | None], dict[str, str]]:
    """By form, the first check that fails a mutant (None: all pass), and what it said."""
    killed: dict[str, str | None] = {}
    messages = {}
    for form in forms:
        mutant = {"plug": original.plug, "module": module, "source": source, "bare": form == "bare", "stop": stop}
        known = {"seconds": original.seconds[form], "spared": original.failed[form]}
        run = child.ask(child.suites, mutant | known, original.limit(form))
        if isinstance(run, Ended):
            killed[form], messages[form] = run.why, run.what
        else:
            check, message = next(iter(run["failed"].items()), (None, ""))
            killed[form], messages[form] = check, message.partition("\n")[0]
    return killed, messages
