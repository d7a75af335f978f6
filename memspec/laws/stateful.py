"""Any sequence of calls: random histories of a memory, beside a model of what its spec promises, or beside itself.

Hypothesis draws what happens (:mod:`memspec.laws.histories`), and shrinks what goes wrong. After every act the answers
to all keys of a pool are compared with what they must be: with a plain model where the spec fixes them
(:mod:`memspec.laws.models`); else with the memory's own functional form, and at every end of a life with further
instances that were told the same in other ways (:mod:`memspec.laws.beside`).
"""

from __future__ import annotations

import contextlib
import copy
import math
import pickle
import time
from collections import Counter
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import hypothesis
import numpy as np
import torch
from hypothesis import HealthCheck, Phase, settings
from torch import Tensor

from memspec.errors import LawBroken, MemspecError
from memspec.fixtures.data.crowded import apart, crowded, spread
from memspec.laws.beside import Beside, Done
from memspec.laws.case import Case, Size
from memspec.laws.compare import FLOAT
from memspec.laws.driven import Driven
from memspec.laws.histories import ACTS, SETTINGS, SHIFTS, Act, Kind, Setting, histories
from memspec.laws.law import Law
from memspec.laws.models import Model, Sizes, Worlds, Wrong, free_in, model_of, takes_rows_in_order
from memspec.laws.models.store import Store
from memspec.laws.models.superposed import LARGEST, Lone
from memspec.plugs.meter import Pace
from memspec.protocol import spec_of
from memspec.randomness import unshared
from memspec.world.boundary import call, cross

EXAMPLES = 7
"""Histories of every setting by default; ``--memspec-examples N`` draws N longer ones in all, anew each time."""
LONG = 30
"""Acts of those."""
PLAYING = 5.0
"""Seconds for which histories are played by default, as planned from the memory's pace."""
SHRINKING = 10.0
"""Seconds for which a history that breaks the law is shrunk."""


@dataclass
class Told:
    """What of a memory's spec and methods decides how it is driven.

    Attributes:
        law: whose memory it is.
    """

    law: Law

    @cached_property
    def kinds(self) -> list[Kind]:
        """What can be done to it, besides writing."""
        has = self.law.plug.capabilities
        kinds: list[Kind] = ["query", "reset", "other", *(kind for kind, name in CAPABLE.items() if name in has)]
        fresh = self.law.plug.build(self.law.plug.shape(6, 5, 16))
        with contextlib.suppress(Exception):  # persistence/copies gives that advice, and for pickle too
            cross("deepcopy", lambda: copy.deepcopy(fresh))
            kinds.append("copy")
        with contextlib.suppress(Exception):
            cross("pickle", lambda: pickle.loads(pickle.dumps(fresh)))
            kinds.append("pickle")
        if "Persistent" in has or "copy" in kinds:
            kinds += ["save", "restore", "reload"]
        return kinds

    @cached_property
    def most(self) -> int:
        """Rows of one call, which may be written one by one: fewer where a call takes long."""
        if self.law.pace is None:
            return MOST
        return 1 << max(3, min(10, int(math.log2(LONGEST_CALL / self.law.pace.call))))

    @cached_property
    def bounded(self) -> bool:
        """Whether its capacity is known at all; else it is not to be full ever."""
        plug = self.law.plug
        own = getattr(plug.probe, "capacity", None)
        return "capacity" in plug.accepts or plug.spec.capacity is not None or isinstance(own, int)

    def model(self, case: Case, setting: Setting, memory: Driven) -> Model | None:
        """The model for one history; None where there is none, or it does as no model of this setting does."""
        if "consolidate" in self.kinds or ("forget" in self.kinds and not self.law.spec.exact):
            return None
        if setting.crowd in self.unlike:
            return None
        capacity = case.shape.capacity if self.bounded else math.inf
        sizes = Sizes(case.shape.key_dim, case.shape.value_dim, capacity, torch.finfo(case.size.dtype).eps)
        return model_of(spec_of(memory.memory), sizes, lone_of(case) if setting.capacity <= LARGEST else None)

    @cached_property
    def unlike(self) -> frozenset[str]:
        """Of what its family leaves free, that which this memory does as no model does; found by three writes."""
        self.__dict__["unlike"] = frozenset()  # while it is being found out
        return frozenset(what for what in free_in(self.law.spec) if not self._follows(what))

    def _follows(self, what: str) -> bool:
        setting = Setting(6, 5, 7, "lengths" if what == "lengths" else "plain")
        acts = [Act("rows", 0, 3), Act("rows", 0, 1 if what == "repeats" else 3, shift=1)]
        try:
            History(self, setting).play(acts[: 2 if what == "repeats" else 1])
        except LawBroken:
            return False
        return True


