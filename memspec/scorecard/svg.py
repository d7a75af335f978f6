"""Drawing as SVG text: scales, ticks, paths. Colours are CSS's, so that a drawing follows the page it stands in.

Nothing here knows a record; :mod:`memspec.scorecard.plots` does.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

STEPS = (1.0, 2.0, 2.5, 5.0, 10.0)
PREFIXES = {-9: "n", -6: "µ", -3: "m", 0: "", 3: "k", 6: "M", 9: "G", 12: "T"}


@dataclass(frozen=True)
class Scale:
    """Numbers to places: ``low`` is drawn at ``start`` and ``high`` at ``end``; what lies outside is drawn at the edge."""

    low: float
    high: float
    start: float
    end: float
    log: bool = False

    def __call__(self, values: FloatArray | Sequence[float] | float) -> FloatArray:
        x = np.clip(np.asarray(values, dtype=float), self.low, self.high)  # NaN stays NaN
        low, high = self.low, self.high
        if self.log:
            x, low, high = np.log(x), math.log(low), math.log(high)
        return self.start + (x - low) / (high - low) * (self.end - self.start)


def linear_ticks(low: float, high: float, *, whole: bool = False, most: int = 5) -> list[float]:
    """At most ``most`` round numbers from ``low`` to ``high``; ``whole``: no fractions."""
    span = high - low
    if not (math.isfinite(span) and span > 0):
        return [low] if math.isfinite(low) else []
    power = 10.0 ** math.floor(math.log10(span / most))
    for scale in (power, 10 * power, 100 * power):
        for step in (s * scale for s in STEPS):
            if whole and step != round(step):
                continue
            first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
            if last - first + 1 <= most:
                return [round(i * step, 12) + 0.0 for i in range(first, last + 1)]
    return [low, high]


def log_ticks(low: float, high: float, base: int = 10, most: int = 5) -> list[float]:
    """Powers of ``base`` within the range, evenly thinned to ``most``; both ends where fewer than two powers lie within."""
    first, last = math.ceil(math.log(low, base) - 1e-9), math.floor(math.log(high, base) + 1e-9)
    if last - first < 1:
        return [low, high]
    step = math.ceil((last - first + 1) / most)
    return [float(base) ** i for i in range(first, last + 1, step)]


def tick_text(value: float, unit: str = "") -> str:
    """A short number: with a prefix where there is a unit that takes one, or where it is large or small."""
    if value == 0 or not math.isfinite(value):
        return f"{value:g}"
    if unit not in ("s", "B"):
        if 1e-3 <= abs(value) < 1e4:
            return f"{round(value, 6):g}"
        if abs(value) < 1e-3:
            return f"{value:.0e}".replace("e-0", "e-")
    power = min(max(3 * math.floor(math.log10(abs(value)) / 3 + 1e-9), -9), 12)
    if unit == "B":
        power = max(power, 0)
    return f"{value / 10.0**power:.3g} {PREFIXES[power]}{unit if unit in ('s', 'B') else ''}".rstrip()


def place(value: float) -> str:
    """A coordinate: a tenth of a unit is finer than anybody sees."""
    return f"{value:.1f}".removesuffix(".0")


def path(x: FloatArray, y: FloatArray) -> str:
    """A line through the points, lifted where one is no number."""
    out, pen = [], "M"
    for a, b in zip(x, y):
        if not (math.isfinite(a) and math.isfinite(b)):
            pen = "M"
            continue
        out.append(f"{pen}{place(a)} {place(b)}")
        pen = "L"
    return "".join(out)


def area(x: FloatArray, low: FloatArray, high: FloatArray) -> str:
    """The closed shape between two lines, a piece for each run of numbers."""
    sound = np.isfinite(x) & np.isfinite(low) & np.isfinite(high)
    pieces = np.split(np.arange(x.size), np.flatnonzero(np.diff(sound.astype(int))) + 1)
    return "".join(
        path(np.r_[x[p], x[p][::-1]], np.r_[low[p], high[p][::-1]]) + "Z" for p in pieces if p.size > 1 and sound[p[0]]
    )


def text(x: float, y: float, said: str, kind: str = "", turn: str = "") -> str:
    """A text element; ``kind`` is its class."""
    kinds = f' class="{kind}"' if kind else ""
    return f'<text x="{place(x)}" y="{place(y)}"{kinds}{turn}>{escaped(said)}</text>'


def escaped(said: str) -> str:
    """A text as it must stand in SVG to mean itself."""
    from markupsafe import escape

    return str(escape(said))


def drawing(width: int, height: int, parts: Iterable[str], label: str, kind: str = "") -> str:
    """The whole drawing; ``label`` is what those are told who do not see it."""
    kinds = f' class="{kind}"' if kind else ""
    told = f'role="img" aria-label="{escaped(label)}"'
    return f'<svg viewBox="0 0 {width} {height}" {told}{kinds}>{"".join(parts)}</svg>'
