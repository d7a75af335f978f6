"""hnswlib's graph of neighbours under the suite: approximate nearest-neighbour search by cosine.

    pip install hnswlib==0.8.0
    pytest suites --memory=examples/hnswlib_index.py:Adapted

An index is made for a number of elements and refuses more, so that the adapter doubles it when it is full. One thread
builds the graph, because with several its links depend on their race.
"""

from __future__ import annotations

from typing import Any

import hnswlib

from memspec import MemorySpec, adapt


def build(key_dim: int) -> Any:
    """An empty index with the library's own defaults."""
    index = hnswlib.Index(space="cosine", dim=key_dim)
    index.init_index(max_elements=256, random_seed=100)
    index.set_num_threads(1)
    return index


def add(index: Any, numbers: Any, vectors: Any) -> None:
    """Store vectors under their numbers; make room first."""
    while index.get_current_count() + len(vectors) > index.get_max_elements():
        index.resize_index(2 * index.get_max_elements())
    index.add_items(vectors, numbers)


def find(index: Any, vectors: Any) -> Any:
    """The number of the nearest vector, for each."""
    return index.knn_query(vectors, k=1)[0].astype("int64")


SPEC = MemorySpec(family="cache", write="sequential", empty_read="zeros", deterministic=True)
Adapted = adapt(build, kind="index", update=add, query=find, spec=SPEC)
