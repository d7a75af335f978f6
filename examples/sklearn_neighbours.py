"""scikit-learn's exact neighbours under the suite.

    pip install scikit-learn==1.9.1
    pytest suites --memory=examples/sklearn_neighbours.py:Adapted

A search structure of scikit-learn cannot grow: it is fitted to all keys again with every write.
"""

from __future__ import annotations

from typing import Any

from sklearn.neighbors import NearestNeighbors

from memspec import MemorySpec, adapt


def build() -> Any:
    """Brute force by cosine: no tree helps at 64 dimensions."""
    return NearestNeighbors(n_neighbors=1, metric="cosine", algorithm="brute")


SPEC = MemorySpec(family="cache", write="sequential", empty_read="zeros", deterministic=True)
Adapted = adapt(build, kind="index", spec=SPEC)
