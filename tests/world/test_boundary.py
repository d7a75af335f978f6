"""The one way into a memory: what is watched around a call, what may be raised there, and that there is no other way."""

from __future__ import annotations

import ast
import importlib.util
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from memspec.errors import CannotMeasure, CheckFailed, NotAsked, OutOfTime, SaidByMemory
from memspec.failure import Failure
from memspec.world import boundary
from memspec.world.disturbance import Disturbance, taken


@pytest.fixture(autouse=True)
def clean() -> Iterator[None]:
    taken()
    yield
    taken()


def raising(error: BaseException) -> Any:
    def use() -> None:
        raise error

    return use


FAILURE = Failure("a/check", "a memory", "a rule", "this", "that", "a cause", "")


@pytest.mark.parametrize(
    ("error", "owner"),
    [
        (NotAsked("no"), "memspec's NotAsked: no"),
        (CannotMeasure("no"), "memspec's CannotMeasure: no"),
        (CheckFailed(FAILURE), "memspec's CheckFailed"),
        (OutOfTime(), "memspec's OutOfTime"),
        (pytest.skip.Exception("no"), "pytest's Skipped: no"),
        (pytest.fail.Exception("no"), "pytest's Failed: no"),
        (pytest.exit.Exception("no", 0), "pytest's Exit: no"),
        (SystemExit(0), "SystemExit: 0"),
        (GeneratorExit(), "GeneratorExit"),
        (BaseException("no"), "BaseException: no"),
    ],
    ids=lambda thing: type(thing).__name__ if isinstance(thing, BaseException) else "",
)
def test_what_only_the_harness_may_say_is_said_by_the_memory(error: BaseException, owner: str) -> None:
    with pytest.raises(SaidByMemory, match=owner):
        boundary.cross("update", raising(error))


@pytest.mark.parametrize("error", [ValueError("no"), MemoryError(), OutOfTime(counted=True), SaidByMemory("no")])
def test_other_exceptions_pass_as_they_are(error: BaseException) -> None:
    with pytest.raises(type(error)) as info:
        boundary.cross("update", raising(error))
    assert info.value is error


