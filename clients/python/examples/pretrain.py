"""Pretrains a small transformer on a stream of structured noise.

    iterand serve --listen 127.0.0.1:50051 &
    python pretrain.py --server 127.0.0.1:50051 --recipe up

The loss starts at 8 bits per token, which is chance over 256 tokens, and falls as the model learns to find the
structure of each sequence. On `--recipe uniform` there is none, and it stays at 8. Needs only iterand and torch.
"""

from __future__ import annotations

import argparse
import math
import os
import time
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional

import iterand
from iterand.torch import StreamDataset, StreamLoader


class Block(nn.Module):
    """Attention over the past, then a feed-forward network; each reads a normalised copy and adds to its input."""

    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.query_key_value = nn.Linear(width, 3 * width, bias=False)
        self.mix = nn.Linear(width, width, bias=False)
        self.feed_forward = nn.Sequential(nn.Linear(width, 4 * width), nn.GELU(), nn.Linear(4 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        parts = self.query_key_value(self.norm1(x)).view(batch, length, 3, self.heads, width // self.heads)
        query, key, value = parts.permute(2, 0, 3, 1, 4)
        seen = functional.scaled_dot_product_attention(query, key, value, is_causal=True)
        x = x + self.mix(seen.transpose(1, 2).reshape(batch, length, width))
        return x + self.feed_forward(self.norm2(x))


class Transformer(nn.Module):
    """Decoder-only: tokens (batch x length) -> logits of the next token (batch x length x vocab_size)."""

    def __init__(self, vocab_size: int, length: int, width: int, depth: int, heads: int) -> None:
        super().__init__()
        self.token = nn.Embedding(vocab_size, width)
        self.place = nn.Embedding(length, width)
        self.blocks = nn.Sequential(*(Block(width, heads) for _ in range(depth)))
        self.norm = nn.LayerNorm(width)
        self.head = nn.Linear(width, vocab_size, bias=False)
        for name, weight in self.named_parameters():
            if weight.dim() > 1:
                # What is added to the residual stream starts smaller the more blocks there are.
                residual = name.endswith(("mix.weight", "feed_forward.2.weight"))
                nn.init.normal_(weight, std=0.02 / math.sqrt(2 * depth) if residual else 0.02)

    def forward(self, tokens: Tensor) -> Tensor:
        x = self.token(tokens) + self.place(torch.arange(tokens.shape[1], device=tokens.device))
        return self.head(self.norm(self.blocks(x)))


def learning_rate(step: int, options: argparse.Namespace) -> float:
    """Rises linearly during the warm-up, then falls along a cosine to a tenth."""
    if step < options.warmup:
        return options.learning_rate * (step + 1) / options.warmup
    progress = (step - options.warmup) / max(1, options.steps - options.warmup)
    return options.learning_rate * (0.55 + 0.45 * math.cos(math.pi * min(1.0, progress)))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Pretrains a small transformer on a stream of structured noise.")
    parser.add_argument("--server", default="127.0.0.1:50051", help="address of an iterand server")
    parser.add_argument("--recipe", default="up", help="a preset's name or a JSON file")
    parser.add_argument("--seed", type=int, default=0, help="of the stream and of the model")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--batch-size", type=int, default=32, help="sequences per step")
    parser.add_argument("--length", type=int, default=128, help="tokens per sequence")
    parser.add_argument("--width", type=int, default=128)
    parser.add_argument("--depth", type=int, default=4)
    parser.add_argument("--heads", type=int, default=4)
    parser.add_argument("--learning-rate", type=float, default=2e-3)
    parser.add_argument("--warmup", type=int, default=40, help="steps")
    parser.add_argument("--workers", type=int, default=0, help="processes that read the stream")
    parser.add_argument("--log-every", type=int, default=20, help="steps")
    parser.add_argument("--save", type=Path, help="write the model, its optimiser and the place in the stream here")
    parser.add_argument("--resume", type=Path, help="continue from a file that --save wrote")
    options = parser.parse_args()
    if options.save and not (options.save.parent.is_dir() and os.access(options.save.parent, os.W_OK)):
        parser.error(f"--save {options.save}: its folder does not exist, or cannot be written to")
    if options.resume and not options.resume.is_file():
        parser.error(f"--resume {options.resume}: there is no such file")
    return options


def main() -> None:
    options = arguments()
    torch.manual_seed(options.seed)
    device = "cuda" if torch.cuda.is_available() else "cpu"

    stream = iterand.describe(options.recipe, seed=options.seed, length=options.length, server=options.server).stream
    dataset = StreamDataset(
        options.recipe,
        seed=options.seed,
        length=options.length,
        batch_size=options.batch_size,
        expected_fingerprint=stream.fingerprint,
        server=options.server,
    )
    loader = StreamLoader(dataset, num_workers=options.workers)
    model = Transformer(stream.vocab_size, options.length, options.width, options.depth, options.heads).to(device)
    optimizer = torch.optim.AdamW(model.parameters(), weight_decay=0.1, betas=(0.9, 0.95))

    first_step = 0
    if options.resume:
        saved = torch.load(options.resume, map_location=device)
        model.load_state_dict(saved["model"])
        optimizer.load_state_dict(saved["optimizer"])
        loader.load_state_dict(saved["stream"])
        first_step = saved["step"]

    parameters = sum(weight.numel() for weight in model.parameters())
    print(
        f"recipe {options.recipe}, {parameters} parameters, {device}; chance is {math.log2(stream.vocab_size):g} bits"
    )
    losses: list[float] = []
    begin, waited = time.perf_counter(), 0.0
    for step, batch in zip(range(first_step, options.steps), loader, strict=False):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, options)
        tokens = batch["tokens"].to(device, non_blocking=True)
        logits = model(tokens[:, :-1])
        loss = functional.cross_entropy(logits.flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

        losses.append(loss.item() / math.log(2))
        if (step + 1) % options.log_every == 0 or step + 1 == options.steps:
            elapsed = time.perf_counter() - begin
            print(
                f"step {step + 1:5d}   loss {sum(losses) / len(losses):.3f} bits/token   "
                f"{len(losses) * tokens.numel() / elapsed:.0f} tokens/s   "
                f"waiting for data {100 * (loader.waited - waited) / elapsed:.1f} %",
                flush=True,
            )
            losses.clear()
            begin, waited = time.perf_counter(), loader.waited

    if options.save:
        state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
        torch.save({**state, "stream": loader.state_dict(), "step": options.steps}, options.save)


if __name__ == "__main__":
    main()
