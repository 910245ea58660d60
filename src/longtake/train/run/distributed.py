"""Processes that train one network together: how they join, sum and share tensors. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longtake.train.run.device import process_device

PATIENCE = timedelta(hours=6)  # the other ranks wait while rank 0 evaluates; torchrun itself reports a rank that dies


def join_ranks() -> bool:
    """Join the other processes if torchrun started this one (the environment says so). Returns whether it joined now."""
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        return False
    if process_device().type == "cuda":
        torch.cuda.set_device(process_device())
    backend = "cpu:gloo,cuda:nccl" if process_device().type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    return True


def leave_ranks() -> None:
    """Leave the processes that `join_ranks` joined."""
    dist.destroy_process_group()


def ranks() -> tuple[int, int]:
    """Return this process's rank and the number of ranks."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def wait_for_all() -> None:
    """Wait until every rank has arrived here."""
    if ranks()[1] > 1:
        dist.barrier()


def reporting() -> Callable[[str], None]:
    """Return `print` on rank 0 and a function that prints nothing on the others."""
    return print if not ranks()[0] else lambda line: None


def step_generator(seed: int, step: int, number: int = 0, of: int = 1) -> torch.Generator:
    """Return the generator of batch `number` of the `of` batches of a step; all its random numbers come from it."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step * of + number) % (1 << 62))


def summed(numbers: Sequence[float]) -> list[float]:
    """Sum some numbers over all ranks, in float64."""
    if ranks()[1] == 1:
        return list(numbers)
    dist.all_reduce(total := torch.tensor(numbers, dtype=torch.float64))
    return total.tolist()


def all_agree(fine: bool = True) -> bool:
    """Wait for all ranks; return whether `fine` is true on every one."""
    return summed([0.0 if fine else 1.0])[0] == 0


def gather_texts(text: str, limit: int = 2000) -> list[str]:
    """Return the texts of all ranks, in their order; each is cut after `limit` bytes."""
    world = ranks()[1]
    if world == 1:
        return [text]
    line = text.encode()[:limit].ljust(limit, b"\0")
    parts = [torch.empty(limit, dtype=torch.uint8) for _ in range(world)]
    dist.all_gather(parts, torch.frombuffer(bytearray(line), dtype=torch.uint8))
    return [bytes(part.tolist()).rstrip(b"\0").decode(errors="replace") for part in parts]


def share_weights(module: nn.Module) -> None:
    """Give every rank the weights of rank 0: gradients can only be averaged over equal networks."""
    if ranks()[1] > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def share_gradients(trained: Sequence[nn.Parameter]) -> None:
    """Sum gradients over all ranks, in one message."""
    if ranks()[1] == 1:
        return
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    for parameter, part in zip(trained, flat.split([grad.numel() for grad in grads])):
        parameter.grad = part.view_as(parameter)


def share_parts(parts: Sequence[Tensor], owner: Sequence[int]) -> None:
    """Fill every tensor (in place) from the rank that owns it, in one message; all have one dtype and device."""
    rank, world = ranks()
    if world == 1:
        return
    sizes = [sum(part.numel() for part, own in zip(parts, owner) if own == number) for number in range(world)]
    mine = parts[0].new_zeros(max(sizes))  # gloo gathers equal lengths
    if owned := [part.flatten() for part, own in zip(parts, owner) if own == rank]:
        mine[: sizes[rank]] = torch.cat(owned)
    everyone = [torch.empty_like(mine) for _ in range(world)]
    dist.all_gather(everyone, mine)
    offsets = [0] * world
    for part, own in zip(parts, owner):
        part.copy_(everyone[own][offsets[own] : offsets[own] + part.numel()].view_as(part))
        offsets[own] += part.numel()


def gather_tensor(tensor: Tensor) -> list[Tensor]:
    """Return a tensor of every rank, in their order; all have one shape."""
    world = ranks()[1]
    if world == 1:
        return [tensor]
    parts = [torch.empty_like(tensor) for _ in range(world)]
    dist.all_gather(parts, tensor)
    return parts


# ---------------------------------------------------------------- sharded tensors
def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is sharded over the ranks."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """Return this rank's piece of a sharded tensor, or the tensor itself."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def full(tensor: Tensor) -> Tensor:
    """Return all of a sharded tensor, or the tensor itself; every rank must call it."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def shard_like(tensor: Tensor, like: Tensor | None) -> Tensor:
    """Shard a tensor that every rank has as `like` is, if that is sharded and of the same shape."""
    if like is None or not is_sharded(like) or like.shape != tensor.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, placements = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(like.device), mesh, placements, src_data_rank=None)
