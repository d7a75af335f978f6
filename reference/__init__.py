"""memspec.reference: reference implementations of neural memories, every one behind the protocol."""

from memspec.reference.memories.anchors import ExactMemory, NullMemory
from memspec.reference.memories.delta import DeltaMemory
from memspec.reference.memories.matrix import MatrixAssociativeMemory

__all__ = ["DeltaMemory", "ExactMemory", "MatrixAssociativeMemory", "NullMemory"]
