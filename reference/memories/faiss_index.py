"""A flat faiss index that mirrors the keys of a state, as a source of candidates for the exact search."""

from __future__ import annotations

import importlib
from typing import Any

import torch
from torch import Tensor

from memspec.reference.ops.search import Candidates, one_batch


class FlatIndex:
    """The index of the keys it was last asked about; rebuilt for others, extended where keys were only appended.

    It holds nothing that is not in the state, and is left out of copies and pickles.

    Raises:
        ImportError: without faiss.
    """

    def __init__(self) -> None:
        try:
            self._faiss = importlib.import_module("faiss")
        except ImportError as error:
            raise ImportError(
                "NearestNeighbourMemory(index='faiss') needs faiss: pip install 'memspec[faiss]' (or faiss-cpu), "
                "or take index='exact', which needs nothing"
            ) from error
        self._keys: Tensor | None = None
        self._version = 0
        self._indices: list[Any] = []

    def __getstate__(self) -> dict[str, Any]:
        return {}

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__init__()  # type: ignore[misc]

    def of(self, keys: Tensor) -> Candidates:
        """Candidates among ``keys [..., n, Dk]``."""
        if not self._mirrors(keys):
            flat = one_batch(keys.detach())
            self._indices = [self._faiss.IndexFlatL2(keys.shape[-1]) for _ in flat]
            self._add(flat)
            self._remember(keys)
        return self._candidates

    def follow(self, old: Tensor, new: Tensor) -> None:
        """The keys ``new`` are ``old`` with rows appended: if the index is of ``old``, make it one of ``new``."""
        if self._mirrors(old):
            self._add(one_batch(new.detach()[..., old.shape[-2] :, :]))
            self._remember(new)

    def _candidates(self, queries: Tensor, count: int) -> tuple[Tensor, Tensor]:
        found = [i.search(_array(q), count) for i, q in zip(self._indices, one_batch(queries), strict=True)]
        shape = (*queries.shape[:-1], count)
        distances, indices = (torch.stack([torch.from_numpy(pair[i]) for pair in found]).view(shape) for i in (0, 1))
        return -distances.to(queries.device), indices.to(queries.device)

    def _add(self, rows: Tensor) -> None:
        for index, r in zip(self._indices, rows, strict=True):
            index.add(_array(r))

    def _remember(self, keys: Tensor) -> None:
        # Held, so that its memory is not given to another tensor meanwhile.
        self._keys, self._version = keys.detach(), _version(keys)

    def _mirrors(self, keys: Tensor) -> bool:
        return (
            self._keys is not None
            and self._keys.data_ptr() == keys.data_ptr()
            and self._keys.shape == keys.shape
            and self._keys.dtype == keys.dtype
            and self._version == _version(keys)
            and keys.numel() > 0
        )


def _version(keys: Tensor) -> int:
    """Counts changes in place, which tensors made in inference mode do not."""
    return -1 if keys.is_inference() else keys._version


def _array(rows: Tensor) -> Any:
    return rows.detach().float().cpu().contiguous().numpy()
