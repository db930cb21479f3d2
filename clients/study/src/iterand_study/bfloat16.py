"""Products of matrices in bfloat16: operands and result are rounded to it, sums are in float32.

On x86 processors without instructions for bfloat16, PyTorch's kernels are slower in bfloat16 than in float32. There
float32's kernels make the products. Results differ only by the order of sums, as between machines.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


def has_instructions(cpuinfo: str) -> bool:
    """Whether a processor has instructions for products in bfloat16, by the text of its /proc/cpuinfo. True if that
    is not of an x86 processor."""
    flags = next((line.split() for line in cpuinfo.splitlines() if line.startswith("flags")), None)
    return flags is None or "avx512_bf16" in flags or "amx_bf16" in flags


def _read_cpuinfo() -> str:
    with contextlib.suppress(OSError):
        return Path("/proc/cpuinfo").read_text()
    return ""


IS_SLOW = not has_instructions(_read_cpuinfo())


# The compiler takes it as it is. It would merge the roundings of a product that it sees, and leave some out.
@torch.library.custom_op("iterand_study::product", mutates_args=())
def float32_product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right by the kernels of float32; both are bfloat16, and so is the result."""
    with torch.autocast(left.device.type, enabled=False):
        return (left.float() @ right.float()).to(torch.bfloat16)


@float32_product.register_fake
def _(left: Tensor, right: Tensor) -> Tensor:
    return left.new_empty((*left.shape[:-1], right.shape[-1]))


def _save(ctx: Any, inputs: tuple[Tensor, Tensor], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)


def _backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
    left, right = ctx.saved_tensors
    return float32_product(gradient, right.mT), float32_product(left.mT, gradient)


float32_product.register_autograd(_backward, setup_context=_save)


def product(left: Tensor, right: Tensor) -> Tensor:
    """left @ right, where the last two dimensions are matrices and the others are equal."""
    is_slow = IS_SLOW and left.device.type == "cpu" and left.dtype == torch.bfloat16
    return float32_product(left, right) if is_slow else left @ right


def linear(x: Tensor, weight: Tensor) -> Tensor:
    """x @ weight.T; in bfloat16 within torch.autocast to it."""
    if IS_SLOW and x.device.type == "cpu" and torch.is_autocast_enabled("cpu"):
        narrow = x.to(torch.bfloat16)
        flat: Tensor = float32_product(narrow.flatten(0, -2), weight.to(torch.bfloat16).T)
        return flat.reshape(*x.shape[:-1], len(weight))
    return functional.linear(x, weight)


class Linear(nn.Linear):
    """nn.Linear without a bias, by `linear`."""

    def __init__(self, inputs: int, outputs: int) -> None:
        super().__init__(inputs, outputs, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        return linear(x, self.weight)
