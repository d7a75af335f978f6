"""One memory under a case of a law: every call is recorded, every answer checked for shape."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from torch import Tensor

from memspec.functional import FunctionalMemory
from memspec.plugs.reachable import tensors_in

if TYPE_CHECKING:
    from memspec.laws.law import Case


class Driven:
    """A memory, and what the transcript calls it. Answers come as detached copies, unless a method says otherwise."""

    def __init__(self, case: Case, memory: Any, name: str) -> None:
        self.case, self.memory, self.name = case, memory, name

    def update(self, keys: Tensor, values: Tensor, times: int = 1) -> None:
        """One call of ``update`` (or ``times`` of the same)."""
        ref = self.case.script.ref
        loop = f"for _ in range({times}): " if times > 1 else ""
        text = f"{loop}{self.name}.update({ref(keys)}, {ref(values)})"

        def call() -> None:
            for _ in range(times):
                self.memory.update(keys, values)

        self.case.run(text, call)

    def update_rows(self, keys: Tensor, values: Tensor) -> None:
        """One call for each pair, in order."""
        ref = self.case.script.ref
        text = f"for k, v in zip({ref(keys)}.split(1), {ref(values)}.split(1)): {self.name}.update(k, v)"

        def call() -> None:
            for k, v in zip(keys.split(1), values.split(1)):
                self.memory.update(k, v)

        self.case.run(text, call)

    def store(self, keys: Tensor, values: Tensor) -> None:
        """``update`` as often as the spec says a batch must be shown."""
        self.update(keys, values, self.case.spec.presentations)

    def query(self, keys: Tensor) -> Tensor:
        """``[Q, Dv]``: a detached copy of the answer."""
        case = self.case
        name = case.script.fresh("a")
        answer = case.run(
            f"{name} = {self.name}.query({case.script.ref(keys)}).detach().clone()",
            lambda: self._checked(self.memory.query(keys), keys),
        )
        copy: Tensor = answer.detach().clone()
        case.script.bind(copy, name)
        return copy

    def _checked(self, answer: Any, keys: Tensor) -> Tensor:
        want = (*keys.shape[:-1], self.case.shape.value_dim)
        if isinstance(answer, Tensor) and answer.shape == want:
            return answer
        came = f"shape {tuple(answer.shape)}" if isinstance(answer, Tensor) else f"a {type(answer).__name__}"
        ref = self.case.script.ref
        self.case.script.say(f"assert {self.name}.query({ref(keys)}).shape == {want}")
        raise self.case.broken(
            got=f"query of {tuple(keys.shape)} answered {came}",
            expected=f"a tensor of shape {want}",
            cause="a squeeze, a missing batch axis, or keys and values confused (their widths differ here)",
        )

    def live(self, keys: Tensor) -> Tensor:
        """The answer itself, with whatever it shares and whatever graph it has."""
        name = self.case.script.fresh("a")
        answer: Tensor = self.case.run(
            f"{name} = {self.name}.query({self.case.script.ref(keys)})", self.memory.query, keys
        )
        self.case.script.bind(answer, name)
        return answer

    def answers(self) -> Tensor:
        """The answers to the case's probe: its keys and never-stored ones."""
        return self.query(self.case.probe)

    def reset(self) -> None:
        self.case.run(f"{self.name}.reset()", self.memory.reset)

    def call(self, method: str, *tensors: Tensor) -> Any:
        """Another method of the memory; a tensor comes back as a detached copy."""
        script = self.case.script
        name = script.fresh("a")
        listed = ", ".join(script.ref(t) for t in tensors)
        result = self.case.run(f"{name} = {self.name}.{method}({listed})", getattr(self.memory, method), *tensors)
        if isinstance(result, Tensor):
            result = result.detach().clone()
        script.bind(result, name)
        return result

    def refused(self, method: str, *tensors: Tensor) -> Exception | None:
        """What a call raised, or None if it went through."""
        script = self.case.script
        listed = ", ".join(script.ref(t) for t in tensors)
        script.say("went_through = False")
        with script.within("contextlib.suppress(Exception)", "import contextlib"):
            script.say(f"{self.name}.{method}({listed})")
            script.say("went_through = True")
        try:
            getattr(self.memory, method)(*tensors)
        except Exception as error:
            return error
        return None

    # The functional form; the transcript calls the state ``state``.

    def start(self) -> Any:
        """The state this memory starts from."""
        own = isinstance(self.memory, FunctionalMemory)
        return self.case.run(
            f"state = {self.name}.{'state' if own else 'init_state(())'}",
            lambda: self.memory.state if own else self.memory.init_state(()),
        )

    def write(self, state: Any, keys: Tensor, values: Tensor) -> Any:
        """``state = memory.write(state, keys, values)``."""
        ref = self.case.script.ref
        text = f"state = {self.name}.write(state, {ref(keys)}, {ref(values)})"
        return self.case.run(text, self.memory.write, state, keys, values)

    def read(self, state: Any, keys: Tensor) -> Tensor:
        """The answer of ``memory.read(state, keys)``, with its graph."""
        script = self.case.script
        name = script.fresh("f")
        answer: Tensor = self.case.run(
            f"{name} = {self.name}.read(state, {script.ref(keys)})", self.memory.read, state, keys
        )
        script.bind(answer, name)
        return answer

    def state(self) -> list[Tensor]:
        """Copies of the tensors that can be reached from the memory's attributes."""
        script = self.case.script
        name = script.fresh("s")
        script.say(
            f"{name} = [t.detach().clone() for t in tensors_in({self.name})]",
            "from memspec.plugs.reachable import tensors_in",
        )
        tensors = [t.detach().clone() for t in tensors_in(self.memory)]
        script.bind(tensors, name)
        return tensors
