"""Neural cellular automata in JAX on the CPU, as a peer of the family `nca` (randnet/networks/nca.h).

The same definition: a 12 x 12 grid of 10 colours wrapped around, one-hot; 3x3 convolution to 4 features, 1x1 to 16
hidden units, relu, 1x1 to 10 logits; the next colour drawn from softmax(logits / 1e-4); 10 warm-up steps; 2 x 2 patches
as tokens of 10^4; frames between two marks; rows of 1024 tokens; a rule for every 8 rows. One jitted call computes many
rules (vmap), all steps in one scan. The weights are drawn once, outside the timing; ours draws a new rule for every 8
rows.

Prints one JSON object with, as tokens_per_second, tokens per core-second (CPU time of all threads, so that other load
on the machine counts little) of the best batch, and of iterand's benchmark in the same run, where its binary is given.

  bench/peers/nca_jax.py [--iterand build/release/bench/networks_bench]
"""

import argparse
import json
import math
import subprocess
import time

import jax
import jax.numpy as jnp

GRID, COLOURS, FEATURES, HIDDEN = 12, 10, 4, 16
ROWS, LENGTH, WARM_UP, TEMPERATURE = 8, 1024, 10, 1e-4
FRAME = GRID * GRID // 4 + 2
FRAMES = math.ceil(LENGTH / FRAME)


def make_rules(key: jax.Array, rules: int) -> dict[str, jax.Array]:
    """Weights that keep the variance, without biases."""
    a, b, c = jax.random.split(key, 3)
    return {
        "conv": jax.random.normal(a, (rules, 3, 3, COLOURS, FEATURES)) / math.sqrt(9 * COLOURS),
        "hidden": jax.random.normal(b, (rules, FEATURES, HIDDEN)) / math.sqrt(FEATURES),
        "output": jax.random.normal(c, (rules, HIDDEN, COLOURS)) / math.sqrt(HIDDEN),
    }


def step(rule: dict[str, jax.Array], grid: jax.Array, key: jax.Array) -> jax.Array:
    """One step of a batch of grids under one rule."""
    cells = jax.nn.one_hot(grid, COLOURS)
    wrapped = jnp.pad(cells, ((0, 0), (1, 1), (1, 1), (0, 0)), mode="wrap")
    features = jax.lax.conv_general_dilated(
        wrapped, rule["conv"], (1, 1), "VALID", dimension_numbers=("NHWC", "HWIO", "NHWC")
    )
    logits = jax.nn.relu(features @ rule["hidden"]) @ rule["output"]
    return jax.random.categorical(key, logits / TEMPERATURE, axis=-1)


def tokens_of(grid: jax.Array) -> jax.Array:
    """Frames of a batch of grids: start mark, 2 x 2 patches, end mark."""
    half = GRID // 2
    patches = grid.reshape(-1, half, 2, half, 2).transpose(0, 1, 3, 2, 4).reshape(-1, half * half, 4)
    values = (patches * jnp.array([1000, 100, 10, 1])).sum(-1)
    marks = jnp.full((grid.shape[0], 1), COLOURS**4)
    return jnp.concatenate([marks, values, marks + 1], axis=1)


def rollout(rule: dict[str, jax.Array], key: jax.Array) -> jax.Array:
    """Rows of one rule."""
    start, run = jax.random.split(key)
    grid = jax.random.randint(start, (ROWS, GRID, GRID), 0, COLOURS)
    keys = jax.random.split(run, WARM_UP + FRAMES)
    grid, _ = jax.lax.scan(lambda g, k: (step(rule, g, k), None), grid, keys[:WARM_UP])
    _, frames = jax.lax.scan(lambda g, k: (step(rule, g, k), tokens_of(g)), grid, keys[WARM_UP:])
    return frames.transpose(1, 0, 2).reshape(ROWS, -1)[:, :LENGTH]


def tokens_per_core_second(rules: int, seconds: float) -> float:
    """Rate of the compiled rollout of this many rules at once."""
    run = jax.jit(jax.vmap(rollout))
    weights = make_rules(jax.random.key(0), rules)
    keys = jax.random.split(jax.random.key(1), rules)
    rows = run(weights, keys).block_until_ready()
    assert rows.shape == (rules, ROWS, LENGTH)
    count, begin = 0, time.process_time()
    while count == 0 or time.process_time() - begin < seconds:
        run(weights, keys).block_until_ready()
        count += 1
    return count * rules * ROWS * LENGTH / (time.process_time() - begin)


def iterand_rate(binary: str) -> float:
    """Tokens per core-second of the family `nca`, from the benchmark's own CPU time."""
    text = subprocess.run(
        [binary, "--benchmark_filter=nca/paper", "--benchmark_format=json", "--benchmark_min_time=1"],
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    return float(json.loads(text)["benchmarks"][0]["tokens/s"])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--iterand", help="build/release/bench/networks_bench")
    parser.add_argument("--seconds", type=float, default=4.0, help="CPU time of each batch size")
    args = parser.parse_args()
    rates = {rules: tokens_per_core_second(rules, args.seconds) for rules in (1, 8, 64)}
    result = {"jax": jax.__version__, "tokens_per_second": {f"rules={k}": round(v) for k, v in rates.items()}}
    if args.iterand:
        ours = iterand_rate(args.iterand)
        result["iterand_tokens_per_core_second"] = round(ours)
        result["ratio_to_best"] = round(ours / max(rates.values()), 1)
    print(json.dumps(result))


if __name__ == "__main__":
    main()
