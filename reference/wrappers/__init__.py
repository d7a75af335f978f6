"""Continual learning for any gradient memory: what protects old tasks while new ones are learnt, one module a method."""