def test_ctrl_c_is_the_memorys_only_where_nobody_can_press_it(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        boundary.cross("update", raising(KeyboardInterrupt()))
    monkeypatch.setattr(boundary, "_attended", True)  # put back at the end
    boundary.unattended()
    with pytest.raises(SaidByMemory, match="KeyboardInterrupt"):
        boundary.cross("update", raising(KeyboardInterrupt()))


def test_a_message_that_cannot_be_made_is_no_obstacle() -> None:
    silent = type("Silent", (BaseException,), {"__str__": lambda self: 1 / 0})
    with pytest.raises(SaidByMemory, match=r"Silent: \(its message raised ZeroDivisionError\)"):
        boundary.cross("update", raising(silent()))


def test_what_a_call_changed_is_noted_by_its_name_and_put_right() -> None:
    def use() -> None:
        torch.set_default_dtype(torch.float64)
        torch.manual_seed(7)

    boundary.cross("update", use)
    assert torch.get_default_dtype() == torch.float32
    assert [(one.kind, one.call) for one in taken()] == [("default dtype", "update"), ("generator of torch", "update")]


def test_it_is_noted_of_a_call_that_raises_as_well() -> None:
    def use() -> None:
        torch.set_grad_enabled(False)
        raise ValueError

    with pytest.raises(ValueError):
        boundary.cross("update", use)
    assert torch.is_grad_enabled()
    assert [one.kind for one in taken()] == ["grad mode"]


def test_calls_inside_of_a_call_are_part_of_it() -> None:
    """So what is put back before the outer one ends is no disturbance."""

    class Nested:
        def update(self) -> bool:
            torch.set_grad_enabled(False)
            boundary.cross("inner", lambda: None)
            torch.set_grad_enabled(True)
            return boundary.inside()

    assert boundary.call(Nested(), "update")
    assert not boundary.inside()
    assert taken() == []


def test_a_written_argument_and_a_reused_answer_are_noted() -> None:
    class Reuses:
        def __init__(self) -> None:
            self.out = torch.zeros(2)

        def query(self, keys: torch.Tensor) -> torch.Tensor:
            self.out += 1
            return self.out

        def update(self, keys: torch.Tensor) -> None:
            keys.mul_(2)

    memory, keys = Reuses(), torch.ones(2)
    boundary.call(memory, "update", keys)
    assert [one.kind for one in taken()] == ["the caller's tensors"]
    boundary.call(memory, "query", keys)
    assert taken() == []
    boundary.call(memory, "query", keys)
    assert [one.kind for one in taken()] == ["earlier answers"]


def test_a_disturbance_reads_as_a_sentence() -> None:
    assert str(Disturbance("grad mode", "left the grad mode at off", "update")) == "update left the grad mode at off"


# ---- there is no other way ------------------------------------------------------------------------------------

METHODS = {
    *("update", "query", "reset", "confidence", "read_weights", "slot_values", "slot_usage", "auxiliary_loss", "touch"),
    *("forget", "consolidate", "init_state", "write", "read", "initial_state", "step"),
}
"""What a memory is called by; ``run`` and the state_dict are other things' names as well."""
NAMES = {"memory", "bare", "probe", "built"}
"""What the harness calls a memory itself."""
ELSEWHERE = {
    "laws": "what is called a memory there is a Subject, which goes through the boundary itself",
    "running/mutation": "shares nothing with the suites, on purpose",
    "networks": "the memory is a part of the network, and what is called through the boundary is the network",
    "plugs/offered.py": "a table of uses, each of which is handed to the boundary",
}
THROUGH = {"cross", "call"}


def direct_calls(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls of a memory's methods that stand in no argument of the boundary's functions."""

    def walk(node: ast.AST, inside: bool) -> Iterator[ast.Call]:
        if isinstance(node, ast.Call):
            function = node.func
            name = function.id if isinstance(function, ast.Name) else getattr(function, "attr", "")
            if isinstance(function, ast.Attribute) and function.attr in METHODS and not inside:
                owner = function.value
                said = owner.id if isinstance(owner, ast.Name) else getattr(owner, "attr", "")
                if said in NAMES:
                    yield node
            inside = inside or name in THROUGH
        for child in ast.iter_child_nodes(node):
            yield from walk(child, inside)

    yield from walk(tree, False)


def test_no_call_of_a_memory_is_written_beside_the_boundary() -> None:
    root = Path(importlib.util.find_spec("memspec").submodule_search_locations[0])  # type: ignore[union-attr,index]
    found = [
        f"{file.relative_to(root)}:{call.lineno}: {ast.unparse(call)}"
        for file in sorted(root.rglob("*.py"))
        if not file.relative_to(root).as_posix().startswith(tuple(ELSEWHERE))
        for call in direct_calls(ast.parse(file.read_text(encoding="utf-8")))
    ]
    assert found == []


def test_the_test_sees_a_call_wherever_it_stands() -> None:
    program = "cross('update', lambda: memory.update(k))\nself.memory.query(k)\n[memory.reset() for memory in many]"
    assert [ast.unparse(call) for call in direct_calls(ast.parse(program))] == [
        "self.memory.query(k)",
        "memory.reset()",
    ]


NOTICES = """
    import torch
    from memspec.reference import ExactMemory
    from memspec.world import boundary

    def noticing(name):
        method = getattr(ExactMemory, name)
        def called(self, *arguments):
            assert boundary.inside(), f"{name} was called beside the boundary"
            return method(self, *arguments)
        return called

    class Notices(ExactMemory):
        pass

    for name in ("reset", "update", "query", "init_state", "write", "read"):
        setattr(Notices, name, noticing(name))
"""


@pytest.mark.ci
def test_every_check_goes_through_the_boundary(folder: Any) -> None:
    """Seen from inside, in all suites."""
    folder.write("mem.py", NOTICES)
    done = folder.pytest("--pyargs", "memspec.suites", "--memory=mem.py:Notices", "--tb=line", "-q")
    assert "beside the boundary" not in done.text, done.text
    assert " passed" in done.text


def test_a_call_costs_little() -> None:
    """Some dozens of microseconds, for there are tens of thousands of calls in a run; a hundred times that is a mistake."""
    import timeit

    with warnings.catch_warnings():
        assert min(timeit.repeat(lambda: boundary.cross("query", lambda: None), number=100, repeat=5)) < 1.0
