"""Pretrains a small model in JAX on noise that Grain loads, and resumes from a checkpoint of the loader.

pip install 'iterand[grain]' jax
"""

import json

import jax
import jax.numpy as jnp

from iterand.grain import StreamIterDataset

VOCAB, WIDTH = 256, 64


def loss(weights, tokens):
    logits = weights["in"][tokens[:, :-1]] @ weights["out"]  # put your transformer here
    return -jnp.take_along_axis(jax.nn.log_softmax(logits), tokens[:, 1:, None], -1).mean()


@jax.jit
def train_step(weights, tokens):
    value, gradients = jax.value_and_grad(loss)(weights, tokens)
    return jax.tree.map(lambda weight, gradient: weight - 0.5 * gradient, weights, gradients), value


keys = jax.random.split(jax.random.key(0))
weights = {"in": jax.random.normal(keys[0], (VOCAB, WIDTH)) * 0.1, "out": jnp.zeros((WIDTH, VOCAB))}

dataset = StreamIterDataset("up", length=128, batch_size=32, dtype="int32")
iterator = iter(dataset)
for _ in range(20):
    weights, value = train_step(weights, next(iterator)["tokens"])
print(f"loss after 20 steps: {value:.3f}")

state = json.dumps(iterator.get_state())  # goes into your checkpoint
resumed = iter(dataset)
resumed.set_state(json.loads(state))
print("resumed exactly:", bool((next(resumed)["tokens"] == next(iterator)["tokens"]).all()))
