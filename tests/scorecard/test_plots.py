"""What is drawn of a card, and where on the drawing it lies."""

from __future__ import annotations

import math
import re
from dataclasses import replace

import numpy as np
import pytest

from made_cards import block, card, check
from memspec.judging.verdicts import Bound
from memspec.scorecard import svg
from memspec.scorecard.overview import Point, frontier
from memspec.scorecard.panels import Band, Line, Panel, panels_of
from memspec.scorecard.pareto import pareto, paretos
from memspec.scorecard.plots import _apart, figure, figures, lines, scales
from memspec.scorecard.record import Record
from memspec.scorecard.svg import Scale

# ---- panels ---------------------------------------------------------------------------------------------------


def test_curves_and_sweeps_become_panels_with_their_bands() -> None:
    curve = block(np.random.default_rng(0).random((8, 3)), experiment="axis.curve", at=[1, 2, 3])
    sweep = [block([n / 100, n / 50], setting=f"n{n}", n=n, d=64) for n in (8, 16, 32)]
    theory = Bound(0.1, 0.3, "theory: hebbian")
    checks = [
        check(f"axis/recall/n{n}", "pass", metric="recall", experiment="axis.exp", setting=f"n{n}", bound=theory)
        for n in (8, 16)
    ]
    panels = panels_of([card(curve, *sweep, checks=checks)])
    assert panels.keys() == {"axis.curve", "axis.exp"}
    (panel,) = panels["axis.exp"]
    assert panel.x_label == "n"
    assert panel.lines[0].x.tolist() == [8, 16, 32]
    assert panel.lines[0].mean.tolist() == pytest.approx([0.12, 0.24, 0.48])
    (band,) = panel.bands
    assert band.theory
    assert band.x.tolist() == [8, 16]
    (drawn,) = panels["axis.curve"]
    assert drawn.lines[0].x.tolist() == [1, 2, 3]


def test_other_fields_that_vary_make_lines_of_their_own() -> None:
    sweep = [block([0.5, 0.6], setting=f"n{n}{p}", n=n, presented=p) for n in (8, 16, 32) for p in ("batch", "rows")]
    (panel,) = panels_of([card(*sweep)])["axis.exp"]
    assert [line.label for line in panel.lines] == ["presented batch", "presented rows"]


def test_a_single_setting_is_no_sweep() -> None:
    assert panels_of([card(block([0.5, 0.6], n=8))]) == {}


def named(name: str, *blocks: dict[str, object], checks: object = ()) -> Record:
    one = card(*blocks, checks=checks)
    one.memory["plug"] = name
    return one


def test_what_is_required_is_its_memorys_or_nobodys_if_of_all() -> None:
    sweep = [block([0.5, 0.6], setting=f"n{n}", n=n) for n in (8, 16, 32)]
    asked = {"metric": "recall", "experiment": "axis.exp", "setting": "n8"}

    def made(name: str, theory: float) -> Record:
        own = Bound(at_least=theory, source="theory: hebbian")
        alike = Bound(at_least=0.1, source="universal floor")
        checks = [check("axis/own", "pass", bound=own, **asked), check("axis/all", "pass", bound=alike, **asked)]
        return named(name, *sweep, checks=checks)

    (panel,) = panels_of([made("m:A", 0.5), made("m:B", 0.6)])["axis.exp"]
    assert {(band.label, band.memory if owned else None) for band, owned in _apart(panel.bands)} == {
        ("theory", 0),
        ("theory", 1),
        ("required", None),
    }
    drawn = lines(panel, "")
    assert 'class="b theory edge own m0"' in drawn
    assert 'class="b required edge"' in drawn
    (alone,) = panels_of([made("m:A", 0.5)])["axis.exp"]
    assert "own" not in lines(alone, "")


