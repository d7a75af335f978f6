"""memspec.analysis: figures and tables of what one memory does, for a notebook."""

from memspec.analysis.analyzer import MemoryAnalyzer
from memspec.analysis.visualizer import MemoryVisualizer

__all__ = ["MemoryAnalyzer", "MemoryVisualizer"]
