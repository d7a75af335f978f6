"""usearch's graph of neighbours under the suite: approximate nearest-neighbour search by cosine.

    pip install usearch==2.26.6
    pytest suites --memory=examples/usearch_index.py:Adapted

Vectors are kept as float32 (``dtype="f32"``); the library's default is smaller numbers. One thread builds the graph,
because with several its links, and which of two equal keys is found, depend on their race.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from usearch.index import Index

from memspec import MemorySpec, adapt


def build(key_dim: int) -> Any:
    """An empty index."""
    return Index(ndim=key_dim, metric="cos", dtype="f32")


def add(index: Any, numbers: Any, vectors: Any) -> None:
    """Store vectors under their numbers."""
    index.add(numbers, vectors, threads=1)


def find(index: Any, vectors: Any) -> Any:
    """The number of the nearest vector, for each."""
    return np.asarray(index.search(vectors, 1, threads=1).keys).reshape(-1).astype("int64")


SPEC = MemorySpec(family="cache", write="sequential", empty_read="zeros", deterministic=True)
Adapted = adapt(build, kind="index", update=add, query=find, spec=SPEC)
