"""One memory under a case of a law: every call is recorded, every answer checked for shape."""

from __future__ import annotations

import contextlib
from typing import Any

from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.laws.compare import refusal
from memspec.laws.recorded import Recorded, Subject
from memspec.plugs.reachable import tensors_in
from memspec.plugs.stochastic import draws_in_query
from memspec.randomness import seeded

READS = 2
"""What the generators are seeded with during a query that draws."""


class Driven(Subject):
    """A memory, and what the transcript calls it. Answers come as detached copies, unless a method says otherwise."""

    def __init__(self, case: Recorded, memory: Any, name: str) -> None:
        self.case, self.memory, self.name = case, memory, name
        case.script.alias(self, name)

    def update(self, keys: Tensor, values: Tensor, times: int = 1) -> None:
        """One call of ``update`` (or ``times`` of the same)."""
        loop = f"for _ in range({times}): " if times > 1 else ""
        self.case.do(loop + "{}.update({}, {})", self, keys, values)

    def update_rows(self, keys: Tensor, values: Tensor, by: int = 1) -> None:
        """One call for each pair (for each ``by`` of them), in order."""
        self.case.do(
            f"for key, value in zip({{}}.split({by}), {{}}.split({by})): {{}}.update(key, value)", keys, values, self
        )

    def store(self, keys: Tensor, values: Tensor) -> None:
        """``update`` as often as the spec says a batch must be shown."""
        self.update(keys, values, self.case.spec.presentations)

    def query(self, keys: Tensor) -> Tensor:
        """``[Q, Dv]``: a detached copy of the answer."""
        case = self.case
        with contextlib.ExitStack() as drawing:
            if draws_in_query(case.plug):  # equal queries draw alike, and writes draw what they would without them
                drawing.enter_context(case.within(f"{case.ref(seeded)}({READS})"))
            answer = case.new("a", "{}.query({})", self, keys, then=".detach().clone()")
        want = (*keys.shape[:-1], case.shape.value_dim)
        if isinstance(answer, Tensor) and answer.shape == want:
            return answer
        came = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
        case.check(
            f"isinstance({{}}, torch.Tensor) and {{}}.shape == {want}",
            *(answer, answer),
            got=f"query of {tuple(keys.shape)} answered {came}",
            expected=f"a tensor of shape {want}",
            cause="a squeeze, a missing batch axis, or keys and values confused (their widths differ here)",
        )
        raise AssertionError("unreachable")

    def live(self, keys: Tensor) -> Tensor:
        """The answer itself, with whatever it shares and whatever graph it has."""
        answer: Tensor = self.case.new("a", "{}.query({})", self, keys)
        return answer

    def answers(self) -> Tensor:
        """The answers to the case's probe: its keys and never-stored ones."""
        return self.query(self.case.script.names["probe"])

    def reset(self) -> None:
        self.case.do("{}.reset()", self)

    def call(self, method: str, *tensors: Tensor) -> Any:
        """Another method of the memory; a tensor comes back as a detached copy."""
        arguments = ", ".join("{}" for _ in tensors)
        return self.case.new("a", f"{{}}.{method}({arguments})", self, *tensors, then=".detach().clone()")

    def refused(self, method: str, *tensors: Tensor) -> Exception | None:
        """What a call raised, or None if it went through; called ``error`` in the transcript."""
        arguments = "".join(", {}" for _ in tensors)
        error: Exception | None = self.case.let("error", f"{{}}({{}}.{method}{arguments})", refusal, self, *tensors)
        return error

    # The functional form.

    def start(self) -> Any:
        """The state this memory starts from."""
        own = isinstance(self.memory, FunctionalMemory)
        return self.case.new("s", "{}.state" if own else "{}.init_state(())", self)

    def write(self, state: Any, keys: Tensor, values: Tensor) -> Any:
        """The state after ``memory.write(state, keys, values)``."""
        return self.case.new("s", "{}.write({}, {}, {})", self, state, keys, values)

    def read(self, state: Any, keys: Tensor) -> Tensor:
        """The answer of ``memory.read(state, keys)``, with its graph."""
        answer: Tensor = self.case.new("f", "{}.read({}, {})", self, state, keys)
        return answer

    def state(self) -> list[Tensor]:
        """Copies of the tensors that can be reached from the memory's attributes."""
        tensors: list[Tensor] = self.case.new("s", "[t.detach().clone() for t in {}({})]", tensors_in, self)
        return tensors
