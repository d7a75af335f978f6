"""MemoryVisualizer: memory usage over time, attention patterns and contents as matplotlib figures.

Names are those of MemoryVisualizer in mwasifanwar/neural_memory_architectures. Each call makes a figure of its own, without
the state of pyplot: nothing is shown, and nothing has to be closed. matplotlib comes with ``pip install memspec[analysis]``.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure


class MemoryVisualizer:
    """Figures of one memory: ``T`` moments, ``S`` slots, ``D`` width.

    Args:
        size: of a figure, in inches.
    """

    def __init__(self, size: tuple[float, float] = (8.0, 4.5)) -> None:
        self.size = size

    def plot_memory_usage(self, usage: Tensor | Sequence[Tensor], title: str = "Memory usage over time") -> Figure:
        """Usage ``[T, S]``: a column a moment, a row a slot."""
        return self._image(_matrix(usage).T, title, "time step", "memory slot", "usage", "viridis")

    def plot_attention_patterns(self, weights: Tensor | Sequence[Tensor], title: str = "Attention patterns") -> Figure:
        """Read weights ``[T, S]``: a row a query, a column a slot."""
        return self._image(_matrix(weights), title, "memory slot", "query", "weight", "magma")

    def plot_memory_content(self, content: Tensor | Sequence[Tensor], title: str = "Memory content") -> Figure:
        """Contents ``[S, D]``, or ``[T, S, D]`` one below another: a row a slot, red above and blue below zero."""
        rows = (
            content
            if isinstance(content, Tensor)
            else torch.cat([part.reshape(-1, part.shape[-1]) for part in content])
        )
        matrix = rows.reshape(-1, rows.shape[-1])
        most = float(matrix.abs().max()) or 1.0
        return self._image(matrix, title, "dimension", "memory slot", "value", "RdBu_r", (-most, most))

    def _image(
        self,
        matrix: Tensor,
        title: str,
        across: str,
        down: str,
        shown: str,
        colours: str,
        limits: tuple[float, float] | None = None,
    ) -> Figure:
        from matplotlib.figure import Figure

        figure = Figure(figsize=self.size, layout="constrained")
        axes = figure.subplots()
        low, high = limits or (None, None)
        image = axes.imshow(
            matrix.detach().cpu().double().numpy(),
            cmap=colours,
            aspect="auto",
            interpolation="nearest",
            vmin=low,
            vmax=high,
        )
        axes.set(title=title, xlabel=across, ylabel=down)
        figure.colorbar(image, ax=axes, label=shown)
        return figure


def _matrix(rows: Tensor | Sequence[Tensor]) -> Tensor:
    """``[T, S]``.

    Raises:
        ValueError: for another number of dimensions.
    """
    matrix = rows if isinstance(rows, Tensor) else torch.stack(list(rows))
    if matrix.ndim != 2:
        raise ValueError(f"a figure takes [moments, slots]; there are {matrix.ndim} dimensions: {tuple(matrix.shape)}")
    return matrix
