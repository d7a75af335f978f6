"""memspec.reference: reference implementations of neural memories, every one behind the protocol.

Names are loaded when they are first asked for, so that one memory does not pay for the import of all.
"""

from __future__ import annotations

from memspec.reference.lazily import lazily

_HOME = {
    "AdaptiveMemory": "adaptive",
    "AssociativeMemory": "associative",
    "AttentionMemory": "attention",
    "BidirectionalMemory": "associative",
    "CachedMemory": "cached",
    "DNCMemory": "dnc",
    "DeltaMemory": "delta",
    "DynamicMemory": "dynamic",
    "EpisodicMemory": "episodic",
    "ExactMemory": "anchors",
    "FIFOMemory": "policies",
    "GatedDeltaMemory": "gated_delta",
    "GatedMemory": "gated",
    "HierarchicalMemory": "hierarchical",
    "HolographicMemory": "superposition",
    "HopfieldMemory": "associative",
    "KeyValueMemoryNetwork": "memory_network",
    "LRUAMemory": "lrua",
    "LRUMemory": "policies",
    "LSHMemory": "lsh",
    "LeastSquaresMemory": "least_squares",
    "LinearAttentionMemory": "linear_attention",
    "LinformerMemory": "linformer",
    "MatrixAssociativeMemory": "matrix",
    "MbPAMemory": "mbpa",
    "MemoryCell": "cell",
    "MemoryNetwork": "memory_network",
    "NTMMemory": "ntm",
    "NearestNeighbourMemory": "neighbours",
    "NullMemory": "anchors",
    "ProductKeyMemory": "product_key",
    "ProjectingEpisodicMemory": "episodic",
    "RandomEvictionMemory": "policies",
    "RareEventsMemory": "rare_events",
    "ReservoirMemory": "policies",
    "SoftmaxMemory": "softmax",
    "SparseDistributedMemory": "superposition",
    "SparseMemory": "sparse",
    "TTTMemory": "ttt",
    "TitansMemory": "titans",
    "TrainableMemory": "trainable",
}
"""Every reference memory, and the module of ``memspec.reference.memories`` that holds it."""

_WRAPPERS = {
    "ElasticWeightConsolidation": "consolidation",
    "GradientEpisodicMemory": "gradient_projection",
}
"""Every memory that wraps another, and the module of ``memspec.reference.wrappers`` that holds it."""

__all__ = [*_HOME, *_WRAPPERS]

_PLACES = {name: f"memories.{module}" for name, module in _HOME.items()} | {
    name: f"wrappers.{module}" for name, module in _WRAPPERS.items()
}
__getattr__, __dir__ = lazily(__name__, _PLACES)
