"""What the reference memories promise in common; each varies it by ``dataclasses.replace``."""

from __future__ import annotations

from dataclasses import replace

from memspec.protocol import MemorySpec

SOUND = MemorySpec(
    write="sequential",
    empty_read="zeros",
    constant_state=True,
    deterministic=True,
    nonfinite="reject",
    inference_mode=True,
    precision="own",
)
"""What nearly all of them promise: no more than good manners."""

SMOOTH = replace(SOUND, differentiable=frozenset({"query", "keys", "values"}))
"""Gradients flow to everything."""

SIGNS = replace(SOUND, write="set", key_domain="sign", value_domain="sign")
"""Memories of vectors of +-1, which add up."""

STORE = replace(SOUND, differentiable=frozenset({"values"}))
"""Stores that answer with stored values, found by a search that no gradient passes."""

CACHE = replace(STORE, family="cache")
"""Stores that answer with the value of one slot."""

ATTENDED = replace(SMOOTH, family="softmax", overwrite="blend", eviction="fifo")
"""Stores of the newest pairs that are read by a softmax over their keys."""

ADDRESSED = replace(ATTENDED, empty_read="none", fidelity="driven")
"""Memories whose heads address slots, driven as stores of pairs; their rows start as numbers near zero."""
