"""Several processes that train one network: how they join, and what they tell each other. Nothing is pickled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import timedelta

import torch
import torch.distributed as dist
from torch import Tensor, nn

from longtake.train.place import place

PATIENCE = timedelta(hours=6)  # the others wait while rank 0 checks; of a rank that dies, torchrun tells at once


def join_ranks() -> bool:
    """Join the other processes, if torchrun started this one (it says so in the environment). Whether it did so now."""
    if not dist.is_torchelastic_launched() or dist.is_initialized():
        return False
    if place().type == "cuda":
        torch.cuda.set_device(place())
    backend = "cpu:gloo,cuda:nccl" if place().type == "cuda" else "gloo"
    dist.init_process_group(backend, timeout=PATIENCE)
    return True


def leave_ranks() -> None:
    """Undo `join_ranks`."""
    dist.destroy_process_group()


def ranks() -> tuple[int, int]:
    """This process's rank, and how many there are."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def wait_for_all() -> None:
    """Go on when every rank has come here."""
    if ranks()[1] > 1:
        dist.barrier()


def reporting() -> Callable[[str], None]:
    """Prints, on rank 0."""
    return print if not ranks()[0] else lambda line: None


def step_rng(seed: int, step: int, number: int = 0, of: int = 1) -> torch.Generator:
    """The source of all chance of batch `number` of the `of` batches of a step."""
    return torch.Generator().manual_seed((seed * 1_000_003 + step * of + number) % (1 << 62))


def summed(numbers: Sequence[float]) -> list[float]:
    """The sums over all ranks of some numbers, in float64."""
    if ranks()[1] == 1:
        return list(numbers)
    dist.all_reduce(total := torch.tensor(numbers, dtype=torch.float64))
    return total.tolist()


def agree(fine: bool = True) -> bool:
    """Wait for all ranks; whether all of them are fine."""
    return summed([0.0 if fine else 1.0])[0] == 0


def told(text: str, limit: int = 2000) -> list[str]:
    """The texts of all ranks, in their order; each is cut after `limit` bytes."""
    world = ranks()[1]
    if world == 1:
        return [text]
    line = text.encode()[:limit].ljust(limit, b"\0")
    parts = [torch.empty(limit, dtype=torch.uint8) for _ in range(world)]
    dist.all_gather(parts, torch.frombuffer(bytearray(line), dtype=torch.uint8))
    return [bytes(part.tolist()).rstrip(b"\0").decode(errors="replace") for part in parts]


def share_start(module: nn.Module) -> None:
    """Give every rank the weights of rank 0: gradients can only be averaged over equal networks."""
    if ranks()[1] > 1:
        for tensor in module.state_dict().values():
            dist.broadcast(tensor, 0)


def share_gradients(trained: Sequence[nn.Parameter]) -> None:
    """Add up gradients over all ranks, in one message."""
    if ranks()[1] == 1:
        return
    grads = [p.grad if p.grad is not None else torch.zeros_like(p) for p in trained]
    flat = torch.cat([grad.flatten() for grad in grads])
    dist.all_reduce(flat)
    for parameter, part in zip(trained, flat.split([grad.numel() for grad in grads])):
        parameter.grad = part.view_as(parameter)


def share_parts(parts: Sequence[Tensor], owner: Sequence[int]) -> None:
    """Fill every tensor (in place) from the rank that owns it, in one message; all of one dtype and device."""
    rank, world = ranks()
    if world == 1:
        return
    sizes = [sum(part.numel() for part, own in zip(parts, owner) if own == number) for number in range(world)]
    mine = parts[0].new_zeros(max(sizes))  # gloo gathers equal lengths
    if owned := [part.flatten() for part, own in zip(parts, owner) if own == rank]:
        mine[: sizes[rank]] = torch.cat(owned)
    everyone = [torch.empty_like(mine) for _ in range(world)]
    dist.all_gather(everyone, mine)
    places = [0] * world
    for part, own in zip(parts, owner):
        part.copy_(everyone[own][places[own] : places[own] + part.numel()].view_as(part))
        places[own] += part.numel()


# ---------------------------------------------------------------- tensors laid out over ranks
def is_sharded(tensor: Tensor) -> bool:
    """Whether a tensor is laid out over the ranks."""
    return hasattr(tensor, "to_local")


def local(tensor: Tensor) -> Tensor:
    """This rank's piece of a sharded tensor, or the tensor."""
    return tensor.to_local() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def whole(tensor: Tensor) -> Tensor:
    """All of a sharded tensor, or the tensor; every rank must ask."""
    return tensor.full_tensor() if is_sharded(tensor) else tensor  # type: ignore[attr-defined]


def cut(tensor: Tensor, like: Tensor | None) -> Tensor:
    """A tensor that every rank has, laid out as `like` is, if that is sharded and of the same shape."""
    if like is None or not is_sharded(like) or like.shape != tensor.shape:
        return tensor
    from torch.distributed.tensor import distribute_tensor

    mesh, places = like.device_mesh, like.placements  # type: ignore[attr-defined]
    return distribute_tensor(tensor.to(like.device), mesh, places, src_data_rank=None)
