"""A decoder-only transformer: pre-norm, rotary positions, GELU, and muP scaling of widths.

muP (Yang and Hu 2022, arXiv 2203.03466, table 8, for Adam): hidden matrices are drawn with variance 1 / fan_in and
learn at learning_rate * base_width / width; the output head starts at zero and learns at the same reduced rate;
embeddings, norms and what is smeared or convolved learn at the full rate. Heads have a fixed width, so that attention
needs no factor of its own. One learning rate, tuned at base_width, then serves all widths.

Three options make copying from the window easy to learn, for which a small model otherwise needs most of its tokens.
`tied`: the head is the embedding, so that what attention carries over can be read at once. `smear`: smeared keys
(Olsson et al. 2022, "In-context learning and induction heads"), by which a head can look for what followed an equal
token without another head that finds the token before. `convolution`: a causal depthwise convolution over queries, keys
and values (So et al. 2021, "Primer", arXiv 2109.08668, section 4: multi-DConv-head attention, there of width 3; Li et
al. 2024, "On the power of convolution augmented transformer", arXiv 2407.05591), by which a head can look for what
followed several equal tokens. It starts as the identity.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from iterand_study import config
from iterand_study.bfloat16 import Linear, linear, product


def _rotary(length: int, head_width: int) -> Tensor:
    """Cosine and sine of the angles: 2 x length x head_width / 2 (Su et al. 2021, arXiv 2104.09864)."""
    frequency = 10_000.0 ** (-torch.arange(0, head_width, 2) / head_width)
    angle = torch.arange(length)[:, None] * frequency
    return torch.stack((angle.cos(), angle.sin()))


def _rotate(x: Tensor, rotary: Tensor) -> Tensor:
    cosine, sine = rotary[:, : x.shape[-2]].to(x.dtype)
    left, right = x.chunk(2, dim=-1)
    return torch.cat((left * cosine - right * sine, left * sine + right * cosine), dim=-1)


def _attention(query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Causal attention; each batch x heads x length x head_width."""
    if query.device.type != "cpu" or query.dtype != torch.bfloat16:
        return functional.scaled_dot_product_attention(query, key, value, is_causal=True)
    # PyTorch's kernel is slower than these products at such lengths, and the compiler cannot merge it with others.
    length, head_width = query.shape[-2:]
    later = torch.ones(length, length, dtype=torch.bool).triu(1)
    scores = product(query, key.transpose(-1, -2)).float() / math.sqrt(head_width)
    return product(scores.masked_fill(later, -math.inf).softmax(-1).to(value.dtype), value)


