"""Hashes as another process would give them: Python salts those of text and bytes anew in every process.

A table that is addressed by ``hash()`` of a key's bytes works until it is loaded elsewhere. A new interpreter would show
it, and takes seconds to import torch; another salt in this process shows the same of all who call ``hash`` by name.
"""

from __future__ import annotations

import builtins
import contextlib
from collections.abc import Iterator
from typing import Any

SALT = 0x5BD1E9955BD1E995 >> 2
"""What hashes of text and bytes are moved by."""


@contextlib.contextmanager
def salted() -> Iterator[None]:
    """Inside, ``hash`` of ``str`` and ``bytes``, and of tuples of them, is another one; that of numbers, which Python does
    not salt, and the look-up in dicts and sets, stay as they are."""
    own = builtins.hash

    def another(thing: Any) -> int:
        return own(thing) ^ SALT if _is_salted(thing) else own(thing)

    builtins.hash = another
    try:
        yield
    finally:
        builtins.hash = own


def _is_salted(thing: object) -> bool:
    return type(thing) in (str, bytes) or (type(thing) is tuple and any(map(_is_salted, thing)))
