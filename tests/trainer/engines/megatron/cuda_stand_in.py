"""Stands in for CUDA, so that megatron-core runs on a CPU in tests: importing it changes torch for the whole process.

A rank imports it where LLMTRAIN_CUDA_STAND_IN names it. It lets Megatron's launch, groups, schedules and arithmetic run; of kernels,
streams and NCCL it shows nothing.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import megatron.core.tensor_parallel.random as megatron_random
import megatron.core.transformer.moe.token_dispatcher as megatron_dispatcher
import torch
import torch.distributed as dist
from torch.overrides import TorchFunctionMode

CPU = torch.device("cpu")


class _CpuForCuda(TorchFunctionMode):
    """device="cuda" in a call means the CPU."""

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if str(kwargs.get("device", "")).startswith("cuda"):
            kwargs["device"] = CPU
        kwargs.pop("pin_memory", None)
        return func(*args, **kwargs)


class _Idle:
    """A stream or an event: everything was done when it was asked for."""

    def __init__(self, *_: Any, **__: Any) -> None:
        self.device = CPU

    def __getattr__(self, name: str) -> Any:
        return lambda *_, **__: self


@contextlib.contextmanager
def _stream(_: Any) -> Iterator[None]:
    yield


def _same(tensor: Any, *_: Any, **__: Any) -> Any:
    return tensor


def _type(tensor: torch.Tensor, *args: Any, **kwargs: Any) -> Any:
    """Megatron's clipping looks for this name."""
    if args or kwargs:
        return _plain_type(tensor, *args, **kwargs)
    return f"torch.cuda.{str(_plain_type(tensor)).rpartition('.')[2]}"


def _all_gather(parts: list[torch.Tensor], own: torch.Tensor, group: Any = None, async_op: bool = False) -> Any:
    """NCCL gathers unequal parts, gloo equal ones only: parts that differ are sent one after another."""
    if len({part.shape for part in parts}) == 1:
        return _plain_all_gather(parts, own, group=group, async_op=async_op)
    parts[dist.get_rank(group)].copy_(own)
    for part, rank in zip(parts, dist.get_process_group_ranks(group), strict=True):
        dist.broadcast(part, src=rank, group=group)
    return None


def _reduce_scatter(own: torch.Tensor, parts: list[torch.Tensor], group: Any = None, **options: Any) -> Any:
    """The same for sums."""
    if len({part.shape for part in parts}) == 1:
        return _plain_reduce_scatter(own, parts, group=group, **options)
    whole = torch.cat(parts)
    dist.all_reduce(whole, group=group)
    own.copy_(whole.split([len(part) for part in parts])[dist.get_rank(group)])
    return None


_plain_all_gather, _plain_reduce_scatter = dist.all_gather, dist.reduce_scatter
_plain_type = torch.Tensor.type
_cuda: Any = torch.cuda
_cuda.current_device = lambda: CPU
_cuda.get_rng_state = _cuda.random.get_rng_state = lambda *_, **__: torch.get_rng_state()
_cuda.set_rng_state = _cuda.random.set_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
_cuda.manual_seed = torch.default_generator.manual_seed
_cuda.synchronize = _cuda.empty_cache = lambda *_, **__: None
_cuda.FloatTensor = lambda values: torch.tensor(values, dtype=torch.float32)
_cuda.Stream = _cuda.Event = _Idle
_cuda.current_stream = _Idle
_cuda.stream = _stream
_dist: Any = dist
_dist.all_gather, _dist.reduce_scatter = _all_gather, _reduce_scatter
_tensor: Any = torch.Tensor
_module: Any = torch.nn.Module
_tensor.cuda = _module.cuda = _same
_tensor.type = _type
torch.compiler.set_stance("force_eager")
_CpuForCuda().__enter__()

_dispatcher: Any = megatron_dispatcher
_dispatcher.maybe_move_tensor_to_cpu = lambda tensor, as_numpy=False, **_: (
    tensor.numpy() if as_numpy and torch.is_tensor(tensor) else tensor
)
_random: Any = megatron_random
_random._set_cuda_rng_state = lambda state, *_, **__: torch.set_rng_state(state)
_random._get_cuda_rng_state = lambda *_, **__: torch.get_rng_state()
