"""Output that outlives its reader: ``memspec score ... | head`` goes on, and its exit code is that of its verdict."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from typing import Any


class Outliving:
    """A stream of text whose reader may leave: from then on what is written goes nowhere."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return int(self.stream.write(text))
        except BrokenPipeError:
            self._into_nothing()
            return len(text)

    def writelines(self, lines: Any) -> None:
        self.write("".join(lines))

    def flush(self) -> None:
        try:
            self.stream.flush()
        except BrokenPipeError:
            self._into_nothing()

    def _into_nothing(self) -> None:
        """What waits in the stream cannot be taken back, so its file becomes one that takes everything."""
        nothing = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nothing, self.stream.fileno())
        os.close(nothing)
        self.stream.flush()


@contextlib.contextmanager
def outlived() -> Iterator[None]:
    """Standard output and error outlive their readers for a while."""
    out, err = sys.stdout, sys.stderr
    ours = Outliving(out), Outliving(err)
    sys.stdout, sys.stderr = ours
    try:
        yield
    finally:
        for stream in ours:
            with contextlib.suppress(ValueError):  # closed meanwhile
                stream.flush()
        if sys.stdout is ours[0]:
            sys.stdout = out
        if sys.stderr is ours[1]:
            sys.stderr = err
