"""Optimisers: AdamW, or Muon for matrices with AdamW for the rest; the learning-rate schedule; the moving average."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any, Literal

import torch
from torch import Tensor, nn

Kind = Literal["adamw", "muon"]


class Muon(torch.optim.Optimizer):
    """Momentum, then the nearest orthogonal matrix as the step (Jordan et al. 2024).

    Computed in the dtype of the weights: torch's own Muon works in bfloat16, which many CPUs only emulate.
    Weights of one shape go through one batched matrix product. Steps are scaled to the size of AdamW's.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient."""
        for group in self.param_groups:
            shapes: dict[torch.Size, list[nn.Parameter]] = defaultdict(list)
            for weight in group["params"]:
                if weight.grad is not None:
                    shapes[weight.shape].append(weight)
            for weights in shapes.values():
                self._step(weights, group)

    def _step(self, weights: list[nn.Parameter], group: dict[str, Any]) -> None:
        updates = []
        for weight in weights:
            assert weight.grad is not None
            momentum = self.state[weight].setdefault("momentum", torch.zeros_like(weight))
            momentum.lerp_(weight.grad, 1 - group["momentum"])
            updates.append(weight.grad.lerp(momentum, group["momentum"]))
        steps = orthogonal(torch.stack(updates).flatten(2))
        size = 0.2 * max(steps.shape[-2:]) ** 0.5
        for weight, step in zip(weights, steps):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(step.view_as(weight), alpha=-group["lr"] * size)


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """About the nearest orthogonal matrix to each of (N, rows, columns), by a quintic Newton-Schulz iteration."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


def make_optimisers(
    module: nn.Module, kind: Kind, lr: float, weight_decay: float, betas: tuple[float, float] = (0.9, 0.98)
) -> list[torch.optim.Optimizer]:
    """Optimisers for the trainable weights. With muon, hidden matrices (2 or more axes, no embedding) go to Muon."""
    trainable = [(name, weight) for name, weight in module.named_parameters() if weight.requires_grad]
    if not trainable:
        raise ValueError("nothing to train: every weight is frozen")
    matrices = [w for name, w in trainable if kind == "muon" and w.ndim >= 2 and min(w.flatten(1).shape) >= 16
                and not any(word in name for word in ("embed", "table", "shared", "proj_out"))]  # fmt: skip
    chosen = {id(weight) for weight in matrices}
    rest = [weight for _, weight in trainable if id(weight) not in chosen]
    optimisers: list[torch.optim.Optimizer] = []
    if matrices:
        optimisers.append(Muon(matrices, lr, weight_decay=weight_decay))
    if rest:
        optimisers.append(torch.optim.AdamW(rest, lr, betas, weight_decay=weight_decay, foreach=True))
    return optimisers


def schedule(step: int, steps: int, warmup: int, decay: float) -> float:
    """Factor of the learning rate: linear warm-up, flat, then a cosine to 0 over the last `decay` of all steps."""
    begin = steps * (1 - decay)
    falling = min(max(step - begin, 0.0) / max(steps - begin, 1), 1.0)
    return min(1.0, (step + 1) / max(warmup, 1)) * (0.5 + 0.5 * math.cos(math.pi * falling))


@torch.no_grad()
def average(ema: dict[str, Tensor], module: nn.Module, step: int, decay: float) -> None:
    """Move the exponential moving average (in place) towards the weights; it is quick at the beginning."""
    keep = min(decay, (1 + step) / (10 + step))
    now = module.state_dict()
    floats = [name for name in ema if ema[name].is_floating_point()]
    torch._foreach_lerp_([ema[name] for name in floats], [now[name] for name in floats], 1 - keep)


def optimiser_state(module: nn.Module, optimisers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Everything the optimisers remember, as `weight name|entry` -> tensor."""
    names = {id(weight): name for name, weight in module.named_parameters()}
    return {
        f"{names[id(weight)]}|{entry}": torch.as_tensor(value)
        for optimiser in optimisers
        for weight, memory in optimiser.state.items()
        for entry, value in memory.items()
    }


def load_optimiser_state(module: nn.Module, optimisers: list[torch.optim.Optimizer], saved: dict[str, Tensor]) -> None:
    """Undo `optimiser_state`."""
    weights = dict(module.named_parameters())
    owner = {id(w): optimiser for optimiser in optimisers for group in optimiser.param_groups for w in group["params"]}
    for key, value in saved.items():
        name, entry = key.rsplit("|", 1)
        owner[id(weights[name])].state[weights[name]][entry] = value.clone()
