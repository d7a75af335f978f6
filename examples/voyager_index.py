"""voyager's graph of neighbours under the suite: approximate nearest-neighbour search by cosine.

pip install voyager==2.2.3
pytest suites --memory=examples/voyager_index.py:Adapted
"""

from __future__ import annotations

from typing import Any

import voyager

from memspec import MemorySpec, adapt


def build(key_dim: int) -> Any:
    """An empty index."""
    return voyager.Index(voyager.Space.Cosine, num_dimensions=key_dim, random_seed=1)


def add(index: Any, numbers: Any, vectors: Any) -> None:
    """Store vectors under their numbers."""
    index.add_items(vectors, numbers, num_threads=1)


def find(index: Any, vectors: Any) -> Any:
    """The number of the nearest vector, for each."""
    return index.query(vectors, k=1)[0].astype("int64")


SPEC = MemorySpec(family="cache", write="sequential", empty_read="zeros", deterministic=True)
Adapted = adapt(build, kind="index", update=add, query=find, spec=SPEC)