CAPABLE: dict[Kind, str] = {"touch": "Touching", "forget": "Forgetting", "consolidate": "Consolidating"}
STATISTICS = {
    "Confident": ("confidence",),
    "Addressable": ("read_weights", "slot_values"),
    "Slotted": ("slot_usage",),
}


class History:
    """One memory, what it must answer, and what has been done to it so far."""

    def __init__(self, told: Told, setting: Setting) -> None:
        law, self.told, self.setting = told.law, told, setting
        wished = setting.key_dim, setting.value_dim, setting.capacity
        shape = law.plug.shape(*wished)
        self.setting = replace(setting, capacity=min(shape.capacity, LONGEST_CAPACITY))
        self.case = Case(law, Size(self.setting.pool * SHIFTS, *wished))
        self.keys, self.values = self._data()
        self.spec, self.auto = law.spec, law.spec.association == "auto"
        self.memory = self.case.build()
        self.model = told.model(self.case, setting, self.memory)
        self.start = copy.deepcopy(self.model)
        self.times = law.spec.presentations if law.spec.exact else 1
        self.beside = None if self.model else Beside(self.case, self.keys)
        self.other: Driven | None = None
        self.saved: tuple[Any, Model | None, list[Done], int] | None = None
        self.life: list[Done] = []
        self.seed, self.anew, self.turn = 0, False, 0
        self.steps: list[str] = []

    def _data(self) -> tuple[Tensor, Tensor]:
        """``keys [P, Dk]``, all different, and ``values [3 P, Dv]``, as the setting wants them."""
        case, setting, spec = self.case, self.setting, self.case.spec
        case.let("keys", f"keys[:{setting.pool}].clone()")
        crowds = {"real": ("near", "common", "lengths"), "unit": ("near", "common")}.get(spec.key_domain, ())
        if setting.crowd in crowds:
            case.let("keys", "{}(keys, {})", crowded, setting.crowd)
        keep = apart(case.script.names["keys"])
        keys = case.let("keys", f"keys[{keep}].clone()") if len(keep) < setting.pool else case.script.names["keys"]
        moved = spec.value_domain == "real" and spec.association != "auto"
        if moved:
            case.let("values", "{}(values) * {} + {}", spread, setting.scale, setting.offset)
        values = case.script.names["values"]
        for name, tensor in (("keys", keys), ("values", values)):
            case.script.hold(name, tensor)
        case.values, case.n = values, len(keys)
        return keys, values

    # ---- acts -------------------------------------------------------------------------------------------------

    def play(self, acts: list[Act]) -> None:
        """Do these things one after another; whatever does not apply is left out.

        Raises:
            LawBroken: with what was done, as a program.
        """
        self.agree()
        for act in acts:
            if getattr(self, f"_{act.kind}")(act):
                said = f"({act.count})" if act.kind in ("update", "rows", "touch", "forget") else ""
                self.steps.append(f"{act.kind}{said}")
                self.agree()
        self.end()
        self.statistics()

    def _nothing(self, act: Act) -> bool:
        return False

    def _update(self, act: Act) -> bool:
        rows = self._fitting(act.rows(len(self.keys)))
        keys, values = self.keys[rows], self._values(rows, act.shift)
        if self.model is not None and len(rows) > 1 and not takes_rows_in_order(self.spec):
            return self._rows(act)
        self._write(keys, values, "update")
        return True

    def _rows(self, act: Act) -> bool:
        rows = self._fitting(act.rows(len(self.keys)))
        self._write(self.keys[rows], self._values(rows, act.shift), "rows")
        return bool(rows)

    def _fitting(self, rows: list[int]) -> list[int]:
        """Those of the rows that the model speaks of: no key twice in a life where blends are the memory's own."""
        if self.model is None or "repeats" not in self.told.unlike:
            return rows
        seen = {key.tobytes() for done in self.life for key in done.keys.numpy()}
        return [row for row in dict.fromkeys(rows) if self.keys[row].numpy().tobytes() not in seen]

    def _values(self, rows: list[int], shift: int) -> Tensor:
        if self.auto:
            return self.keys[rows].clone()
        count, met = len(self.values) // SHIFTS, Counter[int]()
        picked = []
        for row in rows:  # a key that comes again in a call has another value there
            picked.append(row % count + count * ((shift + met[row]) % SHIFTS))
            met[row] += 1
        return self.values[picked]

    def _write(self, keys: Tensor, values: Tensor, how: str) -> None:
        self._seeded()
        for _ in range(self.times if how == "rows" else 1):
            if how == "rows":
                self.memory.update_rows(keys, values)
            else:
                self.memory.update(keys, values, self.times)
        if self.model is not None:
            for _ in range(self.times):
                self.model.write(_floats(keys), _floats(values))
        self.life.append(Done(how, self.turn, keys, values))

    def _seeded(self) -> None:
        """Start the global generators anew for a memory that may draw from them; its companions do so too."""
        self.turn += 1
        if not self.spec.deterministic:
            self.case.seed(self.turn)

    def _query(self, act: Act) -> bool:
        asked = torch.cat((self.keys[act.rows(len(self.keys))], self.case.others))
        self.case.do("for k in {}.split(1): {}.query(k)", asked, self.memory)
        return True

    def _held(self, act: Act) -> Tensor:
        """Keys that may be in the memory; those not used for longest first, where a model knows."""
        if isinstance(self.model, Worlds) and isinstance(self.model.worlds[0], Store):
            line = self.keys[self.model.worlds[0].order(_floats(self.keys))]
        else:
            written = [done.keys for done in self.life if done.how in ("update", "rows")]
            line = torch.cat([self.keys[:0], *written])[-self.setting.capacity :].unique(dim=0)
        first = act.start % 4 % max(len(line), 1)  # those next in line, most often: what comes then tells most
        return line[first : first + act.count]

    def _touch(self, act: Act) -> bool:
        # In the order of their last use: whether touching several counts as one use or as many is left open.
        keys = self._held(act)
        if not len(keys):
            return False
        self._seeded()
        self.memory.call("touch", keys)
        if self.model is not None:
            self.model.touch(_floats(keys))
        self.life.append(Done("touch", self.turn, keys, keys))
        return True

    def _forget(self, act: Act) -> bool:
        keys = self._held(act)
        if not len(keys):
            return False
        self._seeded()
        self.memory.call("forget", keys)
        if self.model is not None:
            self.model.forget(_floats(keys))
        self.life.append(Done("forget", self.turn, keys, keys))
        return True

    def _consolidate(self, act: Act) -> bool:
        self._seeded()
        self.memory.call("consolidate")
        self.life.append(Done("consolidate", self.turn, self.keys[:0], self.values[:0]))
        return True

    # ---- lives ------------------------------------------------------------------------------------------------

    def _reset(self, act: Act) -> bool:
        if not self.life:
            return False
        self.end()
        self.memory.reset()
        self.model = copy.deepcopy(self.start)
        if self.anew and self.beside is not None:
            # The start that was saved with the rest, or that of its own construction: both are a state it began in.
            fresh = self.memory.query(self.keys)
            own = [torch.equal(fresh, self.case.build(seed=seed).query(self.keys)) for seed in (0, 1)]
            self.seed = int(own[1] and not own[0])
        self.life = []
        return True

    def _save(self, act: Act) -> bool:
        if "Persistent" in self.case.plug.capabilities:
            kept = self.case.new("saved", "{}.deepcopy({}.state_dict())", copy, self.memory)
        else:
            kept = self.case.new("saved", "{}.deepcopy({})", copy, self.memory)
        self.saved = kept, copy.deepcopy(self.model), list(self.life), self.seed
        return True

    def _restore(self, act: Act) -> bool:
        if self.saved is None:
            return False
        self.end()
        kept, model, life, self.seed = self.saved
        if "Persistent" in self.case.plug.capabilities:
            self.memory, self.anew = self.case.build(seed=1), True
            self.case.do("{}.load_state_dict({})", self.memory, kept)
        else:
            self.memory = self.case.drive("{}.deepcopy({})", copy, kept)
        self.model, self.life = copy.deepcopy(model), list(life)
        return True

    def _reload(self, act: Act) -> bool:
        kept = self.saved
        done = self._save(act) and self._restore(act)
        self.saved = kept
        return done

    def _copy(self, act: Act) -> bool:
        original, self.memory = self.memory, self.case.drive("{}.deepcopy({})", copy, self.memory)
        original.update(self.case.others[:1], self.case.spare[:1])
        return True

    def _pickle(self, act: Act) -> bool:
        template = "{0}.loads({0}.dumps({1}))"
        original, self.memory = self.memory, self.case.drive(template, pickle, self.memory)
        original.update(self.case.others[:1], self.case.spare[:1])
        return True

    def _other(self, act: Act) -> bool:
        if self.other is None:
            self.other = self.case.build()
        self._seeded()
        rows = act.rows(len(self.keys))
        self.other.update(self.keys[rows], self._values(rows, SHIFTS - 1))
        return True

    # ---- judging ----------------------------------------------------------------------------------------------

    @property
    def said(self) -> str:
        """What has been done, in words."""
        return "; ".join(self.steps) or "construction"

    @property
    def cause(self) -> str:
        return f"the last of these steps does more or less than it says: {self.said}"

    def agree(self) -> None:
        """The memory answers as its model, or its functional form, does."""
        if self.model is not None:
            answers = self.memory.query(self.keys)
            wrong = self.model.refute(_floats(self.keys), _floats(answers))
            if wrong is not None:
                self._contradict(answers, wrong)
        elif self.beside is not None:
            self.beside.every_step(self.memory, self.life, self.cause)

    def end(self) -> None:
        """A life is over: what it came to is compared with the same life, led in other ways."""
        if self.beside is not None and self.life:
            self.beside.at_the_end(self.memory, self.life, self.seed, self.cause)

    def statistics(self) -> None:
        """What it tells of itself is within its ranges, however full it is."""
        case, has = self.case, self.case.plug.capabilities
        if not has & STATISTICS.keys():
            return
        asked = torch.cat((self.keys[-ASKED:], case.others))
        told = {
            name: self.memory.call(name, *((asked,) if name in ("confidence", "read_weights") else ()))
            for capability, names in STATISTICS.items()
            if capability in has
            for name in names
        }
        for name, limit in (("confidence", "({0} <= 1).all()"), ("read_weights", f"({{0}}.sum(-1) <= {1 + FLOAT}).all()"),
                            ("slot_usage", "{0}.isfinite().all()")):  # fmt: skip
            if name in told and told[name].numel():
                case.check(
                    f"({{0}} >= 0).all() and {limit}",
                    told[name],
                    got=f"{name} goes from {told[name].min().item():.4g} to {told[name].max().item():.4g}",
                    expected=f"{name} within its range, after {self.said}",
                    cause="an age, a sentinel or a count that goes wrong once the memory is full or has wrapped",
                )
        if "read_weights" in told:
            case.close(
                self.memory.query(asked),
                case.let("mixed", "{} @ {}", told["read_weights"], told["slot_values"]),
                expected=f"query equal to read_weights @ slot_values, after {self.said}",
                cause="the weights reported are not those used to read once the memory is full or has wrapped",
            )

    def _contradict(self, answers: Tensor, wrong: Wrong) -> None:
        case = self.case
        if wrong.row is not None:
            got = case.let("got", "{}[{}]", answers, wrong.row)
            want = torch.from_numpy(wrong.value).to(got)
            case.close(
                got,
                want,
                cause=self.cause,
                expected=f"what a plain model has for key {wrong.row}: {wrong.why}",
                tolerance=wrong.tolerance / max(1.0, want.abs().max().item(), self._largest),
            )
            return
        assert wrong.newest is not None
        newest = torch.from_numpy(np.nan_to_num(wrong.newest, posinf=float(np.finfo(np.float32).max))).to(answers)
        right = case.let("right", "(({} - {}).abs() <= {}).all(-1)", answers, newest, wrong.tolerance)
        case.check(
            f"{wrong.least} <= int(right.sum()) <= {wrong.most}",
            got=f"these keys answer their newest value: {right.nonzero().flatten().tolist()}",
            expected=f"{wrong.least} to {wrong.most} of them: {wrong.why}",
            cause=self.cause,
        )

    @property
    def _largest(self) -> float:
        return self.case.values.abs().max().item() if self.case.values.numel() else 0.0


