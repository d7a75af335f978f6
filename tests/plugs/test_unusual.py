"""Good memories that look unusual are spared, and a comparison knows which way is better."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from memspec.errors import PlugError
from memspec.experiments.catalog import experiments
from memspec.fixtures.plain import check
from memspec.plugs.loading import load_plug
from memspec.plugs.plug import Plug
from memspec.plugs.population import populate, state_bytes
from memspec.plugs.reachable import tensors_in
from memspec.scorecard.compare import NO_WORSE, compare
from memspec.scorecard.record import Record

TEST_TIME = """
    import torch
    from torch import nn
    from memspec import MemorySpec

    class Trained(nn.Module):
        '''Its parameters are its state: update takes steps on them, reset puts the first ones back.'''

        spec = MemorySpec(write="joint")

        def __init__(self, key_dim, value_dim):
            super().__init__()
            self.net = nn.Linear(key_dim, value_dim)
            self.start = {name: part.clone() for name, part in self.net.state_dict().items()}

        def reset(self):
            self.net.load_state_dict(self.start)

        def update(self, keys, values):
            if keys.shape[0] != values.shape[0]:
                raise ValueError("unequal numbers of rows")
            if values.shape[1:] != (self.net.out_features,):
                raise ValueError("wrong values")
            if not len(keys):
                return
            optimizer = torch.optim.SGD(self.net.parameters(), lr=0.1)
            with torch.enable_grad():
                for _ in range(5):
                    optimizer.zero_grad()
                    (self.net(keys.detach()) - values.detach()).square().sum(-1).mean().backward()
                    optimizer.step()
            optimizer.zero_grad()

        def query(self, keys):
            return self.net(keys)
"""


@pytest.mark.parametrize("checks", ["liveness/*", pytest.param("stateful/*", marks=pytest.mark.ci), "persistence/*"])
def test_parameters_that_are_state_are_spared(folder: Any, checks: str) -> None:
    """A module trained inside update: reset puts its parameters back, the constructor's start is not in its state dict."""
    folder.write("mine.py", TEST_TIME)
    ran = folder.pytest("--pyargs", "memspec.suites", "--memory=mine.py:Trained", f"--memspec-checks={checks}")
    assert ran.code == 0, ran.text


ADAM = """
    import torch
    from torch import nn

    class Fitted:
        '''A network that takes ten Adam steps on what an update brings; it declares nothing.'''

        def __init__(self, key_dim, value_dim):
            self.net = nn.Linear(key_dim, value_dim)
            self.start = {name: part.clone() for name, part in self.net.state_dict().items()}
            self.reset()

        def reset(self):
            self.net.load_state_dict(self.start)
            self.optimizer = torch.optim.Adam(self.net.parameters(), lr=0.02)

        def update(self, keys, values):
            if keys.shape != (len(values), self.net.in_features) or values.shape[1:] != (self.net.out_features,):
                raise ValueError(f"keys {tuple(keys.shape)}, values {tuple(values.shape)}")
            with torch.enable_grad():
                for _ in range(10 if len(keys) else 0):
                    self.optimizer.zero_grad()
                    (self.net(keys.detach()) - values.detach()).square().mean().backward()
                    self.optimizer.step()

        @torch.no_grad()
        def query(self, keys):
            return self.net(keys)
"""


@pytest.mark.slow
def test_nothing_is_required_of_the_order_of_rows_before_the_spec_says_so(folder: Any) -> None:
    """Ten optimiser steps on a whole call are another write than its rows, and no spec says otherwise."""
    folder.write("mine.py", ADAM)
    checks = [f"--memspec-checks={axis}/*" for axis in ("laws", "claims", "stateful", "capacity")]
    ran = folder.pytest("--pyargs", "memspec.suites", "--memory=mine.py:Fitted", *checks)
    assert ran.code == 0, ran.text


class Slotted:
    """Declares ``__slots__``, so it has no ``__dict__``."""

    __slots__ = ("key_dim", "matrix", "value_dim")

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.key_dim, self.value_dim = key_dim, value_dim
        self.reset()

    def reset(self) -> None:
        self.matrix = torch.zeros(self.key_dim, self.value_dim)

    def update(self, keys: Tensor, values: Tensor) -> None:
        check(keys, self.key_dim, values)
        self.matrix = self.matrix + keys.T @ values

    def query(self, keys: Tensor) -> Tensor:
        return keys @ self.matrix


