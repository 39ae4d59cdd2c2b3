"""Load-balancing loss of MoE routers, if the model's config asks for it (output_router_logits).

The loss is E sum_e f_e P_e of Fedus et al. 2021 (Switch Transformers), equations 4 to 6: f_e is the share of tokens that go to expert e,
P_e its mean probability. Here f and P are those of one sequence in one layer, and the loss is the mean over the sequences of the global
batch and the layers, times router_aux_loss_coef: no layout or micro-batch changes it. Its gradient
is added at each router, so no pipeline stage has to send it; the reported loss is the cross-entropy alone.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
from torch import nn
from torch.autograd import Function
from transformers import PreTrainedModel

from llmtrain_trainer.config import TrainerConfig
from llmtrain_trainer.engines.native import experts


def attach(
    config: TrainerConfig, network: PreTrainedModel, *, replicas: int = 1, group: dist.ProcessGroup | None = None, parts: int = 1
) -> None:
    """Add the loss to every router of the model, before it is split into stages. Does nothing if the model's config does not ask for it.

    `replicas`: number over which the engine averages gradients; 1 if it sums them. Sequences are split into `parts` over `group`.
    """
    asked, shape = getattr(network.config, "output_router_logits", False), network.config
    shape.output_router_logits = False  # or the last stage would compute a loss of its own layers, and leave it
    if not asked or not shape.router_aux_loss_coef:
        return
    routers = [network.get_submodule(f"{name.rpartition('.')[0]}.gate") for name, _ in experts.of(network, "")]
    if not routers:
        return
    weight = shape.router_aux_loss_coef * replicas / (config.batch.global_size * len(routers))
    for router in routers:
        router.register_forward_hook(partial(_balance, group, parts, weight, config.batch.micro_size))


def _balance(group: dist.ProcessGroup | None, parts: int, weight: float, rows: int, _: nn.Module, __: Any, output: Any) -> Any:
    """output: (logits [rows x positions, experts], scores, chosen [rows x positions, k]); all of it but the gradient stays the same."""
    logits, scores, chosen = output
    if not logits.requires_grad:
        return output
    return logits, _Attach.apply(scores, weight * loss_sum(logits, chosen, rows, group, parts)), chosen  # type: ignore[no-untyped-call]


def loss_sum(logits: torch.Tensor, chosen: torch.Tensor, rows: int, group: dist.ProcessGroup | None, parts: int) -> torch.Tensor:
    """E sum_e f_e P_e, summed over the sequences, a scalar. `logits` [tokens, E], `chosen` [tokens, top k] of `rows` sequences.

    With sequences split into `parts` over `group` it is this rank's part of the sum.
    """
    count = logits.shape[1]
    probabilities = logits.float().softmax(-1).view(rows, -1, count)
    positions = probabilities.shape[1] * parts
    tokens = torch.zeros(rows, count, device=logits.device)
    tokens.scatter_add_(1, chosen.view(rows, -1), torch.ones((), device=logits.device).expand(rows, chosen.numel() // rows))
    if group is not None:
        dist.all_reduce(tokens, group=group)
    return count * (tokens / positions * probabilities.sum(1) / positions).sum()


class _Attach(Function):
    """Identity of the scores; in backward the loss gets a gradient of 1."""

    @staticmethod
    def forward(_: Any, scores: torch.Tensor, loss: torch.Tensor) -> torch.Tensor:
        del loss
        return scores.view_as(scores)

    @staticmethod
    def backward(_: Any, gradient: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        return gradient, torch.ones((), device=gradient.device)