def test_an_axis_is_the_experiments_own_where_an_older_card_does_not_tell() -> None:
    (panel,) = panels_of([card(block([[0.5, 0.6]] * 2, experiment="robustness.noise", at=[0, 1]))])["robustness.noise"]
    assert panel.x_label == "noise sigma"


def test_a_matrix_over_tasks_is_a_heat_map_one_for_each_memory() -> None:
    values = [[1.0, 0.0, 0.25, 0.5]] * 3
    kept = block(values, experiment="forgetting.sequence", at=[0, 1, 2, 3])
    kept["metrics"]["R"] = kept["metrics"].pop("recall")
    (one,) = figures([named("m:A", kept)])
    ((_, drawn),) = one.drawings
    assert re.findall(r"fill-opacity:([\d.]+)", drawn) == ["1.00", "0.00", "0.25", "0.50"]
    assert ">.25</text>" in drawn
    (both,) = figures([named("m:A", kept), named("m:B", kept)])
    assert [name for name, _ in both.drawings] == ["A", "B"]


# ---- drawings -------------------------------------------------------------------------------------------------


def panel_of(metric: str, mean: list[float], spread: float = 0.0, high: float = math.inf) -> Panel:
    x, y = np.arange(1.0, len(mean) + 1), np.array(mean)
    return Panel(metric, "", "n", 0.0, high, [Line("", 0, 0, x, y, y - spread, y + spread)])


def texts(drawn: str) -> list[str]:
    return re.findall(r">([^<>]+)</text>", drawn)


def test_axes_show_whole_numbers_units_and_no_negative_times() -> None:
    panel = replace(panel_of("update_seconds", [2e-5, 3e-5, 2e-5], spread=1e-3), unit="s")
    drawn = lines(panel, "")
    assert any(text.endswith("µs") for text in texts(drawn))
    assert {"1", "2", "3"} <= set(texts(drawn))
    assert "1.5" not in texts(drawn)
    _, y = scales(panel)
    assert y.low == 0
    assert max(map(float, re.findall(r"[ML][\d.]+ ([\d.]+)", drawn.split('class="r"')[1]))) <= float(y(0.0))


def test_a_point_lies_where_the_axes_say() -> None:
    panel = panel_of("recall", [0.0, 0.5, 1.0], high=1.0)
    x, y = scales(panel)
    (drawn,) = re.findall(r'class="l pts" d="([^"]+)"', lines(panel, ""))
    points = [tuple(map(float, pair)) for pair in re.findall(r"([\d.]+) ([\d.]+)", drawn)]
    assert points == [pytest.approx((float(x(a)), float(y(b))), abs=0.05) for a, b in ((1, 0.0), (2, 0.5), (3, 1.0))]
    assert float(y(0.5)) == pytest.approx((float(y(0.0)) + float(y(1.0))) / 2)


def test_a_bound_far_above_makes_the_axis_logarithmic() -> None:
    panel = panel_of("share_of_ceiling", [1e-3, 2e-3, 3e-3])
    panel.bands = [Band("required", 0, np.array([3.0]), np.array([-math.inf]), np.array([1.0]), False)]
    assert scales(panel)[1].log
    assert not scales(panel_of("x", [1.0, 2.0, 3.0]))[1].log


def test_lags_have_no_lag_0() -> None:
    panel = panel_of("crp", [0.1, 0.2, 0.3, 0.1])
    panel.lines[0].x = np.array([-2.0, -1.0, 1.0, 2.0])
    (drawn,) = re.findall(r'class="l pts" d="([^"]+)"', lines(panel, ""))
    assert drawn.count("M") == 2


def test_names_and_labels_with_markup_are_text() -> None:
    panel = replace(panel_of("recall", [0.1, 0.2, 0.3], high=1.0), y_label="<b>&", x_label='"n"')
    drawn = figure(panel, "axis.<i>", ["<script>"]).drawings[0][1]
    assert "<b>" not in drawn
    assert "<i>" not in drawn
    assert "&lt;b&gt;&amp;" in drawn


