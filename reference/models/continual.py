"""ContinualLearningModel: banks of memory, of which the input itself chooses, so that tasks are kept apart without a label."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from memspec.networks.sequence import SequenceModel
from memspec.options import Count, checked
from memspec.reference.layers.held import HeldMemory, Named


class ContinualLearningModel(SequenceModel):
    """``e = W_2 relu(W_1 x)``; bank i is written, and read, as far as ``p = softmax(W_p e)_i`` says; ``y = W [e; sum_i p_i r_i]``.

    Every bank is written the same pair and asked the same query; no task is named, to learn or to answer. A bank whose
    share is 0 stays as it is, bit for bit.

    Args:
        input_size, hidden_size, output_size: widths of inputs, of e, and of outputs.
        memory_size, memory_dim: capacity, and width of keys and values, of each bank.
        num_tasks: banks.
        memory: any Functional memory whose state does not grow.

    Source: ContinualLearningModel in mwasifanwar/neural_memory_architectures, which is told the task and gives each a bank of
    its own, so that it cannot forget; its task classifier, of which nothing depended there, chooses here.
    """

    @checked
    def __init__(
        self,
        input_size: Count,
        hidden_size: Count,
        output_size: Count,
        memory_size: Count = 128,
        memory_dim: Count = 20,
        num_tasks: Count = 10,
        memory: Named = "DeltaMemory",
    ) -> None:
        super().__init__()
        self.input_size, self.output_size, self.num_tasks = input_size, output_size, num_tasks
        self.encoder = nn.Sequential(nn.Linear(input_size, hidden_size), nn.ReLU(), nn.Linear(hidden_size, hidden_size))
        self.task_classifier = nn.Linear(hidden_size, num_tasks)
        self.rows = nn.Linear(hidden_size, 3 * memory_dim, bias=False)
        self.held = HeldMemory(memory, memory_dim, memory_dim, memory_size, num_tasks)
        self.output = nn.Linear(hidden_size + memory_dim, output_size)

    def initial_state(self, batch: int) -> Any:
        return self.held.start(batch)

    def step(self, x: Tensor, state: Any) -> tuple[Tensor, Any]:
        encoded = self.encoder(x)
        share = self.task_classifier(encoded).softmax(-1)
        rows = self.rows(encoded).unflatten(-1, (3, 1, 1, -1)).expand(-1, -1, self.num_tasks, -1, -1)
        query, key, value = rows.unbind(1)
        state = self.held.write(state, key, value, share, None)
        read = (self.held.read(state, query).squeeze(-2) * share.unsqueeze(-1)).sum(1)
        return self.output(torch.cat((encoded, read), -1)), state
