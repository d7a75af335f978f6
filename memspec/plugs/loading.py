"""From "mypkg:MyMemory(lr=0.5)" to a plug, with one clear message for every wrong use."""

from __future__ import annotations

import ast
import contextlib
import difflib
import importlib
import importlib.util
import io
import re
import sys
from pathlib import Path
from textwrap import indent
from typing import Any

from memspec.errors import MemspecError, NoSuchPlug, PlugError
from memspec.failure import place, plain, raised
from memspec.plugs.identity import name_of
from memspec.plugs.misnamed import misnamed
from memspec.plugs.plug import METHODS, Plug
from memspec.randomness import seed_of
from memspec.world.boundary import interrupts
from memspec.world.guard import guarded


def load_plug(text: str) -> Plug:
    """The plug that ``--memory=text`` names.

    Args:
        text: ``module:attribute`` or ``path/to/file.py:attribute``, either with literal keyword arguments behind it.

    Raises:
        PlugError: if it cannot be parsed, imported, found, called, or lacks a method.
    """
    factory, kwargs = find(text)
    return checked(Plug(text, factory, kwargs))


def find(text: str) -> tuple[Any, dict[str, Any]]:
    """What ``module:attribute`` or ``path/to/file.py:attribute`` names, and the literal arguments behind it.

    Raises:
        NoSuchPlug: if it cannot be parsed or found, or is nothing that can be called.
        PlugError: if it cannot be imported.
    """
    module_name, attribute, kwargs = _parse(text)
    module = _import(module_name, text)
    factory: Any = module
    for part in attribute.split("."):
        owner = factory
        try:
            factory = getattr(owner, part)
        except AttributeError:
            public = [n for n in dir(owner) if not n.startswith("_")]
            near = difflib.get_close_matches(part, public, n=3, cutoff=0.5)
            listing = ", ".join(near) if near else ", ".join(public[:20]) or "nothing public"
            raise NoSuchPlug(
                f"--memory={text}: module {module_name} has no attribute {part!r}.\n"
                f"  {'Close matches' if near else 'It has'}: {listing}"
            ) from None
    if not callable(factory):
        raise NoSuchPlug(
            f"--memory={text}: {attribute} is a {type(factory).__name__}, not something that builds memories.\n"
            "  Name a class, or a function that returns a memory:\n\n"
            "      def make(key_dim, value_dim, capacity):\n          return MyMemory(key_dim, value_dim)\n"
        )
    return factory, kwargs


def there(text: str) -> None:
    """Make sure that what a text names is there, and takes the arguments behind the name.

    Raises:
        NoSuchPlug, PlugError: see :func:`find`; NoSuchPlug also for the name of an argument that it does not take.
    """
    factory, kwargs = find(text)
    for line in misnamed(factory, kwargs):
        raise NoSuchPlug(f"--memory={text}: {line.strip()}")


def as_plug(memory: Any) -> Plug:
    """A plug from whatever a user's own ``memory`` fixture returns: a plug, a ``module:name`` string, a class or factory.

    Raises:
        PlugError: for anything else; an instance is refused, because fresh memories have to be built.
    """
    if isinstance(memory, Plug):
        return memory
    if isinstance(memory, str):
        return load_plug(memory)
    if callable(memory) and not all(hasattr(memory, m) and not isinstance(memory, type) for m in METHODS):
        return checked(Plug(name_of(memory), memory))
    raise PlugError(
        f"{plain(repr(memory), 60)} is of type {type(memory).__name__}, not something that builds memories. Return the "
        "class, a function that builds one, or a 'module:name' string: memspec builds many fresh memories from it"
    )


def checked(plug: Plug) -> Plug:
    """``plug``, after its memories were built, written and read with one pair, at widths that they can have.

    Raises:
        PlugError: at the first thing that does not work.
    """
    with guarded("being tried", plug.name):  # what a memory did meanwhile is put right here, and told by the checks
        _try(plug)
    return plug


