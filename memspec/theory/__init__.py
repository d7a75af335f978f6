"""Theory: what is known in closed form of a family of memories, and the bands that checks judge by.

One file a family (:mod:`~memspec.theory.hebbian`, :mod:`~memspec.theory.delta`, ...) holds its closed forms as small
functions and, on top of them, the class of its predictions; :func:`band` makes the bound of a check of them.
"""

from memspec.theory.bands import band
from memspec.theory.family import SMALLEST

__all__ = ["SMALLEST", "band"]
