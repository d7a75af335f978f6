"""One run of the suites: its options, plugs, runners, and the judge that suites call.

Between the pytest plugin (options, hooks) and the parts that know nothing of pytest (experiments, judge, record).
"""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

from memspec.errors import PlugError
from memspec.experiments.base import Experiment, Runner, Setting
from memspec.inference.observed import Observed, read
from memspec.judging.bounds import asks, read_bounds
from memspec.judging.check import CheckRun
from memspec.judging.requirements import Judge
from memspec.plugs.blind import TRIALS, BlindPlug, blind_values
from memspec.plugs.identity import same_factory, whereabouts
from memspec.plugs.loading import as_plug, load_plug
from memspec.plugs.meter import METER
from memspec.plugs.plug import Plug
from memspec.plugs.population import state_bytes
from memspec.plugs.reachable import device_of
from memspec.plugs.sequences import listed
from memspec.running.budget import Budget, pace, pace_of_laws, plan_for
from memspec.running.options import Options
from memspec.running.repeat import trial_command
from memspec.world.boundary import call
from memspec.world.guard import guarded

if TYPE_CHECKING:
    from memspec.inference.infer import Choice


class Session:
    """Plugs and runners of one run, by name.

    Args:
        plugs: memories that are known by their names already; any other name is loaded.
        alpha_run: the false-alarm rate of a whole card, where that was given instead of one per check.
    """

    def __init__(self, options: Options, plugs: Sequence[Plug] = (), alpha_run: float | None = None) -> None:
        self.options, self.alpha_run = options, alpha_run
        self._plugs: dict[str, Plug] = {plug.name: plug for plug in plugs}
        self.called = frozenset(plug.name for plug in plugs)  # what memspec.score was given as an object
        self._loaded: set[str] = set()  # names that load_plug takes
        self._given: list[tuple[Any, Plug]] = [(plug.name, plug) for plug in plugs]  # and what memory fixtures return
        self._runners: dict[str, Runner] = {}
        self._blind: dict[str, Runner] = {}
        self._budgets: dict[str, Budget] = {}
        self._observed: dict[str, Observed] = {}
        self.told: set[str] = set()  # memories whose description has gone to the record
        self.bounds = read_bounds(options.bounds) if options.bounds else {}

    def share_alpha(self, judged: Mapping[str, int]) -> None:
        """Share the false-alarm rate of a whole card among the checks that judge a metric, equally (Bonferroni).

        Counted before any selection, so that a check repeated alone is judged as it was.

        Args:
            judged: such checks by memory; the largest number is used for all.
        """
        if self.alpha_run is not None and judged:
            self.options = replace(self.options, alpha=self.alpha_run / max(judged.values()))

    def load(self, names: Sequence[str]) -> None:
        """Load every plug now, so that a wrong one is one clear error before collection."""
        for name in names:
            self.plug(name)

    def plug(self, memory: Any) -> Plug:
        """The plug for what a ``memory`` fixture returned: the same one for the same factory and arguments.

        Raises:
            PlugError: if it is no factory, or another factory of this name is under test already.
        """
        for known, plug in self._given:
            if known == memory if isinstance(known, str) else same_factory(known, memory):
                return plug
        with guarded():  # what importing and trying it changed in the process is put right
            plug = load_plug(memory) if isinstance(memory, str) else as_plug(memory)
        if self.options.spec is not None:
            plug = plug.declaring(read(self.options.spec))
        other = self._plugs.get(plug.name)
        if other is not None and not isinstance(memory, Plug) and plug.kwargs == other.kwargs:
            plug = other if same_factory(plug.factory, other.factory) else plug
        if other is not None and other is not plug:
            raise PlugError(
                f"two different memories are called {plug.name}, and their results would land on one card:\n"
                f"  {whereabouts(other.factory)}, and {whereabouts(plug.factory)}.\n"
                '  Give each a name of its own: let its memory fixture return memspec.Plug("a name", factory)'
            )
        self._plugs[plug.name] = plug
        self._given.append((memory, plug))
        if isinstance(memory, str):
            self._loaded.add(plug.name)
        return plug

    def loadable(self, name: str) -> bool:
        """Whether the command line can name this memory (a fixture may return what only its test file can)."""
        return name in self._loaded

    @property
    def plugs(self) -> dict[str, Plug]:
        return self._plugs

    def runner(self, plug: Plug) -> Runner:
        """What measures this plug and keeps the numbers."""
        if plug.name not in self._runners:
            self._runners[plug.name] = Runner(plug, self.options.seed, self.budget(plug).plan.trials)
        return self._runners[plug.name]

    def budget(self, plug: Plug) -> Budget:
        """What there is time to ask of this memory; found out by its first calls."""
        if plug.name not in self._budgets:
            plan = plan_for(self.options.budget, pace(plug), pace_of_laws(plug))
            self._budgets[plug.name] = Budget(plan)
            METER.on = METER.on or not plan.full
        return self._budgets[plug.name]

    @property
    def longest(self) -> float:
        """Seconds that a check may take for its memory's calls alone, as far as plans are made."""
        return max((budget.plan.longest for budget in self._budgets.values()), default=0.0)

    def unsent(self, name: str) -> list[dict[str, Any]]:
        """Measurements of this plug not yet handed to the record."""
        return self._runners[name].unsent() if name in self._runners else []

    def news(self, run: CheckRun) -> dict[str, Any]:
        """What a process reports of a check, as JSON: its record, and what was measured or found out since the last."""
        about = None
        if run.memory in self._plugs and run.memory not in self.told:
            self.told.add(run.memory)
            with guarded("being described", run.memory):
                try:
                    about = self.about(run.memory)
                except Exception:  # a memory that can be described no more fails its checks
                    about = {"plug": run.memory}
        return {
            "memory": run.memory,
            "check": run.check.to_json(),
            "blocks": self.unsent(run.memory),
            "about": about,
            "observed": self._observed[run.memory].to_json() if run.memory in self._observed else None,
        }

    def about(self, name: str) -> dict[str, Any]:
        """What the record says of a memory: its package and version, spec, size and place."""
        plug = self._plugs[name]
        shape = plug.shape()
        package, version = package_of(plug.factory)
        memory = plug.build(shape)
        paced = self._budgets.get(name)  # known where a check was asked; here nobody watches what the memory does
        return {
            "plug": name,
            "package": package,
            "version": version,
            "spec": plug.spec.to_json(),
            "capabilities": sorted(plug.capabilities),
            "widths": plug.widths_found(),
            "parameters": plug.parameter_count,
            "shape": None if plug.is_sequence_model else {name: n for name, n in asdict(shape).items() if n},
            "sizes": plug.sizes or None,
            "state_bytes": state_bytes(call(memory, "initial_state", 1) if plug.is_sequence_model else memory),
            "device": str(device_of(memory)),
            "plan": (str(paced.plan) or None) if paced is not None else None,
        }

    def observe(self, plug: Plug, choices: Sequence[Choice]) -> Observed:
        """What the memory is seen to do, found out once a process."""
        from memspec.inference.infer import observe
        from memspec.laws.law import Law
        from memspec.randomness import seeded

        if plug.name not in self._observed:
            with seeded(self.options.seed), warnings.catch_warnings():
                warnings.simplefilter("ignore")  # advice to a memory that does not declare what is tried
                self._observed[plug.name] = observe(
                    plug,
                    choices,
                    lambda other, check: Law(other, "what is tried holds", check, self.options.seed),
                    self.runner(plug),
                    bare=self.options.bare,
                )
        return self._observed[plug.name]

    def judge_for(self, plug: Plug, run: CheckRun) -> Judge:
        """The judge of one check; its verdicts go to ``run``."""
        return Judge(
            run,
            self.runner(plug),
            partial(self._trial_command, plug),
            alpha=self.options.alpha,
            max_trials=min(self.options.max_trials, self.budget(plug).plan.trials or self.options.max_trials),
            strict=self.options.strict,
            required=partial(asks, run.check.id, self.bounds),
            untrained=partial(looks_untrained, self.runner(plug)),
            blind=blind_values(partial(self._blind_runner, plug)),
        )

    def _blind_runner(self, plug: Plug) -> Runner:
        """What measures the blind memory beside this plug, on the same streams."""
        if plug.name not in self._blind:
            self._blind[plug.name] = Runner(BlindPlug.like(plug), self.options.seed, TRIALS)
        return self._blind[plug.name]

    def _trial_command(self, plug: Plug, experiment: Experiment, setting: Setting, trial: int) -> str:
        return trial_command(plug, experiment, setting, trial, self.options.seed) if self.loadable(plug.name) else ""

    def header(self) -> list[str]:
        """Lines for the head of a run: the subjects, their versions, and every option that was read."""
        from memspec import __version__

        o = self.options
        alpha = f"{o.alpha:g}" if self.alpha_run is None else f"{self.alpha_run:g} a run"
        lines = [f"memspec {__version__}: alpha {alpha}, at most {o.max_trials} trials, seed {o.seed}"]
        extras = [
            f"{k}={getattr(o, k)}"
            for k in ("strict", "full", "bounds", "data_root", "download", "examples", "spec", "bare")
            if getattr(o, k)
        ]
        if extras:
            lines.append("memspec options: " + ", ".join(extras))
        for plug in self._plugs.values():
            has = ", ".join(sorted(plug.capabilities)) or "no optional capabilities"
            if plug.is_sequence_model:
                lines.append(f"memory: {plug.name}, a sequence model ({listed(plug.sizes)}), {has}")
                continue
            lines.append(f"memory: {plug.name}, family {plug.spec.family}, {has}")
            if plug.widths_found() != "any":
                lines.append(f"  widths {plug.widths_found()}")
        return lines

    @cached_property
    def signature(self) -> dict[str, Any]:
        """What must agree for two records to be comparable."""
        import torch

        from memspec import __version__

        return {
            "memspec": __version__,
            "seed": self.options.seed,
            "alpha": self.options.alpha if self.alpha_run is None else f"{self.alpha_run:g} a run",
            "max_trials": self.options.max_trials,
            "tier": "full" if self.options.full else "default",
            "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
            "torch": torch.__version__,
            # the prose that facts are hidden in is the manual of the running Python
            "python": ".".join(map(str, sys.version_info[:2])),
        }


