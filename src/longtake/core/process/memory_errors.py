"""Errors that mean that this machine, or what a limit leaves of it, has too little memory, and what helps then."""

from __future__ import annotations

import errno
from collections.abc import Iterator

PHRASES = (  # of PyTorch on CPU and GPU, of safetensors, of C++ and of the dynamic loader
    "allocate memory",
    "out of memory",
    "not enough memory",
    "alloc_failed",
    "bad_alloc",
    "bad alloc",
    "unable to mmap",
    "failed to map segment",
    "can't start new thread",
)
ONEDNN = "could not create a primitive"  # the end of its sentence; of a descriptor it is about other things
ADVICE = (
    "ask for less with a smaller --size, a shorter --window, --dtype bf16 or --fp8, on a GPU also with --offload blocks, or "
    "choose a smaller --model; `longtake plan --model NAME` estimates what a video takes, and `longtake plan` lists the "
    "strategies, of which --strategy blocks and --strategy relay keep the least in view"
)


def out_of_memory(error: BaseException) -> bool:
    """Whether Python, PyTorch or the system could not allocate memory, in this error or in one that caused it."""
    return any(_says_so(one) for one in _causes(error))


def _says_so(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = str(error).lower()
    return said.endswith(ONEDNN) or any(phrase in said for phrase in PHRASES)


def _causes(error: BaseException) -> Iterator[BaseException]:
    """Yield an error, and those that caused it."""
    seen: set[int] = set()
    one: BaseException | None = error
    while one is not None and id(one) not in seen:
        seen.add(id(one))
        yield one
        one = one.__cause__ or (None if one.__suppress_context__ else one.__context__)
