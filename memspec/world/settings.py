"""Settings of the process that a call can change: cheap enough to be read before and after every call."""

from __future__ import annotations

import contextlib
import sys
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from memspec.world.disturbance import Disturbance


@dataclass(frozen=True)
class Setting:
    """One setting.

    Attributes:
        kind: its name.
        read: its value, in well under a microsecond.
        restore: sets it.
        show: a value in words.
    """

    kind: str
    read: Callable[[], Any]
    restore: Callable[[Any], object]
    show: Callable[[Any], str] = str


_guards: list[Any] = []  # modes that were entered to undo others; they act as long as they live


def _inference(was: bool) -> None:
    guard = torch.inference_mode(was)
    guard.__enter__()
    _guards.append(guard)


def _device_context() -> Any:
    """What ``torch.set_default_device`` made; torch's own question for it takes six microseconds."""
    return getattr(getattr(torch, "_GLOBAL_DEVICE_CONTEXT", None), "device_context", None)


def _unwind(depth: int) -> None:
    """Leave modes that were entered and not left: ``with torch.device(...)`` and what else overrides functions."""
    from torch.overrides import _pop_mode

    while torch._C._len_torch_function_stack() > depth:
        _pop_mode()


def _on_off(value: object) -> str:
    return "on" if value else "off"


SETTINGS = (
    Setting("grad mode", torch.is_grad_enabled, torch.set_grad_enabled, _on_off),
    Setting("inference mode", torch.is_inference_mode_enabled, _inference, _on_off),
    Setting("default dtype", torch.get_default_dtype, torch.set_default_dtype),
    Setting(
        "default device",
        _device_context,
        lambda was: torch.set_default_device(None if was is None else was.device),
        lambda context: "none" if context is None else str(context.device),
    ),
    Setting("function modes", torch._C._len_torch_function_stack, _unwind, lambda depth: f"{depth} deep"),
    Setting("number of threads", torch.get_num_threads, torch.set_num_threads),
    Setting(
        "deterministic algorithms",
        torch.are_deterministic_algorithms_enabled,
        torch.use_deterministic_algorithms,
        _on_off,
    ),
    Setting(
        "deterministic warnings",
        torch.is_deterministic_algorithms_warn_only_enabled,
        lambda was: torch.use_deterministic_algorithms(torch.are_deterministic_algorithms_enabled(), warn_only=was),
        _on_off,
    ),
    Setting("float32 precision", torch.get_float32_matmul_precision, torch.set_float32_matmul_precision),
    Setting("anomaly mode", torch.is_anomaly_enabled, torch.autograd.set_detect_anomaly, _on_off),
)
_READ = tuple(setting.read for setting in SETTINGS)

Snapshot = tuple[list[Any], list[Any], tuple[Any, ...], int]


def snapshot() -> Snapshot:
    """The settings now; :func:`changed` compares with it."""
    return [read() for read in _READ], warnings.filters, tuple(warnings.filters), len(sys.modules)  # type: ignore[return-value]


def changed(before: Snapshot, call: str) -> list[Disturbance]:
    """What is not as it was; it is put right."""
    values, filters, rules, modules = before
    found = []
    if [read() for read in _READ] != values:
        for setting, was in zip(SETTINGS, values):
            now = setting.read()
            if now != was:
                text = f"left the {setting.kind} at {setting.show(now)} (it was {setting.show(was)})"
                found.append(Disturbance(setting.kind, text, call))
                with contextlib.suppress(RuntimeError):
                    setting.restore(was)
    if warnings.filters is not filters or tuple(warnings.filters) != rules:
        if len(sys.modules) == modules:  # libraries add filters when they are imported, which may be now
            new = [rule for rule in warnings.filters if rule not in rules]
            shown = (
                f"now {new[0][0]!r} for {getattr(new[0][2], '__name__', new[0][2])}"
                if new
                else "some are gone, or in another order"
            )
            found.append(Disturbance("warning filters", f"changed the warning filters ({shown})", call))
        warnings.filters = filters
        filters[:] = rules
        warnings._filters_mutated()  # type: ignore[attr-defined]
    return found
