"""Pretraining by several processes, one per GPU, as torchrun starts them. In an ordinary run there is one process, and
the functions here do nothing.

Every process has the whole model and reads its own rows of each batch, those whose index is its rank modulo the number
of processes. Gradients are averaged (DistributedDataParallel), so that each step is that of one process with the whole
batch, up to rounding. Only the main process, rank 0, evaluates and writes.
"""

from __future__ import annotations

import contextlib
import datetime
import os
from collections.abc import Iterator
from typing import Any, TypeVar

import torch
from torch import Tensor, distributed

from iterand_study import config

_T = TypeVar("_T")

# The other processes wait while the main process evaluates.
_BARRIER_TIMEOUT = datetime.timedelta(hours=4)


def env_world_size() -> int:
    """Number of processes that torchrun has started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


def env_local_world_size() -> int:
    """Number of these processes on this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", str(env_world_size())))


@contextlib.contextmanager
def group(device: torch.device) -> Iterator[None]:
    """Connects the processes that torchrun has started. If one fails, torchrun ends the others."""
    if env_world_size() == 1:
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo", timeout=_BARRIER_TIMEOUT)
    yield
    distributed.barrier()  # a process that leaves while others still send to it may abort
    distributed.destroy_process_group()


def rank() -> int:
    return distributed.get_rank() if distributed.is_initialized() else 0


def world_size() -> int:
    return distributed.get_world_size() if distributed.is_initialized() else 1


def is_main_process() -> bool:
    """Whether this process evaluates and writes."""
    return rank() == 0


def broadcast(value: _T) -> _T:
    """The main process's value, in all processes. Errors: ConfigError if that process has ended; it prints why."""
    if world_size() == 1:
        return value
    values = [value]
    try:
        distributed.broadcast_object_list(values)
    except RuntimeError as error:
        if is_main_process():
            raise
        raise config.ConfigError(f"process {rank()} ends because process 0 has ended") from error
    return values[0]


def all_gather(value: _T) -> list[_T]:
    """The values of all processes, by rank."""
    if world_size() == 1:
        return [value]
    values: list[Any] = [None] * world_size()
    distributed.all_gather_object(values, value)
    return values


def all_reduce_mean(value: Tensor) -> Tensor:
    """The mean of all processes' values."""
    if world_size() > 1:
        distributed.all_reduce(value)
        value /= world_size()
    return value


def wrap_ddp(model: torch.nn.Module) -> torch.nn.Module:
    """The model, with gradients averaged over all processes."""
    if world_size() == 1:
        return model
    return torch.nn.parallel.DistributedDataParallel(model)
