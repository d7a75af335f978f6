"""How far a run of many jobs is: a bar in a terminal, a line now and then elsewhere."""

from __future__ import annotations

import math
import sys
import time
from typing import Any

EVERY = 20.0
"""Seconds between two lines where there is no terminal."""


class Counting:
    """Counts jobs as they end.

    Args:
        total: jobs there are; ``before`` of them had been done.
        what: what they are called, such as ``cells``.
    """

    def __init__(self, total: int, what: str, before: int = 0) -> None:
        self.total, self.what, self.before = total, what, before
        self.begun = self.told = time.monotonic()
        self.bar: Any = None

    def left(self, done: int) -> float:
        """Seconds until all is done, at the rate so far; nan before anything is."""
        here = done - self.before
        return (time.monotonic() - self.begun) / here * (self.total - done) if here else math.nan

    def show(self, done: int, failed: int = 0) -> None:
        """So many are done, and ``failed`` of them."""
        bad = f", {failed} failed" if failed else ""
        left = f"about {spell(self.left(done))} left"
        if sys.stderr.isatty():
            if self.bar is None:
                from tqdm import tqdm

                form = "{n_fmt}/{total_fmt} " + self.what + " {bar:20} {desc}"
                self.bar = tqdm(
                    total=self.total,
                    initial=self.before,
                    leave=False,
                    dynamic_ncols=True,
                    bar_format=form,
                    file=sys.stderr,
                )
            self.bar.n = done
            self.bar.set_description_str(left + bad, refresh=True)
        elif time.monotonic() - self.told > EVERY:
            self.told = time.monotonic()
            print(f"memspec: {done} of {self.total} {self.what} done{bad}, {left}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """The bar goes."""
        if self.bar is not None:
            self.bar.close()
            self.bar = None


def spell(seconds: float) -> str:
    """A time in words: ``40 s``, ``12 min``, ``3.5 h``."""
    if seconds < 120:
        return f"{seconds:.3g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"
