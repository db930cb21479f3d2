"""The study's model and its optimiser."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
from study_helpers import small
from torch import Tensor

from iterand_study import bfloat16, config
from iterand_study.model import Transformer, _attention, parameter_groups
from iterand_study.training import Trainer, token_bits


@pytest.mark.parametrize("changes", [{}, {"tied": True, "smear": True}, {"convolution": 4}])
def test_model_looks_only_back(changes: dict[str, Any]) -> None:
    model = Transformer(small(**changes), seed=1)
    with torch.no_grad():
        for block in model.blocks:
            if block.convolution is not None:
                block.convolution.normal_()
        if model.head is not None:
            model.head.weight.normal_()
        tokens = torch.randint(256, (2, 32), generator=torch.Generator().manual_seed(0))
        changed = tokens.clone()
        changed[:, 20] = (changed[:, 20] + 1) % 256
        one, two = model(tokens), model(changed)
    torch.testing.assert_close(one[:, :20], two[:, :20])
    assert not torch.allclose(one[:, 20:], two[:, 20:])


def test_model_starts_at_chance() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (4, 32), dtype=np.uint8)
    assert token_bits(Transformer(small()), rows).mean() == pytest.approx(8, abs=1e-4)


def attended(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention of 2 heads over 32 places (each heads x places x 16), written out: 1 x places x 32."""
    scores = (query @ key.transpose(1, 2) / 4).masked_fill(torch.ones(32, 32).triu(1) > 0, -math.inf)
    return (scores.softmax(-1) @ value).transpose(0, 1).reshape(1, 32, 32)


def test_attention_in_bfloat16_is_that_of_float32() -> None:
    generator = torch.Generator().manual_seed(0)
    parts = [torch.randn(3, 2, 48, 16, generator=generator).bfloat16().requires_grad_() for _ in range(3)]
    exact = [part.detach().float().requires_grad_() for part in parts]
    low, high = _attention(*parts), _attention(*exact)
    torch.testing.assert_close(low.float(), high, atol=0.02, rtol=0.02)
    low.float().square().sum().backward()
    high.square().sum().backward()
    for part, known in zip(parts, exact, strict=True):
        assert part.grad is not None and known.grad is not None
        torch.testing.assert_close(part.grad.float(), known.grad, atol=0.05, rtol=0.05)


def test_smeared_keys() -> None:
    """At a logit far below 0 a position is looked for by the key of the one before it."""
    shape = small(smear=True)
    block = Transformer(shape, seed=1).blocks[0]
    rotary = torch.stack((torch.ones(32, 8), torch.zeros(32, 8)))  # no rotation
    x = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        block.smear.fill_(-40)
        block.narrow.weight.zero_()
        parts = block.query_key_value(block.norm1(x)).view(32, 3, 2, 16)
        query, key, value = parts.permute(1, 2, 0, 3)
        before = torch.cat((torch.zeros(2, 1, 16), key[:, :-1]), dim=1)
        torch.testing.assert_close(block(x, rotary), x + block.mix(attended(query, before, value)))


def test_convolution_over_places() -> None:
    """It starts as none; with all weight on its first place, each place has the query, key and value of two before."""
    plain, mixed = Transformer(small(), seed=1), Transformer(small(convolution=3), seed=1)
    assert mixed.training_flops(1) - plain.training_flops(1) == 6 * 3 * 3 * 32
    block = mixed.blocks[0]
    rotary = torch.stack((torch.ones(32, 8), torch.zeros(32, 8)))  # no rotation
    x = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        torch.testing.assert_close(block(x, rotary), plain.blocks[0](x, rotary))
        block.convolution.zero_()
        block.convolution[:, :, 0] = 1
        block.narrow.weight.zero_()
        parts = block.query_key_value(block.norm1(x))[0]
        late = torch.cat((torch.zeros(2, 96), parts[:-2])).view(32, 3, 2, 16)
        torch.testing.assert_close(block(x, rotary), x + block.mix(attended(*late.permute(1, 2, 0, 3))))


def test_tied_head_is_the_embedding() -> None:
    model = Transformer(small(tied=True), seed=1)
    assert not any(name.startswith("head") for name, _ in model.named_parameters())
    assert model.training_flops(1) == Transformer(small()).training_flops(1)
    with torch.no_grad():
        tokens = torch.arange(32)[None]
        before = model(tokens)
        model.embedding.weight[200] += 10 * model.embedding.weight[200]
        after = model(tokens)
    torch.testing.assert_close(after[..., :200], before[..., :200])
    torch.testing.assert_close(after[..., 200], 11 * before[..., 200])


def test_training_in_bfloat16_keeps_float32_weights() -> None:
    tokens = torch.randint(256, (8, 32), generator=torch.Generator().manual_seed(0))
    losses = {}
    for precision in ("float32", "bfloat16"):
        model = Transformer(small(), seed=1)
        options = config.Optimizer(learning_rate=0.01, warmup_share=0)
        trainer = Trainer(model, options, 20, torch.device("cpu"), precision=precision)
        losses[precision] = [trainer.step(tokens) for _ in range(20)]
        assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"][-1] == pytest.approx(losses["float32"][-1], abs=0.1)
    wrong = Trainer(Transformer(small()), config.Optimizer(), 1, torch.device("cpu"), precision="float8")
    with pytest.raises(config.ConfigError, match="float8"):
        wrong.step(tokens)


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ("fpu avx2 fma avx512f", False),
        ("fpu avx512f avx512_bf16", True),
        ("fpu amx_bf16 amx_tile", True),
    ],
)
def test_processors_with_instructions_for_bfloat16(flags: str, found: bool) -> None:
    assert bfloat16.has_instructions(f"processor\t: 0\nflags\t\t: {flags}\nbugs\t\t: spectre_v1\n") is found


