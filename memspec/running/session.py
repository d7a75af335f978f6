"""One run of the suites: its options, plugs, runners, and the judge that suites call.

Between the pytest plugin (options, hooks) and the parts that know nothing of pytest (experiments, judge, record).
"""

from __future__ import annotations

import contextlib
import fnmatch
import shlex
import sys
import tomllib
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from memspec.errors import BoundsError, NotAsked
from memspec.experiments.base import Experiment, Runner, Setting
from memspec.judging.verdicts import Bound, Verdict, first_bound
from memspec.judging.verdicts import judge as judge_metric
from memspec.metrics import Metric
from memspec.plugs.loading import as_plug, load_plug
from memspec.plugs.plug import Plug
from memspec.plugs.population import state_bytes
from memspec.plugs.reachable import device_of


@dataclass(frozen=True)
class Options:
    """What the command line says; see ``pytest --help``."""

    alpha: float = 1e-3
    max_trials: int = 256
    seed: int = 0
    strict: bool = False
    full: bool = False
    bounds: Path | None = None
    data_root: Path | None = None
    download: bool = False
    examples: int | None = None


class Session:
    """Plugs and runners of one run, by name."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self._plugs: dict[str, Plug] = {}
        self._runners: dict[str, Runner] = {}
        self.told: set[str] = set()  # memories whose description has gone to the record
        self.bounds = read_bounds(options.bounds) if options.bounds else {}

    def load(self, names: Sequence[str]) -> None:
        """Load every plug now, so that a wrong one is one clear error before collection."""
        for name in names:
            self._plugs[name] = load_plug(name)

    def plug(self, memory: Any) -> Plug:
        """The plug for what a ``memory`` fixture returned."""
        if isinstance(memory, str):
            if memory not in self._plugs:
                self._plugs[memory] = load_plug(memory)
            return self._plugs[memory]
        plug = as_plug(memory)
        return self._plugs.setdefault(plug.name, plug)

    @property
    def plugs(self) -> dict[str, Plug]:
        return self._plugs

    def runner(self, plug: Plug) -> Runner:
        """What measures this plug and keeps the numbers."""
        return self._runners.setdefault(plug.name, Runner(plug, self.options.seed))

    def unsent(self, name: str) -> list[dict[str, Any]]:
        """Measurements of this plug not yet handed to the record."""
        return self._runners[name].unsent() if name in self._runners else []

    def about(self, name: str) -> dict[str, Any]:
        """What the record says of a memory: its package and version, spec, size and place."""
        plug = self._plugs[name]
        shape = plug.shape()
        package, version = package_of(plug.factory)
        memory = plug.build(shape)
        return {
            "plug": name,
            "package": package,
            "version": version,
            "spec": plug.spec.to_json(),
            "capabilities": sorted(plug.capabilities),
            "widths": plug.widths_found(),
            "parameters": plug.parameter_count,
            "shape": asdict(shape),
            "state_bytes": state_bytes(memory),
            "device": str(device_of(memory)),
        }

    def judge(self, plug: Plug, check: dict[str, Any]) -> Judge:
        """The judge of one check; it fills in that check's record."""
        return Judge(self, plug, check)

    def header(self) -> list[str]:
        """Lines for the head of a run: the subjects, their versions, and every option that was read."""
        from memspec import __version__

        o = self.options
        lines = [f"memspec {__version__}: alpha {o.alpha:g}, at most {o.max_trials} trials, seed {o.seed}"]
        extras = [
            f"{k}={getattr(o, k)}"
            for k in ("strict", "full", "bounds", "data_root", "download", "examples")
            if getattr(o, k)
        ]
        if extras:
            lines.append("memspec options: " + ", ".join(extras))
        for plug in self._plugs.values():
            lines.append(
                f"memory: {plug.name}, family {plug.spec.family}, {', '.join(sorted(plug.capabilities)) or 'no optional capabilities'}"
            )
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
            "alpha": self.options.alpha,
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
    if not module or module.startswith("memspec_plug_"):
        return None, None
    with contextlib.suppress(
        metadata.PackageNotFoundError
    ):  # most packages are named as their module, and this is quick
        return module, metadata.version(module)
    for package in metadata.packages_distributions().get(module, ()):
        return package, metadata.version(package)
    return module, getattr(sys.modules.get(module), "__version__", None)


def read_bounds(path: Path) -> dict[str, Bound]:
    """Bounds by check id (or glob) from a TOML file: ``["capacity/recall/n8"]`` with at_least and/or at_most.

    Raises:
        BoundsError: if the file is missing, not TOML, or an entry is not a bound.
    """
    try:
        tables = tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise BoundsError(f"--bounds={path}: there is no such file") from error
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise BoundsError(f"--bounds={path}: not a readable TOML file ({error})") from error
    bounds = {}
    for pattern, table in tables.items():
        known = {"at_least", "at_most", "share"}
        if not isinstance(table, dict) or not table or set(table) - known:
            raise BoundsError(
                f'--bounds={path}: ["{pattern}"] must hold at_least and/or at_most (numbers), '
                f"and nothing but {', '.join(sorted(known))}"
            )
        try:
            bounds[pattern] = Bound(**{k: float(v) for k, v in table.items()}, source=f"bounds file {path.name}")
        except (TypeError, ValueError) as error:
            raise BoundsError(f'--bounds={path}: ["{pattern}"]: {error}') from error
    return bounds


