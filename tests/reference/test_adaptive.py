"""AdaptiveMemory: plain attention while nothing is modulated, and the modulation against rescaled copies of the rows."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from drawing import EXACT, drawn
from memspec.reference import AdaptiveMemory


def built(moved=False, **options):
    torch.manual_seed(1)
    memory = AdaptiveMemory(6, 4, 8, beta=3.0, **options).double()
    if moved:
        with torch.no_grad():
            for index, parameter in enumerate(memory.parameters()):
                parameter += 0.3 * drawn(*parameter.shape, seed=index)
    return memory


def test_without_modulation_it_is_attention():
    """s = b = 0: exactly scaled dot-product attention over the stored rows, by torch's own implementation."""
    memory = built()
    keys, values, asked = drawn(5, 6), drawn(5, 4, seed=1), drawn(7, 6, seed=2)
    memory.update(keys, values)
    factor, bias = memory.modulation(F.normalize(asked, dim=-1))
    assert factor.eq(1).all()
    assert bias.eq(0).all()
    one = F.normalize(asked, dim=-1)[None]
    expected = F.scaled_dot_product_attention(one, F.normalize(keys, dim=-1)[None], values[None], scale=3.0)[0]
    torch.testing.assert_close(memory.query(asked), expected, **EXACT)


def test_modulation_rescales_every_row_before_attention():
    """Against rescaled copies of M, query by query: ``M' = M * 2 sigmoid(s) + b``, a key bias being without effect."""
    memory = built(moved=True)
    memory.update(drawn(5, 6), drawn(5, 4, seed=1))
    asked = F.normalize(drawn(7, 6, seed=2), dim=-1)
    rows = torch.cat((memory.state.keys, memory.state.values), -1)[:5]
    with torch.no_grad():
        for query, answer in zip(asked, memory.query(asked)):
            hidden = query
            for layer in memory.film:
                hidden = layer(hidden)
            s, b = hidden[:10], torch.cat((drawn(6, seed=9), hidden[10:]))
            changed = rows * 2 * torch.sigmoid(s) + b
            scores = 3.0 * changed[:, :6] @ (memory.project.weight @ query)
            torch.testing.assert_close(answer, scores.softmax(0) @ changed[:, 6:], **EXACT)


def test_reading_does_not_drift():
    """The rescaled rows are never written back: a thousand reads leave every bit."""
    memory = built(moved=True)
    memory.update(drawn(5, 6), drawn(5, 4, seed=1))
    before = memory.state.keys.clone(), memory.state.values.clone()
    for seed in range(1000):
        memory.query(drawn(1, 6, seed=seed))
    assert torch.equal(memory.state.keys, before[0])
    assert torch.equal(memory.state.values, before[1])


def test_unused_slots_have_no_weight_and_an_empty_memory_answers_zeros():
    memory = built(moved=True)
    assert torch.equal(memory.query(drawn(3, 6)), torch.zeros(3, 4, dtype=torch.float64))
    memory.update(drawn(5, 6), drawn(5, 4, seed=1))
    assert memory.weights(memory.state, drawn(3, 6, seed=2))[:, 5:].eq(0).all()


def test_hidden_is_the_width_of_the_network():
    memory = built(hidden=5)
    assert [p.shape[0] for n, p in memory.film.named_parameters() if n.endswith("weight")] == [5, 5, 14]
