"""Which of the optional methods a memory has does it offer: NotImplementedError says that it does not."""

from __future__ import annotations

import contextlib
import io
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any

from torch import Tensor

from memspec.errors import PlugError
from memspec.failure import raised
from memspec.functional import FunctionalMemory
from memspec.plugs.reachable import device_of
from memspec.plugs.widths import one_pair
from memspec.randomness import made_from, unshared
from memspec.world.boundary import call, cross

if TYPE_CHECKING:
    from memspec.plugs.plug import Plug

CALLS: dict[str, Callable[[Any, Tensor, Tensor], object]] = {
    "Confident": lambda memory, keys, values: memory.confidence(keys),
    "Addressable": lambda memory, keys, values: (memory.read_weights(keys), memory.slot_values()),
    "Slotted": lambda memory, keys, values: memory.slot_usage(),
    "Persistent": lambda memory, keys, values: memory.load_state_dict(memory.state_dict()),
    "Auxiliary": lambda memory, keys, values: memory.auxiliary_loss(keys, values),
    "Touching": lambda memory, keys, values: memory.touch(keys),
    "Forgetting": lambda memory, keys, values: memory.forget(keys),
    "Consolidating": lambda memory, keys, values: memory.consolidate(),
    "Functional": lambda memory, keys, values: memory.read(memory.write(memory.init_state(()), keys, values), keys),
    "Recurrent": lambda memory, keys, values: memory.initial_state(1),
}
"""One use of every optional capability, on a memory that holds one pair."""


def not_offered(plug: Plug, capabilities: Collection[str]) -> frozenset[str]:
    """Those of the capabilities whose methods raise NotImplementedError on a memory that holds one pair.

    Whatever else they raise is for the laws to say. Only a functional form that cannot do one pair is an error at
    once: it may be no functional form at all, but helpers of that name.

    Raises:
        PlugError: with what to declare.
    """
    return made_from(unshared(0), lambda: frozenset(name for name in sorted(capabilities) if _refuses(plug, name)))


def _refuses(plug: Plug, name: str) -> bool:
    shape = plug.nearest()
    memory = plug.build(shape)
    keys, values = one_pair(plug.spec, shape, device_of(memory))
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            call(memory, "update", keys, values)
            cross(name, lambda: CALLS[name](memory, keys, values))
    except NotImplementedError:
        return True
    except Exception as error:
        if name == "Functional" and not isinstance(memory, FunctionalMemory):
            raise PlugError(
                f"{plug.name}: read(write(init_state(()), keys, values), keys) raised {raised(error)}\n"
                "  Methods init_state, write and read are taken for the functional form, a memory without state of its "
                "own.\n  If they are helpers of another kind, say so: "
                'spec = MemorySpec(capabilities={"Functional": False})'
            ) from error
    return False