def test_other_processors_keep_the_kernels_of_pytorch() -> None:
    assert bfloat16.has_instructions("")
    assert bfloat16.has_instructions("processor\t: 0\nFeatures\t: fp asimd bf16\n")


def test_products_by_float32_are_those_in_bfloat16() -> None:
    """The unit of bfloat16 is 2^-8 of a number. Sums of 64 products of numbers of size one are of size eight."""
    generator = torch.Generator().manual_seed(0)
    left, right, gradient = (
        torch.randn(shape, generator=generator).bfloat16() for shape in ((2, 3, 48, 64), (2, 3, 64, 32), (2, 3, 48, 32))
    )
    found = []
    for product in (torch.matmul, bfloat16.float32_product):
        operands = [left.clone().requires_grad_(), right.clone().requires_grad_()]
        result = product(*operands)
        result.backward(gradient)
        assert result.dtype == torch.bfloat16
        found.append([result.detach(), *(operand.grad for operand in operands)])
    for one, other in zip(*found, strict=True):
        torch.testing.assert_close(one, other, rtol=2**-7, atol=2**-6)
    exact = left.double() @ right.double()
    torch.testing.assert_close(found[1][0].double(), exact, rtol=2**-8, atol=1e-4)  # rounded once


@pytest.mark.parametrize("changes", [{}, {"tied": True}])
def test_both_kernels_of_bfloat16_train_alike(monkeypatch: pytest.MonkeyPatch, changes: dict[str, Any]) -> None:
    tokens = torch.randint(256, (8, 32), generator=torch.Generator().manual_seed(0))
    losses = []
    for slow in (False, True):
        monkeypatch.setattr(bfloat16, "IS_SLOW", slow)
        options = config.Optimizer(learning_rate=0.01, warmup_share=0)
        trainer = Trainer(Transformer(small(**changes), seed=1), options, 20, torch.device("cpu"), precision="bfloat16")
        losses.append([trainer.step(tokens) for _ in range(20)])
    assert losses[0] != losses[1]
    assert losses[0] == pytest.approx(losses[1], abs=0.05)


@pytest.mark.parametrize(("precision", "slow"), [("float32", False), ("bfloat16", False), ("bfloat16", True)])
def test_a_compiled_model_trains_as_any(monkeypatch: pytest.MonkeyPatch, precision: str, slow: bool) -> None:
    """As one graph. What is traced is run without the compiler's last step, which takes half a minute."""
    monkeypatch.setattr(bfloat16, "IS_SLOW", slow)
    compiler = torch.compile
    monkeypatch.setattr(torch, "compile", lambda model: compiler(model, backend="aot_eager", fullgraph=True))
    generator = torch.Generator().manual_seed(0)
    tokens = torch.randint(256, (8, 32), generator=generator)
    mask = torch.rand(8, 32, generator=generator) < 0.5
    losses, weights = [], []
    for compiled in (False, True):
        model = Transformer(small(tied=True, smear=True, convolution=3), seed=1)
        options = config.Optimizer(learning_rate=0.01, warmup_share=0)
        trainer = Trainer(model, options, 6, torch.device("cpu"), compiled, precision)
        losses.append([trainer.step(tokens, chosen) for chosen in (mask, None) * 3])
        weights.append(trainer.state()["model"])
    assert losses[1] == pytest.approx(losses[0], abs=1e-3 if precision == "float32" else 0.02)
    assert weights[0].keys() == weights[1].keys()  # so that either continues from a checkpoint of the other


def test_compiling_for_a_cpu_needs_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(config.ConfigError, match="with no-such-compiler, which is not here; install"):
        Trainer(Transformer(small()), config.Optimizer(), 1, torch.device("cpu"), compile_model=True)


def test_a_mask_chooses_the_tokens_that_the_loss_counts() -> None:
    tokens = torch.randint(256, (8, 32), generator=torch.Generator().manual_seed(0))

    def trained(mask: torch.Tensor | None) -> tuple[float, torch.Tensor]:
        model = Transformer(small(tied=True), seed=1)  # tied: not all tokens cost the same at first
        loss = Trainer(model, config.Optimizer(warmup_share=0), 10, torch.device("cpu")).step(tokens, mask)
        return loss, torch.cat([weight.detach().flatten() for weight in model.parameters()])

    everywhere = torch.ones_like(tokens, dtype=torch.bool)
    whole, weights = trained(None)
    loss, marked = trained(everywhere)
    assert loss == pytest.approx(whole)
    torch.testing.assert_close(marked, weights)
    halves = [everywhere.clone(), everywhere.clone()]
    halves[0][:4] = halves[1][4:] = False
    losses = [trained(half)[0] for half in halves]
    assert sum(losses) / 2 == pytest.approx(whole)
    assert losses[0] != pytest.approx(losses[1], abs=1e-3)
    assert trained(~everywhere)[0] == 0
    first = ~everywhere
    first[:, 0] = True  # what no position predicts
    assert trained(first)[0] == 0


def test_width_scaling_keeps_the_size_of_updates() -> None:
    """One step changes the output of a wide model about as much as that of a narrow one."""
    tokens = torch.randint(256, (8, 32), generator=torch.Generator().manual_seed(0))
    changes = []
    for width in (32, 256):
        model = Transformer(small(width=width))
        groups = parameter_groups(model, config.Optimizer())
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
        trainer = Trainer(model, config.Optimizer(learning_rate=0.01, warmup_share=0), 10, torch.device("cpu"))
        for _ in range(3):
            trainer.step(tokens)
        with torch.no_grad():
            changes.append(model(tokens).std().item())
    assert 1 / 3 < changes[1] / changes[0] < 3