@pytest.mark.parametrize(
    ("low", "high", "whole", "ticks"),
    [
        (0, 1, False, [0, 0.25, 0.5, 0.75, 1]),
        (-1, 1, False, [-1, -0.5, 0, 0.5, 1]),
        (1, 4, True, [1, 2, 3, 4]),
        (0, 22, True, [0, 5, 10, 15, 20]),
        (0, 3e-5, False, [0, 1e-5, 2e-5, 3e-5]),
    ],
)
def test_ticks_are_round_numbers(low: float, high: float, whole: bool, ticks: list[float]) -> None:
    assert svg.linear_ticks(low, high, whole=whole) == pytest.approx(ticks)


def test_ticks_of_powers_are_thinned_evenly() -> None:
    assert svg.log_ticks(1, 1e9) == pytest.approx([1, 1e2, 1e4, 1e6, 1e8])
    assert svg.log_ticks(8, 256, 2, most=7) == [8, 16, 32, 64, 128, 256]
    assert svg.log_ticks(3, 5) == [3, 5]


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (0.25, "", "0.25"),
        (16384, "B", "16.4 kB"),
        (2.5e-5, "s", "25 µs"),
        (1, "s", "1 s"),
        (1e-4, "", "1e-4"),
        (2e4, "", "20 k"),
        (0, "s", "0"),
        (0.5, "B", "0.5 B"),
        (1e-5, "B", "1e-05 B"),
    ],
)
def test_ticks_are_written_short(value: float, unit: str, text: str) -> None:
    assert svg.tick_text(value, unit) == text


def test_what_leaves_a_scale_is_drawn_at_its_edge() -> None:
    scale = Scale(1.0, 100.0, 0.0, 10.0, log=True)
    assert scale([0.0, 1.0, 10.0, 100.0, 1e6]).tolist() == pytest.approx([0, 0, 5, 10, 10])


# ---- what is paid for recall ----------------------------------------------------------------------------------


def point(memory: int, cost: float, recall: float) -> Point:
    return Point(memory, cost, recall, recall, recall)


def test_the_frontier_is_what_no_other_beats_in_both() -> None:
    found = [point(0, 4, 0.5), point(1, 1, 0.2), point(2, 4, 0.9), point(3, 9, 0.9), point(4, 2, 0.1)]
    assert [p.memory for p in frontier(found)] == [1, 2]


def test_labels_do_not_cover_each_other() -> None:
    rng = np.random.default_rng(0)
    found = [point(i, 10 ** rng.uniform(3, 6), float(rng.uniform(0, 1))) for i in range(43)]
    drawn = pareto(found, [f"Memory{i}" for i in range(43)], "bytes", "B", "recall")
    boxes = []
    for x, y, kind, name in re.findall(r'<text x="([\d.]+)" y="([\d.]+)" class="name ([^"]*)">(\w+)<', drawn):
        width = 7.0 * len(name)
        left = float(x) - (width if "end" in kind else width / 2 if "mid" in kind else 0)
        boxes.append((left, float(y) - 10, width, 12))
    assert len(boxes) > 8
    for i, (x, y, w, h) in enumerate(boxes):
        assert not any(x < a + c and a < x + w and y < b + d and b < y + h for a, b, c, d in boxes[:i])


def test_the_best_are_named_also_where_dots_are_in_the_way() -> None:
    crowd = [point(i + 2, 2e4 * 1.2**i, 0.93) for i in range(20)]
    found = [point(0, 1.6e4, 0.95), point(1, 6.5e4, 1.0), *crowd]
    drawn = pareto(found, [f"AssociativeMemory{i}" for i in range(22)], "bytes", "B", "recall")
    assert {"AssociativeMemory0", "AssociativeMemory1"} <= set(texts(drawn))


def test_one_memory_alone_is_compared_with_nothing() -> None:
    assert paretos([card()]) == []
