"""Which accelerator a worker uses where there are several: each worker of a machine takes one, and keeps it while it lives."""

from __future__ import annotations

import functools
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path

try:
    import fcntl
except ImportError:  # not on Windows
    fcntl = None  # type: ignore[assignment]

VISIBLE = "CUDA_VISIBLE_DEVICES"
_HELD: list[int] = []


@functools.cache
def environment_of_worker() -> dict[str, str]:
    """What the processes of this worker find in their environment: the one device they see, where there are several."""
    taken = take(visible())
    return {} if taken is None else {VISIBLE: taken}


def visible() -> list[str]:
    """The names of the devices that this worker may use; none of them is initialised in this process' children."""
    named = os.environ.get(VISIBLE)
    if named is not None:
        return [name.strip() for name in named.split(",") if name.strip() not in ("", "-1")]
    import torch

    return [str(number) for number in range(torch.cuda.device_count())]


def take(devices: Sequence[str], folder: Path | None = None) -> str | None:
    """The device with the fewest workers, until this process ends; None where there is no choice.

    Each place on a device is a locked file, which the operating system frees however a worker ends, so that workers
    of all kinds (processes, Dask's, of several sweeps) share the devices of a machine without a word to each other.
    """
    if len(devices) < 2 or fcntl is None:
        return None
    place = folder or Path(tempfile.gettempdir(), f"memspec-devices-{os.getuid()}")
    place.mkdir(mode=0o700, exist_ok=True)
    for round_ in range(1024):
        for device in devices:
            handle = os.open(place / f"{device.replace('/', '_')}-{round_}", os.O_RDWR | os.O_CREAT, 0o600)
            try:
                fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except OSError:
                os.close(handle)
                continue
            _HELD.append(handle)
            return device
    return devices[os.getpid() % len(devices)]
