"""A file of checks, each a call of one: what happens in the second shows in the others, or does not."""

CHECKS = '''
    import pytest
    import torch

    def ask(plug, rows):
        memory = plug.build()
        keys = torch.nn.functional.normalize(torch.randn(rows, 64, generator=torch.Generator().manual_seed(0)), dim=-1)
        memory.update(keys, keys)
        assert torch.equal(memory.query(keys), keys)

    @pytest.mark.law
    def test_first(plug):
        """One pair."""
        ask(plug, 1)

    @pytest.mark.law
    def test_second(plug):
        """Two pairs."""
        ask(plug, 2)

    @pytest.mark.claim
    def test_third(plug):
        """One pair again."""
        ask(plug, 1)
'''
