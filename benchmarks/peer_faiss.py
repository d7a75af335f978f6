"""NearestNeighbourMemory beside faiss-cpu's flat inner-product index: the same neighbours of the same queries."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from timing import Row, in_turn

SIZES = ((1024, 256, 1), (8192, 256, 1), (65536, 256, 1), (65536, 256, 16), (65536, 1, 1))
"""Stored, queries, neighbours."""
WIDTH = 64


def faiss_peer(seconds: float) -> Iterator[Row]:
    """Search only, over unit keys; with k = 1 the answers must be the same values."""
    import faiss

    from memspec.reference import NearestNeighbourMemory

    faiss.omp_set_num_threads(torch.get_num_threads())
    for stored, queries, k in SIZES:
        torch.manual_seed(0)
        keys = torch.nn.functional.normalize(torch.randn(stored, WIDTH), dim=-1)
        values = torch.randn(stored, WIDTH)
        cues = torch.nn.functional.normalize(keys[:queries] + 0.1 * torch.randn(queries, WIDTH), dim=-1)
        memory = NearestNeighbourMemory(WIDTH, WIDTH, neighbours=k)
        memory.update(keys, values)
        index = faiss.IndexFlatIP(WIDTH)
        index.add(keys.numpy())
        query = cues.numpy()

        def theirs(index=index, query=query, values=values, k=k) -> torch.Tensor:  # type: ignore[no-untyped-def]
            _, found = index.search(query, k)
            return values[torch.from_numpy(found)].mean(1)

        def ours(memory=memory, cues=cues) -> torch.Tensor:  # type: ignore[no-untyped-def]
            return memory.query(cues)

        with torch.no_grad():
            apart = float((ours() - theirs()).abs().max()) if k == 1 else None
            seconds_ours, seconds_theirs = in_turn(ours, theirs, seconds)
        yield Row("faiss", f"{queries} queries, {stored} stored, k {k}", seconds_ours, seconds_theirs, apart)