class SlottedChild(Slotted):
    __slots__ = ("more",)

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__(key_dim, value_dim)
        self.more = torch.zeros(3)


def test_slots_are_reached() -> None:
    assert state_bytes(Slotted(4, 5)) == 4 * 5 * 4
    assert sorted(t.numel() for t in tensors_in(SlottedChild(4, 5))) == [3, 20]


@pytest.mark.parametrize("name", ["fixed", "free"])
def test_widths_that_are_nowhere_told(folder: Any, name: str) -> None:
    """A memory of one fixed width that does not say so is built at that width; one of any width at any."""
    folder.write(
        "widths.py",
        """
        import torch

        class Free:
            def __init__(self): self.reset()
            def reset(self): self.rows = []
            def update(self, keys, values): self.rows += [keys.T @ values]
            def query(self, keys): return keys @ sum(self.rows)

        class OnlySixtyFour(Free):
            def reset(self): self.rows = [torch.zeros(64, 64)]

        fixed, free = OnlySixtyFour, Free
        """,
    )
    shape = load_plug(f"widths.py:{name}").shape(6, 5)
    assert (shape.key_dim, shape.value_dim) == ((6, 5) if name == "free" else (64, 64))


def test_the_factory_shown_is_named_as_the_user_named_it(folder: Any, tmp_path: Path) -> None:
    folder.write("mine.py", "class Odd:\n    def __init__(self, hidden): pass\n")
    with pytest.raises(PlugError, match=r"from mine import Odd\n +return Odd\("):
        load_plug(f"{tmp_path}/mine.py:Odd")


def record(values: list[float]) -> Record:
    """A record of one error without a range."""
    metric = {"description": "error", "low": 0.0, "high": "inf", "better": "down", "at": None, "values": values}
    block = {"experiment": "a.b", "setting": "s", "fields": {}, "done": "", "first_trial": 0, "metrics": {"e": metric}}
    return Record({"plug": "m:M", "spec": {}, "shape": {}}, {}, {}, blocks=[block])


DIRECTIONS = {"state_bytes": "down", "bytes_per_pair": "down", "update_flops": "none", "answers_apart": "down"}


def test_less_cost_is_not_worse() -> None:
    """Fewer bytes are better; no metric of cost, distance or a control is best when it is largest."""
    metrics = {name: metric for one in experiments().values() for name, metric in one.metrics.items()}
    growth = experiments()["cost.growth"].metrics
    assert {name: (metrics | growth)[name].better for name in DIRECTIONS} == DIRECTIONS
    controls = [name for name in metrics if name.endswith(("_off", "_shuffled", "_apart"))]
    assert controls
    assert not [name for name in controls if metrics[name].better == "up"]


def test_rounding_is_not_a_regression() -> None:
    """An error of 1e-14 that becomes 1e-13 on every stream is still none."""
    noise = [1e-14 * (1 + trial / 64) for trial in range(64)]
    old, tenfold, grown = (record([f(x) for x in noise]) for f in (float, lambda x: 10 * x, lambda x: x + 0.1))
    assert [c.verdict for c in compare(tenfold, old).changes] == ["same"]
    assert compare(tenfold, old).exit_status == NO_WORSE
    assert [c.verdict for c in compare(grown, old).changes] == ["worse"]


class Drawn(Slotted):
    """Starts from a random matrix; construction takes a while."""

    seconds = 0.0

    def __init__(self, key_dim: int, value_dim: int) -> None:
        super().__init__(key_dim, value_dim)
        time.sleep(self.seconds)
        self.matrix = torch.randn(key_dim, value_dim)

    def query(self, keys: Tensor) -> Tensor:
        return keys @ self.matrix


class Slow(Drawn):
    """The same; slower."""

    seconds = 0.025


def test_the_clock_decides_no_start() -> None:
    """As many different starts in eight trials from a constructor of 25 ms as from a fast one; the same ones."""
    starts = []
    for factory in (Drawn, Slow):
        plug = Plug("drawn", factory)
        memories = populate(plug, plug.shape(6, 5), range(8), 0)
        starts.append(memories.query(torch.eye(6).expand(8, 6, 6)))
    assert torch.equal(*starts)
    assert len(starts[1].unique(dim=0)) == 8
