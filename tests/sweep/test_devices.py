"""Which device a worker takes where there are several."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from memspec.sweep import devices

TAKE = (
    "import sys; from pathlib import Path; from memspec.sweep.devices import take\n"
    "print(take(['0', '1'], Path(sys.argv[1])), flush=True); sys.stdin.read()"
)


def worker(folder: Path) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, "-c", TAKE, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )


def told(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    return process.stdout.readline().strip()


def test_workers_share_devices_out_and_give_them_back_however_they_end(tmp_path: Path) -> None:
    workers = [worker(tmp_path) for _ in range(4)]
    try:
        taken = [told(one) for one in workers]
        assert sorted(taken) == ["0", "0", "1", "1"]
        workers[0].kill()
        workers[0].wait()
        workers.append(worker(tmp_path))
        assert told(workers[-1]) == taken[0]
    finally:
        for one in workers:
            one.kill()
            one.communicate()


@pytest.mark.parametrize("there", [[], ["0"]])
def test_where_there_is_no_choice_nothing_is_taken(there: list[str], tmp_path: Path) -> None:
    assert devices.take(there, tmp_path) is None
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("named", "found"), [("", []), ("-1", []), ("2,3", ["2", "3"]), ("GPU-a", ["GPU-a"])])
def test_only_devices_that_the_worker_may_see_are_counted(
    named: str, found: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(devices.VISIBLE, named)
    assert devices.visible() == found
