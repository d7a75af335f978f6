"""What is done to a memory and what is measured: one module an axis, pure functions.

Every experiment is an :class:`~memspec.experiments.base.Experiment`; its ``measure`` returns tensors over trials and
its ``run`` the same as one tidy DataFrame. Judging, bounds and records are elsewhere.
"""
