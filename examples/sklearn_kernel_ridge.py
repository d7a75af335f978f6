"""scikit-learn's kernel ridge regression under the suite: an associative memory fitted anew with every write.

    pip install scikit-learn==1.9.1
    pytest suites --memory=examples/sklearn_kernel_ridge.py:Adapted

The equations of a kernel are ill-conditioned: in float32 the answer to a row moves by 1e-4 with the rows beside it.
"""

from __future__ import annotations

from typing import Any

import torch
from sklearn.kernel_ridge import KernelRidge

from memspec import MemorySpec, adapt


def build() -> Any:
    """A Gaussian kernel that tells unit vectors of 64 entries apart, and hardly any regularisation."""
    return KernelRidge(kernel="rbf", gamma=2.0, alpha=1e-2)


SPEC = MemorySpec(empty_read="zeros", deterministic=True)
Adapted = adapt(build, kind="estimator", dtype=torch.float64, spec=SPEC)