class Block(nn.Module):
    """x + attention(norm(x)), then x + feed_forward(norm(x))."""

    def __init__(self, shape: config.Model) -> None:
        super().__init__()
        width = shape.width
        self.heads = width // shape.head_width
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = Linear(width, 3 * width)
        # Of each head: how much of a key is its own token's, as a logit; the rest is the previous token's.
        self.smear = nn.Parameter(torch.zeros(self.heads, 1, 1)) if shape.smear else None
        # Of each channel of queries, keys and values: the share of each place, the token's own the last.
        self.convolution: nn.Parameter | None = None
        if shape.convolution:
            own_alone = torch.zeros(3 * width, 1, shape.convolution)
            own_alone[:, :, -1] = 1
            self.convolution = nn.Parameter(own_alone)
        self.mix = Linear(width, width)
        self.widen = Linear(width, 4 * width)
        self.narrow = Linear(4 * width, width)
        self.dropout = nn.Dropout(shape.dropout)

    def forward(self, x: Tensor, rotary: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.query_key_value(self.norm1(x))
        if self.convolution is not None:
            padded = functional.pad(parts.transpose(1, 2), (self.convolution.shape[-1] - 1, 0))
            parts = functional.conv1d(padded, self.convolution.to(parts.dtype), groups=3 * width).transpose(1, 2)
        query, key, value = parts.reshape(batch, length, 3, self.heads, width // self.heads).permute(2, 0, 3, 1, 4)
        if self.smear is not None:
            own = self.smear.sigmoid()
            key = own * key + (1 - own) * functional.pad(key, (0, 0, 1, 0))[:, :, :-1]
        seen = _attention(_rotate(query, rotary), _rotate(key, rotary), value)
        x = x + self.dropout(self.mix(seen.transpose(1, 2).reshape(batch, length, width)))
        update: Tensor = self.narrow(functional.gelu(self.widen(self.norm2(x))))
        result: Tensor = x + self.dropout(update)
        return result


class Transformer(nn.Module):
    """tokens (batch x length) -> logits of the next token (batch x length x vocab_size)."""

    rotary: Tensor

    def __init__(self, shape: config.Model, seed: int = 0) -> None:
        super().__init__()
        if shape.width % shape.head_width or shape.head_width % 2:
            raise config.ConfigError(
                f"model.width {shape.width} must be a multiple of model.head_width {shape.head_width}, an even number"
            )
        self.shape = shape
        self.embedding = nn.Embedding(shape.vocab_size, shape.width)
        self.blocks = nn.ModuleList(Block(shape) for _ in range(shape.depth))
        self.norm = nn.LayerNorm(shape.width)
        self.head = None if shape.tied else Linear(shape.width, shape.vocab_size)
        self.register_buffer("rotary", _rotary(shape.length, shape.head_width), persistent=False)
        generator = torch.Generator().manual_seed(seed)
        for block in self.blocks:
            for name, weight in block.named_parameters():
                if weight.dim() == 2:
                    deviation = 1 / math.sqrt(weight.shape[1])
                    if name in ("mix.weight", "narrow.weight"):
                        deviation /= math.sqrt(2 * shape.depth)  # the residual stream keeps its scale at any depth
                    nn.init.normal_(weight, std=deviation, generator=generator)
        self.draw_identities(seed)

    def draw_identities(self, seed: int) -> None:
        """Draws a new embedding and resets the head, which removes what the model knew of token identities."""
        generator = torch.Generator().manual_seed(seed + 1_000_003)
        nn.init.normal_(self.embedding.weight, std=1.0, generator=generator)
        if self.head is not None:
            nn.init.zeros_(self.head.weight)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.embedding(tokens)
        for block in self.blocks:
            x = block(x, self.rotary)
        x = self.norm(x)
        if self.head is None:
            # Logits of size one at first, and sqrt(base_width) for a token whose embedding is found.
            scale = math.sqrt(self.shape.base_width) / self.shape.width
            logits: Tensor = linear(x * scale, self.embedding.weight)
        else:
            logits = self.head(x)
        return logits

    def matrix_parameters(self) -> int:
        """Weights that every token is multiplied with."""
        head = self.embedding if self.head is None else self.head
        inner = (
            weight
            for block in self.blocks
            for name, weight in block.named_parameters()
            if weight.dim() == 2 or name == "convolution"
        )
        return sum(weight.numel() for weight in inner) + head.weight.numel()

    def training_flops(self, tokens: int) -> float:
        """Forward and backward passes: 6 per weight and token, and attention's two products."""
        attention = self.shape.depth * self.shape.length * self.shape.width  # causal: half of 2 * length * width
        return 6.0 * tokens * (self.matrix_parameters() + attention)


def parameter_groups(model: Transformer, options: config.Optimizer) -> list[dict[str, Any]]:
    """AdamW's groups with muP's learning rates. `share` is the group's factor on the scheduled learning rate."""
    scaled = model.shape.base_width / model.shape.width
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, weight in model.named_parameters():
        hidden = weight.dim() == 2 and not name.startswith("embedding")
        # Decay shrinks by learning rate times decay: undo the factor, so that all widths forget at the same pace.
        key = (scaled, options.weight_decay / scaled) if hidden else (1.0, 0.0)
        groups.setdefault(key, []).append(weight)
    return [{"params": weights, "share": share, "weight_decay": decay} for (share, decay), weights in groups.items()]
