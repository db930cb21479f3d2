"""The paper's loop in PyTorch, as a peer of `up-paper`: straightforward, but with the state cached from step to step.

One round of Bloem 2025 (arXiv 2506.20057) as its program runs it: a random LSTM of 4 layers and hidden 128 over
[E(x), E(z)], 104 rows, argmax, token by token. After each round the paper's program takes 52 rows of its pool, and so
does `up-paper`: only these count as made. Prints one JSON object with the median tokens/s of each setting.
"""

import argparse
import json
import statistics
import time

import torch
from torch import Tensor

LAYERS, HIDDEN, VOCABULARY, ROWS, EMITTED_ROWS = 4, 128, 256, 104, 52


def make_program(generator: torch.Generator) -> tuple[torch.Tensor, torch.nn.LSTM, torch.nn.Linear]:
    """Samples embedding, LSTM and output layer with PyTorch's own initialisation and the paper's scaling."""
    embedding = torch.randn(VOCABULARY, HIDDEN, generator=generator) * 1e-8
    lstm = torch.nn.LSTM(2 * HIDDEN, HIDDEN, LAYERS, batch_first=True)
    factor = 1.0 + 2.5 * float(torch.rand((), generator=generator))
    with torch.no_grad():
        for parameter in lstm.parameters():
            parameter.mul_(factor**LAYERS)
    return embedding, lstm, torch.nn.Linear(HIDDEN, VOCABULARY)


def seconds_a_round(steps: int, compiled: bool) -> float:
    """Time of one round cut to `steps` tokens per row, sampling the program included."""
    generator = torch.Generator().manual_seed(0)
    start = time.perf_counter()
    embedding, lstm, output = make_program(generator)

    def step(x: Tensor, z: Tensor, h: Tensor, c: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        hidden, (h, c) = lstm(torch.cat([embedding[x], embedding[z]], dim=-1).unsqueeze(1), (h, c))
        return output(hidden[:, 0]).argmax(dim=-1), h, c

    run = torch.compile(step) if compiled else step
    z_rows = torch.randint(VOCABULARY, (ROWS, steps), generator=generator)
    x = torch.randint(VOCABULARY, (ROWS,), generator=generator)
    h = torch.zeros(LAYERS, ROWS, HIDDEN)
    c = torch.zeros(LAYERS, ROWS, HIDDEN)
    out = torch.empty(ROWS, steps, dtype=torch.long)
    if compiled:  # compilation is not what is measured
        run(x, z_rows[:, 0], h, c)
        start = time.perf_counter()
    for t in range(steps):
        x, h, c = run(x, z_rows[:, t], h, c)
        out[:, t] = x
    return time.perf_counter() - start


def main() -> None:
    """Measures 1 and 2 threads, plain and compiled; a setting that does not run is reported as null."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=512)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--compile", action="store_true", help="measure torch.compile too (needs a C++ compiler)")
    arguments = parser.parse_args()
    result = {}
    with torch.inference_mode():
        for threads in (1, 2):
            torch.set_num_threads(threads)
            for compiled in (False, True) if arguments.compile else (False,):
                name = f"threads={threads}" + (" compiled" if compiled else "")
                try:
                    times = [seconds_a_round(arguments.steps, compiled) for _ in range(arguments.repeats)]
                    result[name] = EMITTED_ROWS * arguments.steps / statistics.median(times)
                except Exception as error:  # torch.compile fails in many ways; the table says which
                    result[name] = None
                    result[name + " error"] = str(error).splitlines()[0][:200]
    print(json.dumps({"torch": torch.__version__, "tokens_per_second": result}))


if __name__ == "__main__":
    main()
