"""Slots that learn: a softmax-addressed store whose every write is a few gradient steps on its own recall error."""

from __future__ import annotations

import dataclasses
import math
from typing import Literal, NamedTuple, Self

import torch
from torch import Tensor, nn

from memspec.functional import map_state, state_tensors
from memspec.options import Count, Positive, checked
from memspec.reference.memories.slots import SlotMemory
from memspec.reference.memories.specs import SMOOTH
from memspec.reference.ops.softmax import softmax_weights

BETA1, BETA2, EPS = 0.9, 0.999, 1e-8
"""Adam's moments and floor, as in Kingma and Ba 2015 and as torch's defaults."""


class AdamState(NamedTuple):
    """Running means of gradients and of their squares, shaped as keys and values; ``steps [...]`` taken."""

    key_mean: Tensor
    key_square: Tensor
    value_mean: Tensor
    value_square: Tensor
    steps: Tensor


class EpisodicState(NamedTuple):
    """``keys [..., S, Dk]``, ``values [..., S, Dv]``, and the optimiser's moments where it has any."""

    keys: Tensor
    values: Tensor
    adam: AdamState | None


class EpisodicMemory(SlotMemory):
    """``r = softmax(scale q K^T) V``; an update takes gradient steps on ``|r(k) - v|^2`` in K and V.

    Keys and values of the slots start as N(0, 1). All rows of an update share one gradient, so their order does not
    matter, but a split update is another write. The gradient is written out, with ``A`` the weights:
    ``E = dLoss/dR``, ``dV = A^T E``, ``G = E V^T``, ``dZ = A * (G - rowsum(A * G))``, ``dK = scale dZ^T k``; so it
    needs no autograd, works under ``inference_mode``, and can itself be differentiated.

    The defaults are the source's and hardly learn: the mean over N Dv numbers makes the step on a single pair
    ``2 lr / Dv``. :meth:`learning` is a setting that does learn.

    Args:
        memory_size: slots S.
        lr: inner learning rate.
        update_steps: gradient steps an update.
        optimiser: ``sgd``, or ``adam`` whose moments are part of the state.
        scale: inverse temperature of the softmax; None is ``1 / sqrt(Dk)``.
        reduction: of the squared errors: ``mean`` over pairs and entries (the source), ``items`` the mean over pairs
            of the sum over entries (then the step does not shrink with the width), ``sum`` over both.
        presentations: how often a batch is shown before it counts as stored; declared in the spec.

    A step whose gradient overflows (its squared norm is not finite in float32) is not taken, so the state stays finite.

    Raises:
        ValueError: for an option outside its range.

    Source: EpisodicMemory in erlebach/memory_experiments.
    """

    spec = dataclasses.replace(SMOOTH, write="joint", presentations=20, empty_read="none")
    slot_usage = confidence = None  # type: ignore[assignment]  # every slot is in use from the start

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        memory_size: Count = 100,
        lr: Positive = 0.01,
        update_steps: Count = 1,
        optimiser: Literal["sgd", "adam"] = "sgd",
        scale: Positive | None = 1.0,
        reduction: Literal["mean", "items", "sum"] = "mean",
        presentations: Count = 20,
    ) -> None:
        super().__init__(key_dim, value_dim, memory_size)
        self.slot_key_dim, self.slot_value_dim = key_dim, value_dim
        self.lr, self.update_steps, self.optimiser, self.reduction = lr, update_steps, optimiser, reduction
        self.scale = scale
        self.spec = dataclasses.replace(self.spec, presentations=presentations)

    @classmethod
    def learning(cls, key_dim: int, value_dim: int, memory_size: int = 100) -> Self:
        """A setting that learns: the source's, with Adam at lr 0.3 and ten presentations.

        Adam's step does not shrink with the width of the values, which is what keeps the source's defaults from
        learning. At Dk = Dv = 64, 64 pairs shown together ten times are all recalled, with a fifth of the squared
        error left.
        """
        return cls(key_dim, value_dim, memory_size=memory_size, lr=0.3, optimiser="adam", presentations=10)

    def init_state(self, batch_shape: tuple[int, ...] = ()) -> EpisodicState:
        # Drawn on the CPU in float32, so that the same seed gives the same slots on every device and dtype.
        keys = torch.randn(*batch_shape, self.slots, self.slot_key_dim, device="cpu", dtype=torch.float32)
        values = torch.randn(*batch_shape, self.slots, self.slot_value_dim, device="cpu", dtype=torch.float32)
        keys, values = keys.to(**self.like), values.to(**self.like)
        if self.optimiser == "sgd":
            return EpisodicState(keys, values, None)
        key_mean, key_square = torch.zeros_like(keys), torch.zeros_like(keys)
        value_mean, value_square = torch.zeros_like(values), torch.zeros_like(values)
        steps = torch.zeros(batch_shape, dtype=torch.int64, device=keys.device)
        return EpisodicState(keys, values, AdamState(key_mean, key_square, value_mean, value_square, steps))

    def write(self, state: EpisodicState, keys: Tensor, values: Tensor) -> EpisodicState:
        for _ in range(self.update_steps):
            grad_keys, grad_values = self._gradient(state, keys, values)
            finite = torch.isfinite(_squared_norm(grad_keys) + _squared_norm(grad_values))
            stepped = self._stepped(state, grad_keys, grad_values)
            state = stepped if bool(finite.all()) else _chosen(finite, stepped, state)
        return state

    def _gradient(self, state: EpisodicState, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Of the loss, in the slots' keys ``[..., S, Dk]`` and values ``[..., S, Dv]``."""
        n, width = values.shape[-2:]
        count = {"mean": n * width, "items": n, "sum": 1}[self.reduction]
        weights = self._addressed(state, keys)
        error = (weights @ state.values - values) * (2 / count)
        by_weight = error @ state.values.mT
        by_score = weights * (by_weight - (weights * by_weight).sum(-1, keepdim=True))
        return self._scale * by_score.mT @ keys, weights.mT @ error

    def _stepped(self, state: EpisodicState, grad_keys: Tensor, grad_values: Tensor) -> EpisodicState:
        if state.adam is None:
            return EpisodicState(state.keys - self.lr * grad_keys, state.values - self.lr * grad_values, None)
        old = state.adam
        steps = old.steps + 1
        age = steps[..., None, None].to(torch.promote_types(grad_keys.dtype, torch.float32))
        # 1 - beta^age by expm1: the plain difference loses most of its digits in float32 while age is small.
        first, second = (-torch.expm1(age * math.log(beta)).to(grad_keys.dtype) for beta in (BETA1, BETA2))
        key_mean, value_mean = old.key_mean.lerp(grad_keys, 1 - BETA1), old.value_mean.lerp(grad_values, 1 - BETA1)
        key_square = (BETA2 * old.key_square).addcmul(grad_keys, grad_keys, value=1 - BETA2)
        value_square = (BETA2 * old.value_square).addcmul(grad_values, grad_values, value=1 - BETA2)
        return EpisodicState(
            state.keys - self.lr * key_mean / first / (_root(key_square / second) + EPS),
            state.values - self.lr * value_mean / first / (_root(value_square / second) + EPS),
            AdamState(key_mean, key_square, value_mean, value_square, steps),
        )

    def weights(self, state: EpisodicState, keys: Tensor) -> Tensor:
        return self._addressed(state, self.queries(keys))

    @property
    def _scale(self) -> float:
        return self.slot_key_dim**-0.5 if self.scale is None else self.scale

    def _addressed(self, state: EpisodicState, keys: Tensor) -> Tensor:
        return softmax_weights(keys, state.keys, self._scale)


class ProjectingEpisodicMemory(EpisodicMemory):
    """An EpisodicMemory of width ``memory_dim`` behind projections: ``k' = P_k k``, ``v' = P_v v``, ``r = D_v r'``.

    The inner gradient steps move the slots only, never the projections: its target is ``P_v v``, so that steps in
    ``P_v`` would shrink the target instead of the error. With ``memory_dim`` below the width of the values no answer
    comes nearer than ``|v - D_v P_v v|^2``, on average ``(1 - memory_dim / Dv) |v|^2`` for random values.

    Args:
        memory_dim: width of the slots' keys and values.
        projection: ``orthonormal``: P_k and P_v are random with orthonormal rows (columns, where ``memory_dim`` is
            the larger), frozen, and the decoder is P_v transposed. ``learned``: the same to start with, but P_k, P_v
            and D_v are trainable, by :meth:`auxiliary_loss` or any other outer loss.
        others: as :class:`EpisodicMemory`.

    Source: ProjectingEpisodicMemory in the discussion that comes with erlebach/memory_experiments, with the decoder
    it lacks.
    """

    key_projection: Tensor
    value_projection: Tensor
    own_decoder: Tensor | None

    @checked
    def __init__(
        self,
        key_dim: int,
        value_dim: int,
        memory_dim: Count = 64,
        memory_size: Count = 100,
        lr: Positive = 0.01,
        update_steps: Count = 1,
        optimiser: Literal["sgd", "adam"] = "sgd",
        scale: Positive | None = 1.0,
        reduction: Literal["mean", "items", "sum"] = "mean",
        presentations: Count = 20,
        projection: Literal["orthonormal", "learned"] = "orthonormal",
    ) -> None:
        super().__init__(key_dim, value_dim, memory_size, lr, update_steps, optimiser, scale, reduction, presentations)
        self.memory_dim = self.slot_key_dim = self.slot_value_dim = memory_dim
        key_projection, value_projection = _orthonormal(memory_dim, key_dim), _orthonormal(memory_dim, value_dim)
        if projection == "learned":
            self.key_projection = nn.Parameter(key_projection)
            self.value_projection = nn.Parameter(value_projection)
            self.own_decoder = nn.Parameter(value_projection.mT.clone())
        else:
            self.register_buffer("key_projection", key_projection)
            self.register_buffer("value_projection", value_projection)
            self.own_decoder = None

    @classmethod
    def learning(cls, key_dim: int, value_dim: int, memory_size: int = 100, memory_dim: int = 64) -> Self:
        """As :meth:`EpisodicMemory.learning`, with frozen orthonormal projections."""
        return cls(key_dim, value_dim, memory_dim, memory_size, lr=0.3, optimiser="adam", presentations=10)

    @property
    def decoder(self) -> Tensor:
        """``D_v [Dv, memory_dim]``."""
        return self.value_projection.mT if self.own_decoder is None else self.own_decoder

    def write(self, state: EpisodicState, keys: Tensor, values: Tensor) -> EpisodicState:
        return super().write(state, self.queries(keys), values @ self.value_projection.mT)

    def queries(self, keys: Tensor) -> Tensor:
        return keys @ self.key_projection.mT

    def stored_values(self, state: EpisodicState) -> Tensor:
        return state.values @ self.decoder.mT

    def read(self, state: EpisodicState, keys: Tensor) -> Tensor:
        return self.weights(state, keys) @ state.values @ self.decoder.mT

    def auxiliary_loss(self, keys: Tensor, values: Tensor) -> Tensor:
        """Mean over pairs of ``|D_v r' - v|^2``, and of ``|D_v P_v v - v|^2``: what the projections are trained by.

        The second term reaches P_v, which the answers to what is already stored do not depend on.
        """
        keys, values = self._checked(keys, "keys", self.key_dim), self._checked(values, "values", self.value_dim)
        recall = self.read(self.state, keys) - values
        coding = values @ self.value_projection.mT @ self.decoder.mT - values
        return (recall.square() + coding.square()).sum(-1).mean()


def _squared_norm(grad: Tensor) -> Tensor:
    """``[...]`` of ``[..., S, D]``, in at least float32."""
    return grad.detach().to(torch.promote_types(grad.dtype, torch.float32)).square().sum((-2, -1))


def _root(squares: Tensor) -> Tensor:
    """The square root, with a derivative of 0 at 0: a gradient that was always 0 makes no step."""
    if not squares.requires_grad:
        return squares.sqrt()
    positive = squares > 0
    return torch.where(positive, torch.where(positive, squares, 1.0).sqrt(), 0.0)


def _chosen(taken: Tensor, new: EpisodicState, old: EpisodicState) -> EpisodicState:
    """``new`` for the memories ``taken [...]``, ``old`` for the others."""
    kept = iter(state_tensors(old))

    def choose(tensor: Tensor) -> Tensor:
        mask = taken if tensor.ndim == taken.ndim else taken[..., None, None]
        return torch.where(mask, tensor, next(kept))

    return map_state(choose, new)


def _orthonormal(rows: int, columns: int) -> Tensor:
    """A random ``[rows, columns]`` matrix with orthonormal rows, or columns where there are more rows."""
    return nn.init.orthogonal_(torch.empty(rows, columns))
