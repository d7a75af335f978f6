"""How far a run of many things is: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import os
import sys
import time
from typing import Any, TextIO

EVERY = 20.0
"""Seconds between two lines where there is no terminal."""


class Counting:
    """Counts what ends.

    Args:
        total: how many there are; ``before`` of them had been done.
        what: what they are called, such as ``cells``; empty where that is plain.
        file: where to show it; standard error if None.
        every: seconds between two lines where that is no terminal.
    """

    def __init__(
        self, total: int, what: str, before: int = 0, file: TextIO | None = None, every: float = EVERY
    ) -> None:
        self.what, self.before, self.every = what, before, every
        self.file = file or sys.stderr
        self.bar: Any = None
        self.start(total)

    def start(self, total: int) -> None:
        """So many begin now."""
        self.total = total
        self.begun = self.told = time.monotonic()

    def left(self, done: int) -> float:
        """Seconds until all is done, at the rate so far; nan before anything is."""
        here = done - self.before
        return (time.monotonic() - self.begun) / here * (self.total - done) if here else math.nan

    def show(self, done: int, failed: int = 0, now: str = "") -> None:
        """So many are done, ``failed`` of them failed, and ``now`` is what runs."""
        left = self.left(done)
        soon = "" if math.isnan(left) else f", about {spell(left)} left"
        bad = f", {failed} failed" if failed else ""
        what = f" {self.what}" if self.what else ""
        if self.file.isatty():
            if self.bar is None:
                from tqdm import tqdm

                self.bar = tqdm(
                    total=self.total,
                    initial=self.before,
                    leave=False,
                    dynamic_ncols=True,
                    bar_format=f"{{n_fmt}}/{{total_fmt}}{what} {{bar:10}}{{desc}}",
                    file=self.file,
                )
            self.bar.n = done
            text = f"{soon}{bad}{f', {now}' if now else ''}".removeprefix(",")
            self.bar.set_description_str(self._clipped(text), refresh=True)
        elif time.monotonic() - self.told >= self.every:
            self.told = time.monotonic()
            running = f", now {now}" if now else ""
            print(f"memspec: {done} of {self.total}{what} done{bad}{soon}{running}", file=self.file, flush=True)

    def line(self, text: str) -> None:
        """A line of its own, above the bar where there is one."""
        if self.bar is not None:
            self.bar.clear()
        print(text, file=self.file, flush=True)

    def close(self) -> None:
        """The bar goes."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None

    def _clipped(self, text: str) -> str:
        """What has room beside the bar."""
        try:
            width = os.get_terminal_size(self.file.fileno()).columns
        except OSError:
            width = 80
        return text[: max(width - 24 - len(self.what), 8)]


def spell(seconds: float) -> str:
    """A time in words: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
