"""Optimisers: AdamW, or Muon for matrices with AdamW for the rest; the learning-rate schedule; the moving average."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from longtake.train.run.distributed import full, local, ranks, shard_like, share_parts


class Muon(torch.optim.Optimizer):
    """The Muon optimiser: each step is the nearest orthogonal matrix to the momentum (Jordan et al. 2024).

    It computes in the dtype of the weights: torch's own Muon works in bfloat16, which many CPUs only emulate.
    Weights of one shape go through one batched matrix product. Steps are scaled to the size of AdamW's.
    """

    def __init__(self, params: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.0):
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Move every weight that has a gradient. The ranks of a run divide the matrix products among them."""
        moved = [(w, group) for group in self.param_groups for w in group["params"] if w.grad is not None]
        steps = shared_orthogonal([full(self._update(weight, group)).flatten(1) for weight, group in moved])
        for (weight, group), step in zip(moved, steps):
            size = 0.2 * max(step.shape) ** 0.5
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(shard_like(step.view(weight.shape), weight), alpha=-group["lr"] * size)

    def _update(self, weight: nn.Parameter, group: dict[str, Any]) -> Tensor:
        """Update the momentum and return Nesterov's extrapolation of it."""
        assert weight.grad is not None
        state = self.state[weight]
        if "momentum" not in state:
            state["momentum"] = torch.zeros_like(weight)
        state["momentum"].lerp_(weight.grad, 1 - group["momentum"])
        return weight.grad.lerp(state["momentum"], group["momentum"])


def shared_orthogonal(matrices: Sequence[Tensor]) -> list[Tensor]:
    """Compute `orthogonal` of matrices (rows, columns); one shape is one batch, and every rank computes its share."""
    rank, world = ranks()
    owner = share_out([m.numel() * min(m.shape) for m in matrices], world)
    steps = [torch.empty_like(matrix) for matrix in matrices]
    shapes: dict[torch.Size, list[int]] = defaultdict(list)
    for number, matrix in enumerate(matrices):
        if owner[number] == rank:
            shapes[matrix.shape].append(number)
    for numbers in shapes.values():
        for number, step in zip(numbers, orthogonal(torch.stack([matrices[n] for n in numbers]))):
            steps[number] = step
    share_parts(steps, owner)
    return steps


def share_out(costs: Sequence[float], world: int) -> list[int]:
    """Assign tasks to ranks so that their loads are about equal: the costliest first, to the least loaded rank."""
    load, owner = [0.0] * world, [0] * len(costs)
    for number in sorted(range(len(costs)), key=lambda n: -costs[n]):
        owner[number] = load.index(min(load))
        load[owner[number]] += costs[number]
    return owner


def orthogonal(matrices: Tensor, iterations: int = 5) -> Tensor:
    """Approximate the nearest orthogonal matrix to each of (N, rows, columns) by a quintic Newton-Schulz iteration."""
    tall = matrices.shape[-2] > matrices.shape[-1]
    x = matrices.mT if tall else matrices
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(iterations):
        gram = x @ x.mT
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x.mT if tall else x


def make_optimisers(
    module: nn.Module, kind: str, lr: float, weight_decay: float, betas: Sequence[float] = (0.9, 0.98)
) -> list[torch.optim.Optimizer]:
    """Make the optimisers of the trainable weights. With muon, hidden matrices (2 or more axes, no embedding) use Muon.

    ValueError if every weight is frozen.
    """
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
        optimisers.append(torch.optim.AdamW(rest, lr, (betas[0], betas[1]), weight_decay=weight_decay, foreach=True))
    return optimisers


def schedule(step: int, steps: int, warmup: int, decay: float) -> float:
    """Return the factor of the learning rate: linear warm-up, constant, then a cosine to 0 over the last `decay` share."""
    begin = steps * (1 - decay)
    falling = min(max(step - begin, 0.0) / max(steps - begin, 1), 1.0)
    return min(1.0, (step + 1) / max(warmup, 1)) * (0.5 + 0.5 * math.cos(math.pi * falling))


@torch.no_grad()
def average(ema: Mapping[str, Tensor], now: Mapping[str, Tensor], step: int, decay: float) -> None:
    """Move the exponential moving average (in place) towards the weights; its decay is smaller in the first steps."""
    keep = min(decay, (1 + step) / (10 + step))
    torch._foreach_lerp_([local(ema[name]) for name in ema], [local(now[name]) for name in ema], 1 - keep)


def optimiser_state(module: nn.Module, optimisers: list[torch.optim.Optimizer]) -> dict[str, Tensor]:
    """Return the state of the optimisers, as `weight name|entry` -> tensor."""
    names = {id(weight): name for name, weight in module.named_parameters()}
    return {
        f"{names[id(weight)]}|{entry}": value if isinstance(value, Tensor) else torch.tensor(value)
        for optimiser in optimisers
        for weight, state in optimiser.state.items()
        for entry, value in state.items()
    }


def load_optimiser_state(module: nn.Module, optimisers: list[torch.optim.Optimizer], saved: dict[str, Tensor]) -> None:
    """Restore the state that `optimiser_state` returned."""
    weights = dict(module.named_parameters())
    owner = {id(w): optimiser for optimiser in optimisers for group in optimiser.param_groups for w in group["params"]}
    for key, value in saved.items():
        name, entry = key.rsplit("|", 1)
        weight = weights[name]
        device = weight.device if value.shape == weight.shape else value.device  # a step count stays on its device
        owner[id(weight)].state[weight][entry] = value.to(device, copy=True)
