"""Imported by the process that memories are loaded in copies of: whatever measuring needs is there, and has run once.

What is not done here is done again in every copy: importing the experiments alone takes longer than many a cell.
"""

from __future__ import annotations

import gc

import scipy.linalg
import scipy.special  # noqa: F401
import torch

import memspec.running.session  # noqa: F401
from memspec.experiments import catalog
from memspec.sweep import measuring, signature  # noqa: F401

torch.set_num_threads(1)  # threads that have begun would not be in the copies
torch.linalg.solve(torch.eye(4) @ torch.eye(4), torch.ones(4, 1))
catalog.experiments()
signature.measuring()
gc.collect()
gc.freeze()  # what all copies share stays shared
