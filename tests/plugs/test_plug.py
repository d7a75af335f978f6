"""The plug loader: every wrong use gets one clear message, and constructors that misbehave break nothing."""

from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from memspec import MemorySpec, Plug, adapt, load_plug
from memspec.errors import CannotMeasure, NotAsked, PlugError
from memspec.plugs.loading import as_plug, checked
from memspec.plugs.plug import Shape
from memspec.plugs.population import populate, state_bytes
from memspec.plugs.reachable import device_of, tensors_in
from memspec.reference import DeltaMemory


class Store:
    """A store with the names a vector index would have, and no reset."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.key_dim, self.value_dim = key_dim, value_dim
        self.offset = torch.randn(value_dim)
        self.rows: list[tuple[Tensor, Tensor]] = []

    def add(self, keys: Tensor, values: Tensor) -> None:
        self.rows += list(zip(keys, values))

    def search(self, keys: Tensor) -> tuple[Tensor, Tensor]:
        if not self.rows:
            return self.offset.expand(len(keys), -1), torch.zeros(len(keys))
        known = torch.stack([k for k, _ in self.rows])
        score, best = (keys @ known.T).max(-1)
        return torch.stack([self.rows[i][1] for i in best.tolist()]), score


class Counted(DeltaMemory):
    """Prints, and counts its constructions."""

    built = 0

    def __init__(self, key_dim: int, value_dim: int) -> None:
        print("loading weights ...")
        super().__init__(key_dim, value_dim)
        Counted.built += 1


class Elsewhere:
    """Takes inputs only on its own device (meta stands for an accelerator)."""

    def __init__(self, key_dim: int, value_dim: int) -> None:
        self.matrix = torch.zeros(key_dim, value_dim, device="meta")

    def reset(self) -> None:
        self.matrix = torch.zeros_like(self.matrix)

    def update(self, keys: Tensor, values: Tensor) -> None:
        assert keys.device == values.device == self.matrix.device
        self.matrix = self.matrix + keys.T @ values

    def query(self, keys: Tensor) -> Tensor:
        assert keys.device == self.matrix.device
        return keys @ self.matrix


def said(text: str) -> str:
    with pytest.raises(PlugError) as caught:
        load_plug(text)
    return str(caught.value)


@pytest.mark.parametrize(
    ("text", "parts"),
    [
        ("nosuch.package:Memory", ["there is no module 'nosuch'", "path/to/file.py:attribute"]),
        ("memspec.reference:DeltaMemry", ["has no attribute 'DeltaMemry'", "Close matches: DeltaMemory"]),
        ("memspec.reference.DeltaMemory", ["write module:attribute", "--memory=memspec.reference:DeltaMemory"]),
        ("memspec.reference:DeltaMemory(0.5)", ["give arguments by name", "DeltaMemory(lr=0.5)"]),
        ("memspec.reference:DeltaMemory(beta=x)", ["cannot read the arguments"]),
        ("memspec.reference:__doc__", ["is a str, not something that builds memories", "def make(key_dim"]),
        ("none.py:Memory", ["there is no file none.py"]),
    ],
    ids=["module", "attribute", "dot", "positional", "names", "no-factory", "file"],
)
def test_what_cannot_be_loaded_says_why(text: str, parts: list[str]) -> None:
    message = said(text)
    assert f"--memory={text}" in message
    for part in parts:
        assert part in message


def test_a_constructor_that_refuses_is_shown_its_call_and_a_factory() -> None:
    message = said("memspec.reference:DeltaMemory(betta=0.5)")
    assert "could not be called as DeltaMemory(key_dim=64, value_dim=64, betta=0.5)" in message
    assert "TypeError" in message
    assert "def make(key_dim, value_dim, capacity):" in message
    assert "return DeltaMemory(...)" in message


def test_an_argument_that_the_constructor_has_not_is_told_with_those_near_it() -> None:
    assert "It has no argument 'bta'. Close matches: beta\n" in said("memspec.reference:DeltaMemory(bta=0.7)")
    assert "It has no argument 'momentum'. It takes: key_dim, value_dim, " in said(
        "memspec.reference:DeltaMemory(momentum=0.7)"
    )


def test_a_constructor_that_exits_is_refused(tmp_path: Path) -> None:
    (tmp_path / "script.py").write_text("import sys\nsys.exit('usage: script.py')\n")
    assert "SystemExit: usage: script.py" in said(f"{tmp_path}/script.py:Memory")


def test_a_module_that_fails_inside_names_the_real_cause(tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nosuch_dependency\n")
    assert "No module named 'nosuch_dependency'" in said(f"{tmp_path}/broken.py:Memory")


@pytest.mark.parametrize(
    ("body", "parts"),
    [
        (
            "def add(self, k, v): ...\n    def search(self, k): ...",
            ['update="add", query="search"', "rebuilds the memory"],
        ),
        ("def write(self, k, v): ...\n    def read(self, k): ...", ['update="write", query="read"']),
        (
            "def store(self, k, v): ...\n    def retrieve(self, k): ...\n    def clear(self): ...",
            ['update="store", query="retrieve", reset="clear"'],
        ),
        ("def poke(self): ...", ['update="...", query="..."', "Methods found: poke"]),
    ],
    ids=["add-search", "write-read", "store-retrieve", "nothing-like-it"],
)
def test_missing_methods_are_named_with_a_way_out(tmp_path: Path, body: str, parts: list[str]) -> None:
    (tmp_path / "store.py").write_text(f"class Store:\n    def __init__(self, key_dim, value_dim): ...\n    {body}\n")
    message = said(f"{tmp_path}/store.py:Store")
    assert "Store has no" in message
    assert "reset(), update(keys [N, Dk], values [N, Dv]) and query(keys [Q, Dk]) -> [Q, Dv]" in message
    for part in parts:
        assert part in message


def test_a_module_with_forward_is_told_to_adapt_it(tmp_path: Path) -> None:
    (tmp_path / "net.py").write_text(
        "from torch import nn\nclass Net(nn.Module):\n    def __init__(self, key_dim): super().__init__()\n"
        "    def store(self, k, v): ...\n    def forward(self, k): ...\n"
    )
    assert 'memspec.adapt(Net, update="store", query="forward")' in said(f"{tmp_path}/net.py:Net")


def test_a_file_with_neighbours_and_arguments(tmp_path: Path) -> None:
    folder = tmp_path / "a (copy)"
    folder.mkdir()
    (folder / "mypkg_neighbour.py").write_text("from memspec.reference import DeltaMemory\n")
    (folder / "mem.py").write_text(
        "def make(key_dim, value_dim, beta=1.0):\n    from mypkg_neighbour import DeltaMemory\n    return DeltaMemory(key_dim, value_dim, beta=beta)\n"
    )
    plug = load_plug(f"{folder}/mem.py:make(beta=0.25)")
    assert plug.build().beta == 0.25


def test_two_files_of_one_name_are_two_modules(tmp_path: Path) -> None:
    plugs = []
    for i in range(2):
        (tmp_path / str(i)).mkdir()
        file = tmp_path / str(i) / "same.py"
        file.write_text(f"from memspec.reference import DeltaMemory\nclass Memory(DeltaMemory):\n    number = {i}\n")
        plugs.append(load_plug(f"{file}:Memory"))
    memories = [p.build() for p in plugs]
    assert [m.number for m in memories] == [0, 1]
    assert [pickle.loads(pickle.dumps(m)).number for m in memories] == [0, 1]


def test_prints_of_a_constructor_are_swallowed(capsys: pytest.CaptureFixture[str]) -> None:
    checked(Plug("counted", Counted)).build()
    assert capsys.readouterr().out == ""


def test_construction_leaves_the_generators_alone_and_depends_on_the_seed_only() -> None:
    plug = Plug("store", adapt(Store, update="add", query="search"))
    before = torch.get_rng_state()
    a, b, c = plug.build(seed=1), plug.build(seed=1), plug.build(seed=2)
    assert torch.equal(before, torch.get_rng_state())
    keys = torch.ones(1, 64)
    assert torch.equal(a.query(keys), b.query(keys))
    assert not torch.equal(a.query(keys), c.query(keys))


def test_a_memory_on_another_device_gets_its_inputs_there() -> None:
    plug = Plug("elsewhere", Elsewhere)
    memory = plug.build()
    assert device_of(memory) == torch.device("meta")
    population = populate(plug, Shape(8, 4, 16), [0, 1], 0)
    population.update(torch.ones(2, 3, 8), torch.ones(2, 3, 4))
    memory.device = "cpu"
    assert device_of(memory) == torch.device("cpu")
    assert device_of(object()) == torch.device("cpu")


def test_fixed_widths_win_over_what_the_harness_would_choose() -> None:
    class Fixed(DeltaMemory):
        def __init__(self) -> None:
            super().__init__(12, 5)

    plug = checked(Plug("fixed", Fixed))
    assert plug.shape() == Shape(12, 5, 128)
    with pytest.raises(CannotMeasure, match="does not take key_dim"):
        plug.needs_free("key_dim")
    assert load_plug("memspec.reference:DeltaMemory(key_dim=7)").shape().key_dim == 7


def test_widths_that_are_nowhere_told_are_found() -> None:
    class Silent:
        def __init__(self) -> None:
            self._net = nn.Linear(10, 3)

        def reset(self) -> None: ...
        def update(self, keys: Tensor, values: Tensor) -> None:
            self._net(keys)

        def query(self, keys: Tensor) -> Tensor:
            return self._net(keys)

    plug = checked(Plug("silent", Silent))
    assert plug.shape() == Shape(10, 3, 128)
    assert str(plug.widths) == "key_dim 10 only; value_dim 3 only"


# ---- adapt ----------------------------------------------------------------------------------------------------


def test_adapted_memories_keep_the_protocol() -> None:
    plug = checked(Plug("store", adapt(Store, update="add", query="search", spec=MemorySpec(family="cache"))))
    assert plug.spec.family == "cache"
    assert plug.accepts == {"key_dim", "value_dim"}
    memory = plug.build(Shape(8, 3, 4))
    fresh = memory.query(torch.eye(8))
    memory.update(torch.eye(8), torch.arange(24.0).reshape(8, 3))
    assert torch.equal(memory.query(torch.eye(8)), torch.arange(24.0).reshape(8, 3))
    state = torch.get_rng_state()
    memory.reset()
    assert torch.equal(memory.query(torch.eye(8)), fresh)  # rebuilt with the same random numbers
    assert torch.equal(torch.get_rng_state(), state)


def test_adapted_memories_can_be_copied_and_pickled() -> None:
    memory = adapt(Store, update="add", query="search")(key_dim=4, value_dim=2)
    memory.update(torch.eye(4), torch.ones(4, 2))
    for twin in (copy.deepcopy(memory), pickle.loads(pickle.dumps(memory))):
        assert torch.equal(twin.query(torch.eye(4)), torch.ones(4, 2))
        twin.reset()
        assert not torch.equal(twin.query(torch.eye(4)), memory.query(torch.eye(4)))


def test_renamed_methods_are_not_taken_for_the_functional_form() -> None:
    class Cell:
        def __init__(self, key_dim: int, value_dim: int) -> None:
            self.init_state()
            self.dims = key_dim, value_dim

        def init_state(self) -> None:
            self.matrix: Any = 0.0

        def write(self, keys: Tensor, values: Tensor) -> None:
            self.matrix = self.matrix + keys.T @ values

        def read(self, keys: Tensor) -> Tensor:
            return keys @ self.matrix if isinstance(self.matrix, Tensor) else torch.zeros(len(keys), self.dims[1])

        def confidence(self, keys: Tensor) -> Tensor:
            return torch.ones(len(keys))

    plug = checked(Plug("cell", adapt(Cell, update="write", query="read", reset="init_state")))
    assert plug.capabilities == {"Confident"}
    plug.needs("Confident")
    with pytest.raises(NotAsked, match="cell is not Functional"):
        plug.needs("Functional")


def test_an_answer_without_a_tensor_is_named() -> None:
    memory = adapt(Store, update="add", query="search")(key_dim=4, value_dim=2)
    memory.inner.search = lambda keys: ("nothing", "here")
    with pytest.raises(TypeError, match=r"Store\.search returned"):
        memory.query(torch.eye(4))


# ---- what a user's own memory fixture may return --------------------------------------------------------------


def test_a_fixture_may_return_a_class_a_factory_a_name_or_a_plug() -> None:
    plug = as_plug(DeltaMemory)
    assert plug.name.endswith(":DeltaMemory")
    assert as_plug(plug) is plug
    assert as_plug("memspec.reference:DeltaMemory").name == "memspec.reference:DeltaMemory"
    assert as_plug(lambda key_dim, value_dim: DeltaMemory(key_dim, value_dim)).build().key_dim == 64


def test_an_instance_is_refused() -> None:
    with pytest.raises(PlugError, match="Return the class"):
        as_plug(DeltaMemory(4, 4))


def test_tensors_are_found_wherever_an_object_keeps_them() -> None:
    class Odd:
        def __init__(self) -> None:
            self.deep = {"a": [torch.ones(2), (torch.ones(3),)]}
            self.array = torch.ones(5).numpy()
            self.loop = self

    assert sorted(t.numel() for t in tensors_in(Odd())) == [2, 3, 5]
    assert state_bytes(Odd()) == 4 * 10


def test_a_refusal_recommends_only_arguments_that_the_factory_takes() -> None:
    message = said("memspec.reference:DeltaMemory(lr=0.5)")
    assert "lr=0.5" not in message.partition("it raised")[2].partition("\n")[2]
    assert "behind the name: --memory='memspec.reference:DeltaMemory(beta=" in message


def test_a_file_without_a_name_in_it_is_told_so() -> None:
    assert "that is a file; name what is in it, for example --memory=knn.py:MyMemory" in said("knn.py")
