"""Errors of too little memory are recognised, whoever raises them, and no other errors are."""

import errno
import re

import pytest
import torch

from longtake.core.process.memory_errors import ADVICE, out_of_memory

SHORT = [
    MemoryError(),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB."),
    RuntimeError("[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: you tried to ..."),
    RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
    RuntimeError("std::bad_alloc"),
    RuntimeError("could not create a primitive"),
    RuntimeError("can't start new thread"),
    RuntimeError("MPS backend out of memory (MPS allocated: 9.00 GB)"),
    OSError(errno.ENOMEM, "Cannot allocate memory"),
    ImportError("libtorch_cpu.so: failed to map segment from shared object"),
]
OTHER = [
    ValueError("no"),
    RuntimeError("shape mismatch"),
    RuntimeError("could not create a primitive descriptor for a convolution"),
    OSError(errno.ENOSPC, "No space left on device"),
    KeyError("x"),
]


@pytest.mark.parametrize("error", SHORT, ids=repr)
def test_too_little_memory_is_recognised_also_as_a_cause(error):
    assert out_of_memory(error)
    outer = ValueError("it cannot be read")
    outer.__cause__ = error
    assert out_of_memory(outer)


@pytest.mark.parametrize("error", OTHER, ids=repr)
def test_other_errors_are_not(error):
    assert not out_of_memory(error)


def test_a_real_allocation_that_fails_is_recognised():
    with pytest.raises((RuntimeError, MemoryError)) as caught:
        torch.empty(1 << 60, dtype=torch.uint8)
    assert out_of_memory(caught.value)


def test_a_circle_of_causes_ends():
    one, two = ValueError("one"), ValueError("two")
    one.__cause__, two.__cause__ = two, one
    assert not out_of_memory(one)


def test_the_advice_names_flags_that_exist():

    from longtake.cli.app import parser
    from longtake.cli.registry import COMMANDS

    flags = {
        name for one in parser("generate", COMMANDS["generate"]).assemble_argument_collection() for name in one.names
    }
    assert set(re.findall(r"--[a-z0-9-]+", ADVICE)) <= flags