def _try(plug: Plug) -> None:
    problem, refusal = "", None
    try:
        problem = plug.first_problem()
    except PlugError as error:
        problem, refusal = str(error), error
    except MemspecError:
        raise
    except Exception as error:  # a property that raises, or a __getattr__ that does
        where = place(error)
        raise PlugError(
            f"{plug.name}: looking at a memory raised {raised(error)}{f' (at {where})' if where else ''}"
        ) from error
    if problem:
        from memspec.plugs.advising import around, conversion_for, module_of, problem_of

        mend = conversion_for(plug)
        if mend is not None:
            module, name = module_of(plug.name)
            raise PlugError(
                f"{problem}\n  This adapter mends it. Save it as adapted.py; then the memory is adapted.py:Adapted"
                f"{plug.arguments}\n\n{indent(mend.file(module, name), '      ')}"
            )
        if refusal is not None:
            raise refusal
        if plug.always_wrong() and not plug.is_sequence_model and problem_of(plug, rows=3):
            raise PlugError(f"{problem}\n{indent(around(plug), '  ')}")
    # an answer that is wrong at one width, or to one row alone, is for the laws to tell
    _ = plug.capabilities


def parsed_name(text: str) -> tuple[str, dict[str, Any]]:
    """``module:attribute`` or ``path/to/file.py:attribute``, and the literal arguments behind it; nothing is imported.

    Raises:
        PlugError: if it cannot be parsed.
    """
    module, attribute, kwargs = _parse(text)
    return f"{module}:{attribute}", kwargs


PLUG_TEXT = re.compile(r"(?P<module>.+?):(?P<attribute>[A-Za-z_][\w.]*)\s*(?P<call>\(.*)?", re.DOTALL)


def _parse(text: str) -> tuple[str, str, dict[str, Any]]:
    """Module (or file), attribute, and literal keyword arguments."""
    match = PLUG_TEXT.fullmatch(text.strip())
    if match is None:
        if text.strip().endswith(".py"):
            raise NoSuchPlug(
                f"--memory={text}: that is a file; name what is in it, for example --memory={text.strip()}:MyMemory"
            )
        module, _, attribute = text.partition("(")[0].rpartition(".")
        near = f"{module}:{attribute}" if module and ":" not in text else "memspec.reference:DeltaMemory"
        raise NoSuchPlug(
            f"--memory={text}: write module:attribute or path/to/file.py:attribute, for example --memory={near}"
        )
    head = f"{match['module']}:{match['attribute']}"
    if not match["call"]:
        return match["module"], match["attribute"], {}
    try:
        call = ast.parse(f"f{match['call']}", mode="eval").body
        if not isinstance(call, ast.Call) or not isinstance(call.func, ast.Name):
            raise ValueError("that is not one call")
        if call.args or any(k.arg is None for k in call.keywords):
            raise NoSuchPlug(f"--memory={text}: give arguments by name, for example {head}(lr=0.5)")
        kwargs = {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}
    except (SyntaxError, ValueError) as error:
        raise NoSuchPlug(
            f"--memory={text}: cannot read the arguments ({error}); write literals by name, "
            f"for example {head}(lr=0.5, steps=3)"
        ) from error
    return match["module"], match["attribute"], kwargs


def _import(name: str, text: str) -> Any:
    cwd = str(Path.cwd())
    if cwd not in sys.path and "" not in sys.path:
        sys.path.append(cwd)  # last: a file there must not stand in for an installed package
    with contextlib.redirect_stdout(io.StringIO()):
        if name.endswith(".py"):
            return _import_file(Path(name), text)
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name and (name == error.name or name.startswith(error.name + ".")):
                raise NoSuchPlug(
                    f"--memory={text}: there is no module {error.name!r}. Looked in {cwd} and on sys.path.\n"
                    "  Is the package installed in this environment, or did you mean path/to/file.py:attribute?"
                ) from error
            raise PlugError(f"--memory={text}: importing {name} failed: {raised(error)}") from error
        except BaseException as error:  # also what steers pytest, such as a skip of the module
            if interrupts(error):
                raise
            raise PlugError(f"--memory={text}: importing {name} failed: {raised(error)}") from error


def _import_file(path: Path, text: str) -> Any:
    if not path.is_file():
        raise NoSuchPlug(f"--memory={text}: there is no file {path} (looked from {Path.cwd()})")
    path = path.resolve()
    name = f"memspec_plug_{path.stem}_{seed_of(path):x}"
    if name in sys.modules:
        return sys.modules[name]
    spec = importlib.util.spec_from_file_location(name, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # so that classes defined there can be pickled
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))  # a factory there may import its neighbours, now or when it is called
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        sys.modules.pop(name, None)
        if interrupts(error):
            raise
        raise PlugError(f"--memory={text}: running {path} failed: {raised(error)}") from error
    return module
