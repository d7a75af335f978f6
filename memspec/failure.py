"""What came instead of a pass: the parts of a failure, and the one place that makes text of them."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from types import FrameType, TracebackType
from typing import Any

LONGEST = 600
"""Characters of a foreign message (an exception's, an assertion's) that a failure keeps."""

LONGEST_PART = 4000
"""Characters of one part of a failure, but for the program that repeats it, however it came by its text."""
LONGEST_PROGRAM = 15_000
"""Characters of a program that is shown whole."""
CONTROL = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b[@-_]|[\x00-\x1f\x7f-\x9f]")
"""ANSI sequences and control characters: they would paint the terminal, and break lines that are meant to be one."""

SEQUENCES = re.compile(
    r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?|\x1b[PX^_][^\x1b]*(?:\x1b\\)?|\x1b.?"
    r"|[\x00-\x08\x0b-\x1f\x7f-\x9f]"
)
"""The same for text of several lines: sequences with all they carry (a title, a link, the clipboard), and single ones."""

MACHINERY = ("memspec", "torch", "numpy", "_pytest", "pytest", "pluggy", "hypothesis", "contextlib", "functools")
SUBJECTS = ("memspec.reference", "memspec.fixtures.mutants", "memspec.fixtures.plain")
"""Parts of memspec that are memories under test, not machinery."""


@dataclass(frozen=True)
class Failure:
    """Why a check did not pass.

    Attributes:
        check, memory: the id of the check, and the plug it was asked of.
        rule: the sentence that the check states (its docstring).
        got: what came.
        expected: what should have come, and by whom it is required.
        cause: the likeliest reason.
        repeat: a command line, or a Python program, that does it again.
        done: what was done to the memory; empty where ``repeat`` alone says it.
        meaning: what the judged metric is; empty where none was judged.
        raised: the exception, ``Type: message``, where one ended the check; empty where answers were wrong.
        stack: where the memory's process was when it died; empty where it did not.
    """

    check: str
    memory: str
    rule: str
    got: str
    expected: str
    cause: str
    repeat: str
    done: str = ""
    meaning: str = ""
    raised: str = ""
    stack: str = ""

    def __post_init__(self) -> None:
        for part in fields(self):
            text = getattr(self, part.name)
            if len(text) > LONGEST_PART and part.name != "repeat":
                object.__setattr__(self, part.name, cut(text, LONGEST_PART))

    @property
    def is_command(self) -> bool:
        """Whether ``repeat`` is a command line and not a program."""
        return self.repeat.startswith(("memspec ", "pytest "))

    def __str__(self) -> str:
        """All of it as text, in one form for the terminal, the card and JUnit."""
        named = {
            "memory": self.memory,
            "rule": self.rule,
            "done": self.done,
            "meaning": self.meaning,
            "expected": self.expected,
            "likely": self.cause,
            "repeat": self.repeat if self.is_command else self._how_to_repeat(),
        }
        lines = [f"{self.check}: {self.got}", *(f"  {name + ':':<10}{text}" for name, text in named.items() if text)]
        if self.stack:
            lines += ["  stack:", *(f"    {line}" for line in self.stack.splitlines())]
        if self.repeat and not self.is_command and len(self.repeat) <= LONGEST_PROGRAM:
            lines += ["", self.repeat]
        return "\n".join(lines)

    def _how_to_repeat(self) -> str:
        """What to do with the program, if there is one: a long one, of which only the ends would be shown, is left out."""
        if len(self.repeat) <= LONGEST_PROGRAM:
            return "paste this into Python" if self.repeat else ""
        return f"a program of {len(self.repeat):,} characters, whole on the card (failure.repeat)"

    def to_json(self) -> dict[str, str]:
        return asdict(self)

    @classmethod
    def from_json(cls, data: Mapping[str, Any]) -> Failure:
        return cls(**{f.name: str(data.get(f.name, "")) for f in fields(cls)})


# ---- exceptions -----------------------------------------------------------------------------------------------


def plain(text: object, longest: int = LONGEST) -> str:
    """Foreign text on one line, without control characters; its end is left out past ``longest`` characters."""
    try:
        said = encodable(str(text)[: 20 * longest])  # of what can be shown at all; a message may be of any length
        line = " ".join(CONTROL.sub(" ", said).split())
    except Exception as error:  # a message that cannot even be made
        line = f"(its message raised {type(error).__name__})"
    return line if len(line) <= longest else line[: longest - 3].rstrip() + "..."


def plain_lines(text: object, most: int = 40) -> str:
    """Foreign text on at most so many lines, each as :func:`plain` makes it, indents kept."""
    lines = str(text).splitlines()
    kept = [line[: len(line) - len(line.lstrip(" "))] + plain(line) for line in lines[:most]]
    return "\n".join(kept + ([f"... ({len(lines) - most} more lines)"] if len(lines) > most else []))


def printable(text: object, most: int = 20_000) -> str:
    """Foreign text for a terminal: lines and tabs stay, other control characters go, and the middle of a long one."""
    return SEQUENCES.sub("", encodable(cut(str(text), most)))


def cut(text: str, most: int) -> str:
    """Text without its middle where it has more than ``most`` characters, and how many those are."""
    if len(text) <= most:
        return text
    return f"{text[: most // 2]}\n... ({len(text) - most:,} characters left out)\n{text[-most // 2 :]}"


def encodable(text: str) -> str:
    """Text in which halves of characters (as in names of files that no encoding has) are written as escapes."""
    return text.encode("utf-8", "backslashreplace").decode()


def raised(error: BaseException) -> str:
    """``Type: message`` on one line."""
    return f"{type(error).__name__}: {plain(error)}".removesuffix(": ")


def place(error: BaseException) -> str:
    """``file:line, in function`` of the innermost frame that is the memory's (or the check's) own; empty if there is none."""
    entry = _innermost(error)
    if entry is None:
        return ""
    code = entry.tb_frame.f_code
    return f"{code.co_filename}:{entry.tb_lineno}, in {code.co_name}"


def frame_of(error: BaseException) -> FrameType | None:
    """The frame that :func:`place` names."""
    entry = _innermost(error)
    return None if entry is None else entry.tb_frame


def _innermost(error: BaseException) -> TracebackType | None:
    entries = list(_entries(error.__traceback__))
    own = [entry for entry in entries if not is_machinery(entry.tb_frame)] or entries
    return own[-1] if own else None


def is_machinery(frame: FrameType) -> bool:
    """Whether a frame is memspec's, pytest's or a library's, and not the memory's or the check's own."""
    name = str(frame.f_globals.get("__name__", ""))
    return _within(name, MACHINERY) and not _within(name, SUBJECTS)


def without_harness(error: BaseException) -> None:
    """Leave memspec's own frames out of an exception's traceback (and of those that led to it), in place."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        rest: TracebackType | None = None
        for entry in reversed(list(_entries(one.__traceback__))):
            name = str(entry.tb_frame.f_globals.get("__name__", ""))
            if not (_within(name, ("memspec",)) and not _within(name, (*SUBJECTS, "memspec.suites"))):
                rest = TracebackType(rest, entry.tb_frame, entry.tb_lasti, entry.tb_lineno)
        one.__traceback__ = rest or one.__traceback__
        one = one.__cause__ or one.__context__


def _entries(entry: TracebackType | None) -> Iterator[TracebackType]:
    while entry is not None:
        yield entry
        entry = entry.tb_next


def _within(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(package + ".") for package in packages)
