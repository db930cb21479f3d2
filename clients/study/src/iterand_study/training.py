"""What pretraining, finetuning and the structure estimate share: devices and the optimiser's steps."""

from __future__ import annotations

import contextlib
import math
import os
import platform
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from iterand_study import config, parallel
from iterand_study.model import Transformer, parameter_groups


def model_key(study: config.Study) -> dict[str, Any]:
    """What trained weights depend on, apart from the data and the settings of pretraining or finetuning."""
    return {
        "model": config.to_dict(study.model),
        **{key: getattr(study, key) for key in ("seed", "compile", "precision")},
    }


def differences(before: dict[str, Any], now: dict[str, Any], path: str = "") -> list[str]:
    """The differences of plain data as text: `pretrain.tokens was 1, is 2`."""
    found: list[str] = []
    for key in dict.fromkeys([*before, *now]):
        old, new = before.get(key), now.get(key)
        if isinstance(old, dict) and isinstance(new, dict):
            found += differences(old, new, f"{path}{key}.")
        elif old != new:
            found.append(f"{path}{key} was {old}, is {new}")
    return found


def device_of(study: config.Study) -> torch.device:
    """The study's device. Also sets PyTorch's number of threads. Under torchrun each process takes the GPU of its local
    rank. Errors: ConfigError if there is no such GPU.
    """
    if study.threads > 0:
        torch.set_num_threads(study.threads)
    gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if study.device == "cpu" or (study.device == "auto" and gpus == 0):
        return torch.device("cpu")
    if gpus == 0:
        raise config.ConfigError(f"device is {study.device!r}, and PyTorch finds no GPU here; it must be cpu or auto")
    _, _, number = study.device.partition(":")
    place = int(os.environ.get("LOCAL_RANK", number or "0"))
    if place >= gpus:
        needed = f"process {place} needs a GPU of its own" if "LOCAL_RANK" in os.environ else f"device is cuda:{place}"
        raise config.ConfigError(f"{needed}, and PyTorch finds {gpus} here")
    torch.cuda.set_device(place)
    return torch.device("cuda", place)


def precision(device: torch.device, name: str) -> contextlib.AbstractContextManager[Any]:
    """The context in which training multiplies matrices in precision `name`; auto is bfloat16 on a GPU, else float32.

    Evaluation is always in float32.
    """
    if name not in config.PRECISIONS:
        raise config.ConfigError(f"precision is {name!r}; known are {', '.join(config.PRECISIONS)}")
    if name == "bfloat16" or (name == "auto" and device.type == "cuda"):
        return torch.autocast(device.type, torch.bfloat16)
    return contextlib.nullcontext()


def hardware(device: torch.device) -> dict[str, Any]:
    """The machine of a run, for its report."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else platform.processor() or platform.machine()
    with contextlib.suppress(OSError):
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        models = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
        if device.type == "cpu" and models:
            name = models[0]
    return {"device": device.type, "name": name, "cores": os.cpu_count(), "torch": str(torch.__version__)}


IGNORE_INDEX = -100  # of targets that the loss leaves out


def _require_compiler() -> None:
    """For models that are compiled for a CPU. Errors: ConfigError if PyTorch would not find a C++ compiler."""
    compiler = os.environ.get("CXX", "g++")
    if shutil.which(compiler) is None:
        raise config.ConfigError(
            f"compile is true, and PyTorch would compile the model with {compiler}, which is not here; "
            "install a C++ compiler (apt-get install g++), name yours in $CXX, or set compile to false"
        )


class Trainer:
    """A model with its optimiser over a known number of steps."""

    def __init__(
        self,
        model: Transformer,
        options: config.Optimizer,
        steps: int,
        device: torch.device,
        compile_model: bool = False,
        precision: str = "auto",
    ) -> None:
        self.model = model.to(device)
        self.options = options
        self.steps = steps
        self.device = device
        self.precision = precision
        self.done = 0
        self.optimizer = torch.optim.AdamW(
            parameter_groups(model, options), lr=options.learning_rate, betas=(options.beta1, options.beta2), fused=True
        )
        forward = parallel.wrap_ddp(self.model)
        if compile_model and device.type == "cpu":
            _require_compiler()
        self._forward: Any = torch.compile(forward) if compile_model else forward

    def learning_rate(self, step: int) -> float:
        """Linear warm-up, then a cosine."""
        options = self.options
        warmup = max(1, round(options.warmup_share * self.steps))
        if step < warmup:
            return options.learning_rate * (step + 1) / warmup
        progress = min(1.0, (step - warmup) / max(1, self.steps - warmup))
        low = options.final_share
        return options.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * progress)))

    def step(self, tokens: Tensor, mask: Tensor | None = None) -> float:
        """Trains on a batch (rows x length), or on this process's rows of one. Returns the loss of the whole batch,
        before the update, in bits per token. With a mask (rows x length, bool) only tokens where it is true count; the
        loss is 0 if there are none."""
        self.model.train()
        rate = self.learning_rate(self.done)
        for group in self.optimizer.param_groups:
            group["lr"] = rate * group["share"]
        tokens = tokens.to(self.device, non_blocking=True)
        with precision(self.device, self.precision):
            logits = self._forward(tokens[:, :-1]).float().flatten(0, 1)
            if mask is None:
                loss = functional.cross_entropy(logits, tokens[:, 1:].flatten())
            else:
                mask = mask.to(self.device, non_blocking=True)
                targets = tokens[:, 1:].masked_fill(~mask[:, 1:], IGNORE_INDEX).flatten()
                counted = parallel.all_reduce_mean(mask[:, 1:].sum().float()).clamp(min=1)  # equal in all processes
                loss = functional.cross_entropy(logits, targets, reduction="sum", ignore_index=IGNORE_INDEX) / counted
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.options.clip)
        self.optimizer.step()
        self.done += 1
        return parallel.all_reduce_mean(loss.detach()).item() / math.log(2)

    def state(self) -> dict[str, Any]:
        """Everything that the next step depends on, including the random states (for dropout) of all processes."""
        on_gpu = self.device.type == "cuda"
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "done": self.done,
            "random": parallel.all_gather(torch.get_rng_state()),
            "random_gpu": parallel.all_gather(torch.cuda.get_rng_state(self.device) if on_gpu else None),
        }

    def load(self, state: dict[str, Any]) -> None:
        """Continues from `state`. Dropout differs after a change from GPU to CPU or of the number of processes."""
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.done = state["done"]
        if len(state["random"]) != parallel.world_size():
            return
        torch.set_rng_state(state["random"][parallel.rank()])
        on_gpu = state["random_gpu"][parallel.rank()]
        if self.device.type == "cuda" and on_gpu is not None:
            torch.cuda.set_rng_state(on_gpu, self.device)


@torch.no_grad()
def token_bits(model: Transformer, rows: npt.NDArray[np.uint8], batch_size: int = 64) -> npt.NDArray[np.float32]:
    """Bits of each token but the first, given those before it, in float32: windows x (length - 1)."""
    model.eval()
    device = next(model.parameters()).device
    parts = []
    for at in range(0, len(rows), batch_size):
        tokens = torch.from_numpy(rows[at : at + batch_size].astype(np.int64)).to(device)
        losses = functional.cross_entropy(
            model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten(), reduction="none"
        )
        parts.append(losses.view(len(tokens), -1).cpu().numpy() / np.float32(math.log(2)))
    result: npt.NDArray[np.float32] = np.concatenate(parts)
    return result