def lone_of(case: Case) -> Lone:
    """What a memory of this case answers that holds one pair and nothing else."""

    def lone(key: Any, value: Any, asked: Any) -> Any:
        memory = case.plug.build(case.shape, unshared(0))
        rows = (torch.from_numpy(part).to(case.device, case.size.dtype) for part in (key[None], value[None], asked))
        keys, values, queries = rows
        call(memory, "update", keys, values)
        return _floats(call(memory, "query", queries))

    return lone


ASKED = 8
"""Keys of the pool for which statistics are asked."""
MOST = 1 << 10
"""Rows of one call at the most."""
LONGEST_CALL = 0.5
"""Seconds that the rows of one call may take, one by one."""
LONGEST_CAPACITY = 128
"""Of a memory whose capacity is fixed and larger no more than this is filled."""


def _floats(rows: Tensor) -> Any:
    return rows.detach().cpu().double().numpy()


def run(law: Law, examples: int | None = None) -> None:
    """Drive the law's memory through histories of calls; the message of a failure holds the shrunk one.

    Args:
        examples: None for a few of every setting, the same every time; N for N long ones in all, drawn anew.

    Raises:
        LawBroken: with the steps, as a program.
    """
    told, hours = Told(law), Hours()
    for number, setting in enumerate(SETTINGS):
        each = planned(law.pace) if examples is None else -(-examples // len(SETTINGS))
        _drawn(told, setting, each, None if examples else number, LONG if examples else ACTS, hours)


def planned(pace: Pace | None) -> int:
    """Histories of every setting that a memory of this pace is led through: at least one."""
    if pace is None:
        return EXAMPLES
    # As measured: an act takes a call, and rows for half the capacity, in the mean.
    each = sum(ACTS * (pace.call + setting.capacity / 2 * pace.row) for setting in SETTINGS)
    return max(1, min(EXAMPLES, int(PLAYING / each)))


class Hours:
    """When the first failure was found, and whether its shrinking has gone on for long enough."""

    def __init__(self) -> None:
        self.found = math.inf

    def over(self) -> bool:
        """Whether no further history is to begin."""
        return time.perf_counter() - self.found > SHRINKING


def _drawn(told: Told, setting: Setting, examples: int, seed: int | None, longest: int, hours: Hours) -> None:
    if hours.over():
        return
    first = History(told, setting)
    found: list[LawBroken] = []

    @settings(
        max_examples=examples,
        derandomize=False,
        database=None,
        deadline=None,
        print_blob=False,
        report_multiple_bugs=False,
        phases=(Phase.generate, Phase.shrink),
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(histories(first.setting, len(first.keys), told.kinds, told.most, longest))
    def plays(acts: list[Act]) -> None:
        if hours.over():
            return
        try:
            History(told, setting).play(acts)
        except LawBroken as broken:
            hours.found = min(hours.found, time.perf_counter())
            found.append(broken)
            raise

    try:
        (plays if seed is None else hypothesis.seed(seed)(plays))()
    except MemspecError:
        if not found:
            raise
    except Exception:
        # Shrinking was cut off, or the same steps gave another result; what was seen is still a counterexample.
        if not found:
            raise
    if found:
        raise found[-1]