def package_of(factory: Any) -> tuple[str | None, str | None]:
    """The installed package (or top-level module) a factory comes from, and its version; None where unknown."""
    from importlib import metadata

    module = str(getattr(factory, "__module__", None) or "").partition(".")[0]
    if module in ("", "__main__") or module.startswith("memspec_plug_"):
        return None, None
    with contextlib.suppress(
        metadata.PackageNotFoundError
    ):  # most packages are named as their module, and this is quick
        return module, metadata.version(module)
    for package in metadata.packages_distributions().get(module, ()):
        return package, metadata.version(package)
    return module, getattr(sys.modules.get(module), "__version__", None)


CHANCE, PAIRS, LOOKED = 0.05, 8, 64
"""Recall above chance below which a memory of so many pairs has learned nothing, seen in so many trials: the mean of a
guess is above it once in a thousand."""


def looks_untrained(runner: Runner) -> bool:
    """Whether a memory has slow weights, and recalls what it has just been given no better than chance."""
    from memspec.experiments.capacity import LOAD, Load

    plug = runner.plug
    if plug.spec.fidelity != "native" or not plug.parameter_count or plug.spec.association == "auto":
        return False
    try:
        recall = runner.values(LOAD, Load(n=PAIRS), "recall_above_chance", LOOKED)
    except Exception:  # what it raises is told by the checks that ask for it
        return False
    return float(recall.mean()) < CHANCE