class Judge:
    """What a suite calls to judge one metric; fills in the check's record and fails the test if the bound is broken."""

    def __init__(self, session: Session, plug: Plug, check: dict[str, Any]) -> None:
        self.session, self.plug, self.check = session, plug, check
        self.runner = session.runner(plug)

    def __call__(
        self,
        experiment: Experiment,
        setting: Setting,
        metric: str,
        *bounds: Bound | None,
        at: float | None = None,
        cause: str = "",
        first: int = 16,
        unasked: str = "",
    ) -> Verdict:
        """Judge ``metric`` against the first bound given (spec, theory, floor, in that order); a bounds file comes before all.

        Args:
            at: the point of a curve to judge.
            cause: the likeliest cause of a failure, for the message.
            first: trials to begin with.
            unasked: why nothing is required, where no bound may be given.

        Raises:
            NotAsked: with ``unasked``, if neither a bounds file nor the caller requires anything.
        """
        options = self.session.options
        given = [self.required, *bounds]
        if unasked and not any(given):
            raise NotAsked(unasked)
        return self.record(
            judge_metric(
                lambda n: self.runner.values(experiment, setting, metric, n, at),
                metric if at is None else f"{metric}@{at:g}",
                experiment.metrics[metric],
                first_bound(given),
                alpha=options.alpha,
                max_trials=options.max_trials,
                first=first,
            ),
            experiment.metrics[metric],
            experiment,
            setting,
            cause,
        )

    def record(self, verdict: Verdict, metric: Metric, experiment: Experiment, setting: Setting, cause: str) -> Verdict:
        """Put a verdict into the check's record; fail the test if it is a fail (or inconclusive under --strict).

        Where one check judges several metrics its record shows the worst verdict: a later pass hides nothing.
        """
        if self.check["status"] == "inconclusive" and verdict.status == "pass":
            return verdict
        import pytest

        self.check |= {
            "experiment": experiment.name,
            "setting": setting.label,
            "status": verdict.status,
            "metric": verdict.metric,
            "estimate": verdict.estimate,
            "interval": list(verdict.interval),
            "alpha": verdict.alpha,
            "bound": {
                "at_least": verdict.bound.at_least,
                "at_most": verdict.bound.at_most,
                "source": verdict.bound.source,
                **({"share": verdict.bound.share} if verdict.judged == "share" else {}),
            },
            "trials": verdict.trials,
            "message": "",
        }
        if verdict.status != "pass":
            self.check["message"] = self._message(verdict, metric, experiment, setting, cause)
        if verdict.status == "fail" or (verdict.status == "inconclusive" and self.session.options.strict):
            __tracebackhide__ = True
            pytest.fail(self.check["message"], pytrace=False)
        return verdict

    @property
    def required(self) -> Bound | None:
        """What the bounds file requires of this check, if anything."""
        for pattern, bound in self.session.bounds.items():
            if fnmatch.fnmatchcase(self.check["id"], pattern):
                return bound
        return None

    def _message(self, v: Verdict, metric: Metric, experiment: Experiment, setting: Setting, cause: str) -> str:
        low, high = v.interval
        if v.judged == "share":
            came = (
                f"median {v.metric} {v.estimate:.4g}; share of trials that meet the bound: "
                f"{low:.3f} to {high:.3f} ({v.trials} trials, alpha {v.alpha:g})"
            )
            required = f"{v.metric} {v.bound} in at least {v.bound.share:.0%} of the trials, by {v.bound.source}"
        else:
            came = f"{v.metric} = {v.estimate:.4f}, between {low:.4f} and {high:.4f} ({v.trials} trials, alpha {v.alpha:g})"
            required = f"{v.metric} {v.bound}, by {v.bound.source}"
        sets = "".join(
            f" --set {shlex.quote(f'{name}={getattr(setting, name)}')}"
            for name in type(setting).__dataclass_fields__
            if getattr(setting, name) != type(setting).__dataclass_fields__[name].default
        )
        lines = [
            f"{self.check['id']}: {v.status}",
            f"  done:     {experiment.describe(setting)}",
            f"  measured: {came}",
            f"  meaning:  {v.metric} is the {metric.description}",
            f"  required: {required}",
        ]
        if v.status == "inconclusive":
            lines.append("  why:      the interval still crosses the bound; more trials (--max-trials) would decide")
        elif cause and v.bound is not self.required:  # a user's own bound may be beyond a sound memory
            lines.append(f"  likely:   {cause}")
        repeat = (
            f"memspec trial {shlex.quote(self.plug.name)} {experiment.name}{sets} --trial {v.worst_trial}"
            f" --suite-seed {self.session.options.seed}"
        )
        lines.append(f"  repeat:   {repeat}")
        return "\n".join(lines)
