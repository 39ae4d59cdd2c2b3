"""The load-balancing loss of MoE routers: what it is, that no layout changes it, and that its gradient is added where it belongs."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from llmtrain_trainer.engines.native.router_balance import attach, loss_sum

EXPERTS, TOP, WIDTH = 4, 2, 6


class Router(nn.Module):
    """As Hugging Face's routers: (logits, scores, chosen)."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.randn(EXPERTS, WIDTH, generator=torch.Generator().manual_seed(1)))

    def forward(self, hidden: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        logits = hidden @ self.weight.T
        scores, chosen = logits.softmax(-1).topk(TOP, dim=-1)
        return logits, scores, chosen


class Experts(nn.Module):
    """Fused experts, which mark a layer as one of MoE."""

    num_experts = EXPERTS


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate, self.experts = Router(), Experts()


class Network(nn.Module):
    """Two MoE layers and one dense one, under the settings of a model's config."""

    def __init__(self, asked: bool = True, coefficient: float = 0.01) -> None:
        super().__init__()
        self.config = SimpleNamespace(output_router_logits=asked, router_aux_loss_coef=coefficient)
        self.layers = nn.ModuleList([Layer(), nn.Linear(WIDTH, WIDTH), Layer()])

    def routers(self) -> list[Router]:
        return [layer.gate for layer in self.layers if isinstance(layer, Layer)]


def job(global_size: int, micro_size: int) -> Any:
    return SimpleNamespace(batch=SimpleNamespace(global_size=global_size, micro_size=micro_size))


def hidden(rows: int, positions: int = 5, seed: int = 0) -> torch.Tensor:
    return torch.randn(rows, positions, WIDTH, generator=torch.Generator().manual_seed(seed))


def routed(rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    logits, _, chosen = Router()(rows.flatten(0, 1))
    return logits.detach(), chosen


def written_out(logits: torch.Tensor, chosen: torch.Tensor, rows: int) -> float:
    """Switch Transformers' equations 4 to 6, one sequence after the other."""
    total = 0.0
    for probabilities, picks in zip(logits.softmax(-1).chunk(rows), chosen.chunk(rows), strict=True):
        for expert in range(EXPERTS):
            share = sum((pick == expert).any().item() for pick in picks) / len(picks)
            total += EXPERTS * share * probabilities[:, expert].mean().item()
    return total


@settings(max_examples=25)
@given(rows=st.integers(1, 4), positions=st.integers(1, 7), seed=st.integers(0, 50))
def test_the_loss_is_that_of_the_paper_for_each_sequence(rows: int, positions: int, seed: int) -> None:
    logits, chosen = routed(hidden(rows, positions, seed))
    assert loss_sum(logits, chosen, rows, None, 1).item() == pytest.approx(written_out(logits, chosen, rows), rel=1e-5)


def test_routers_that_treat_all_experts_alike_have_the_lowest_loss() -> None:
    even = torch.tensor([[0, 1], [2, 3], [0, 2], [1, 3]])
    uneven = torch.tensor([[0, 1]] * 4)
    strong = torch.tensor([[5.0, 5.0, 0.0, 0.0]] * 4)
    assert loss_sum(torch.zeros(4, EXPERTS), even, 1, None, 1).item() == pytest.approx(TOP)
    assert loss_sum(strong, uneven, 1, None, 1).item() > 1.9 * TOP


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_no_size_of_micro_batch_changes_the_sum(micro: int) -> None:
    logits, chosen = routed(hidden(4))
    parts = zip(logits.chunk(4 // micro), chosen.chunk(4 // micro), strict=True)
    found = sum(loss_sum(part, picks, micro, None, 1).item() for part, picks in parts)
    assert found == pytest.approx(loss_sum(logits, chosen, 4, None, 1).item(), rel=1e-6)


def gradients(network: Network, batch: torch.Tensor, config: Any, **options: Any) -> list[torch.Tensor]:
    """Of the routers after backward of micro-batches whose own loss does not reach the routers."""
    attach(config, network, **options)  # type: ignore[arg-type]
    for rows in batch.split(config.batch.micro_size):
        for router in network.routers():
            (router(rows.flatten(0, 1))[1] * 0.0).sum().backward()
    return [router.weight.grad.clone() for router in network.routers() if router.weight.grad is not None]


def expected(network: Network, batch: torch.Tensor, coefficient: float) -> list[torch.Tensor]:
    """Gradient of the mean over sequences and layers, written out."""
    found = []
    for router in network.routers():
        logits, _, chosen = router(batch.flatten(0, 1))
        loss = coefficient * loss_sum(logits, chosen, len(batch), None, 1) / (len(batch) * len(network.routers()))
        (gradient,) = torch.autograd.grad(loss, [router.weight])
        found.append(gradient)
    return found


@pytest.mark.parametrize("micro", [1, 2, 4])
def test_the_gradient_at_each_router_is_that_of_the_mean_over_sequences_and_layers(micro: int) -> None:
    batch = hidden(4)
    wanted = expected(Network(), batch, 0.01)
    found = gradients(Network(), batch, job(4, micro))
    assert len(found) == 2 and all(gradient.abs().sum() > 0 for gradient in found)
    assert all(torch.allclose(one, other, rtol=1e-4, atol=1e-8) for one, other in zip(found, wanted, strict=True))


def test_an_engine_that_averages_over_replicas_gets_a_loss_that_is_that_much_larger() -> None:
    batch = hidden(4)
    one, four = gradients(Network(), batch, job(4, 2)), gradients(Network(), batch, job(4, 2), replicas=4)
    assert all(torch.allclose(4 * small, large) for small, large in zip(one, four, strict=True))


@pytest.mark.parametrize(("asked", "coefficient"), [(False, 0.01), (True, 0.0), (True, None)])
def test_a_model_that_does_not_ask_for_the_loss_gets_none(asked: bool, coefficient: Any) -> None:
    found = gradients(Network(asked, coefficient), hidden(2), job(2, 2))
    assert all(not gradient.any() for gradient in found)


def test_the_model_itself_is_kept_from_adding_its_own() -> None:
    network = Network()
    attach(job(2, 2), network)  # type: ignore[arg-type]
    assert network.config.output_router_logits is False


def test_what_the_router_says_stays_as_it_was() -> None:
    plain, attached = Network(), Network()
    attach(job(2, 2), attached)  # type: ignore[arg-type]
    for one, other in zip(plain.routers(), attached.routers(), strict=True):
        rows = hidden(2).flatten(0, 1)
        assert all(torch.equal(before, after) for before, after in zip(one(rows), other(rows), strict=True))


def test_nothing_is_computed_where_no_gradient_is_wanted() -> None:
    network = Network()
    attach(job(2, 2), network)  # type: ignore[arg-type]
    with torch.no_grad():
        _, scores, _ = network.routers()[0](hidden(2).flatten(0, 1))
    assert not scores.requires_grad


def test_a_model_without_moe_layers_is_left_alone() -> None:
    network = Network()
    network.layers = nn.ModuleList([nn.Linear(WIDTH, WIDTH)])
    attach(job(2, 2), network)  # type: ignore[arg-type]
    assert network.config.output_router_logits is False
