"""A record as an object for notebooks and scripts: verdict, tables, and how it looks."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

from memspec.errors import RecordError
from memspec.scorecard import record as records
from memspec.scorecard.record import Record

if TYPE_CHECKING:
    from pandas import DataFrame


class Card:
    """What the suites found out about one memory.

    Attributes:
        record: all of it; see :class:`memspec.scorecard.record.Record`.
    """

    def __init__(self, record: Record) -> None:
        self.record = record

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> Card:
        """The card in a file.

        Raises:
            RecordError: if it cannot be read, or holds several.
        """
        cards = records.load(Path(path))
        if len(cards) != 1:
            raise RecordError(f"{os.fspath(path)}: it holds the cards of {len(cards)} memories, not of one")
        return cls(cards[0])

    @property
    def memory(self) -> str:
        """The name of the memory."""
        return self.record.name

    @property
    def verdict(self) -> str:
        """``pass``, ``fail``, ``partial``, ...; see :attr:`memspec.scorecard.record.Record.verdict`."""
        return self.record.verdict

    @property
    def scores(self) -> DataFrame:
        """A row a score: score, low, high (95%), raw, floor, ceiling, trials, metric, description."""
        import pandas as pd

        columns = ["score", "low", "high", "raw", "floor", "ceiling", "trials", "metric", "description"]
        rows = {
            name: {**score, "low": float(score["interval"][0]), "high": float(score["interval"][1])}
            for name, score in self.record.scores.items()
        }
        return pd.DataFrame.from_dict(rows, orient="index", columns=columns).rename_axis("axis")

    @property
    def checks(self) -> DataFrame:
        """A row a check that was asked: axis, kind, status, metric, estimate, low, high, blind, trials, seconds, message.

        ``blind`` is what a memory that answers zeros reaches; where it meets the bound the status is ``measured``.
        """
        import pandas as pd

        rows = []
        for check in self.record.checks:
            low, high = check.interval or (None, None)
            rows.append(
                {
                    "id": check.id,
                    "axis": check.axis,
                    "kind": check.kind,
                    "status": check.status,
                    "metric": check.metric,
                    "estimate": check.estimate,
                    "low": low,
                    "high": high,
                    "blind": check.blind,
                    "trials": check.trials,
                    "seconds": check.seconds,
                    "message": check.message,
                }
            )
        return pd.DataFrame(rows).set_index("id") if rows else pd.DataFrame()

    def measurements(self) -> DataFrame:
        """The tidy rows: experiment, setting, trial, metric, at (NaN for scalars), value."""
        return self.record.measurements()

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write it: as Markdown to a name that ends in ``.md``, as a page to one in ``.html``, else as the JSON record."""
        from memspec.scorecard import pages

        file = Path(path)
        if file.suffix == ".md":
            records.write_atomically(file, pages.markdown([self.record]))
        elif file.suffix == ".html":
            records.write_atomically(file, pages.page([self.record]))
        else:
            records.save([self.record], file)

    def __str__(self) -> str:
        """The summary that the terminal shows."""
        from memspec.scorecard.render import terminal

        return "\n".join(text for text, _ in terminal([self.record])).strip("\n")

    def __repr__(self) -> str:
        from memspec.scorecard.render import headline

        return f"<Card of {self.memory}: {headline(self.record)[0]}>"

    def _repr_html_(self) -> str:
        """The summary as a piece of HTML."""
        from memspec.scorecard.pages import fragment

        return fragment(self.record)
