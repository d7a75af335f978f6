"""What two results must agree in to stand side by side: versions, kinds of numbers, and the code that measured and was measured."""

from __future__ import annotations

import functools
import hashlib
import importlib
import json
import sys
import sysconfig
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from memspec.plugs.plug import Plug

MEASURING = ("experiments", "plugs", "world", "fixtures/data", "functional.py", "protocol.py", "randomness.py")
"""Parts of memspec that decide what a number comes to."""


def signature_of(plug: Plug, tier: str, before: Iterable[str]) -> dict[str, Any]:
    """The signature of a memory's cells, in a process that has just loaded it.

    Args:
        before: names of the modules that were there before it was loaded.
    """
    import torch

    from memspec import __version__
    from memspec.running.session import package_of

    package, version = package_of(plug.factory)
    return {
        "memory": plug.name,
        "package": package,
        "version": version,
        "code": code_of(plug.factory, set(sys.modules) - set(before)),
        "memspec": __version__,
        "measuring": measuring(),
        "torch": torch.__version__,
        "python": ".".join(map(str, sys.version_info[:2])),
        "dtype": str(torch.get_default_dtype()).removeprefix("torch."),
        "tier": tier,
    }


def unloaded_signature(memory: str, tier: str, cause: str) -> dict[str, Any]:
    """The signature of the cells of a memory that could not be loaded: of its code nothing is known but why."""
    import torch

    from memspec import __version__

    return {
        "memory": memory,
        "package": "",
        "version": "",
        "code": f"not loaded ({hashlib.blake2b(cause.encode(), digest_size=8).hexdigest()})",
        "memspec": __version__,
        "measuring": measuring(),
        "torch": torch.__version__,
        "python": ".".join(map(str, sys.version_info[:2])),
        "dtype": "",
        "tier": tier,
    }


def digest_of(signature: Mapping[str, Any]) -> str:
    """The signature in twelve hexadecimal digits: the name of the folder of its results."""
    text = json.dumps(signature, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def differing(ours: Mapping[str, Any], theirs: Mapping[str, Any]) -> str:
    """What two signatures do not agree in, in words."""
    names = [n for n in dict.fromkeys([*ours, *theirs]) if ours.get(n) != theirs.get(n)]
    return ", ".join(f"{name} {ours.get(name)} and not {theirs.get(name)}" for name in names)


@functools.cache
def measuring() -> str:
    """A digest of memspec's own code, as far as numbers depend on it."""
    import memspec

    fixtures = importlib.import_module("memspec.fixtures")  # it stands beside this package, under its name
    roots = {"fixtures": Path(str(fixtures.__path__[0]))}
    files = []
    for part in MEASURING:
        head, _, rest = part.partition("/")
        root = roots.get(head, Path(str(memspec.__path__[0]), head)) / rest
        files += [root] if root.suffix else sorted(root.rglob("*.py"))
    return _digest(files)


def code_of(factory: Any, new: Iterable[str]) -> str:
    """A digest of the source a memory was loaded from: its own package or folder, and what is not installed."""
    home = str(getattr(factory, "__module__", "") or "")
    top = ".".join(home.split(".")[: 2 if home.startswith("memspec.") else 1])
    files = [file for name in new if (file := _source(name, sys.modules.get(name), top)) is not None]
    return _digest(sorted(files))


def _source(name: str, module: ModuleType | None, top: str) -> Path | None:
    """The file of a module, if a memory's numbers may depend on how it reads today."""
    path = getattr(module, "__file__", None)
    if not path or not str(path).endswith(".py"):
        return None
    if f"{name}.".startswith(f"{top}."):
        return Path(path)
    if f"{name}.".startswith("memspec."):
        return None  # in ``measuring``, or of no consequence
    installed = {sysconfig.get_path(p) for p in ("stdlib", "platstdlib", "purelib", "platlib")}
    foreign = any(str(path).startswith(f"{folder}/") for folder in installed) or "site-packages" in Path(path).parts
    return None if foreign else Path(path)


def _digest(files: Iterable[Path]) -> str:
    made = hashlib.blake2b(digest_size=8)
    for file in files:
        made.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    return made.hexdigest()
