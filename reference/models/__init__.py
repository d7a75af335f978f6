"""memspec.reference.models: networks that carry a memory, under the names that their sources use.

Those that run over sequences are Recurrent plugs; their constructors take the sources' names (``input_size``,
``hidden_size``, ``output_size``, ``memory_size``, ``memory_dim``), and no two of these need be equal.
"""

from __future__ import annotations

from memspec.reference.lazily import lazily

_HOME = {
    "ContinualLearningModel": "continual",
    "DifferentiableNeuralComputer": "native",
    "KnowledgeGraphModel": "knowledge",
    "MemoryAugmentedNetwork": "augmented",
    "MemoryEnhancedRNN": "stacked",
    "MemoryTransformer": "transformer",
    "MetaNetwork": "meta",
    "NeuralTuringMachine": "native",
    "ReasoningNetwork": "reasoning",
    "TemporalMemoryModel": "temporal",
}
"""Every model, and the module of this package that holds it."""

__all__ = [*_HOME]

__getattr__, __dir__ = lazily(__name__, _HOME)
