"""How often the suites call a memory, by check: ``python benchmarks/calls.py PLUG [GLOB ...]``.

What a slow memory waits for. Calls are counted at the memory's own methods (update, query, reset, write, read).
"""

from __future__ import annotations

import os
import sys
from collections import Counter

import pytest

from memspec.plugs.meter import METER
from memspec.running.checks import identify
from memspec.running.run import is_check


class Counting:
    """Notes how many calls each check makes, whatever it asks for first."""

    def __init__(self) -> None:
        self.by_check: dict[str, int] = {}
        self.kinds: dict[str, str] = {}

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item: pytest.Item):  # type: ignore[no-untyped-def]
        before = METER.calls.total()
        done = yield
        if is_check(item):
            check = identify(item)
            self.by_check[check.id] = METER.calls.total() - before
            self.kinds[check.id] = check.kind
        return done


def main() -> None:
    """Count, and print: totals by kind and axis, and the checks that call most."""
    plug, *globs = sys.argv[1:] or ["memspec.fixtures.plain:PlainSums"]
    os.environ["PYTEST_DISABLE_PLUGIN_AUTOLOAD"] = "1"  # the plugin is named below
    METER.on = True
    counting = Counting()
    arguments = ["--pyargs", "memspec.suites", f"-c{os.devnull}", "-q", "--no-header", "-rN", "-p", "no:cacheprovider"]
    arguments += ["-p", "memspec.plugin", "--import-mode=importlib", "--memspec-no-isolate", f"--memory={plug}"]
    pytest.main([*arguments, *(f"--memspec-checks={glob}" for glob in globs)], plugins=[counting])
    print(f"{plug}: {METER.calls.total():,} calls ({', '.join(f'{n:,} {m}' for m, n in METER.calls.most_common())})")
    for title, group in (("kind", counting.kinds), ("axis", {i: i.split("/")[0] for i in counting.by_check})):
        totals: Counter[str] = Counter()
        for check, calls in counting.by_check.items():
            totals[group[check]] += calls
        print(f"by {title}: " + ", ".join(f"{name} {calls:,}" for name, calls in totals.most_common()))
    for check, calls in Counter(counting.by_check).most_common(25):
        print(f"{calls:>8,}  {check}")


if __name__ == "__main__":
    main()
