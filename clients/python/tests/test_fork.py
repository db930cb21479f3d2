"""Processes that are forked while streams and clients are open: they say so, and do the parent no harm."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

# What the child of a fork does in each case. It must end by itself, with status 0.
CASES = {
    "next": "expect(lambda: next(stream))",
    "batches": "expect(lambda: next(stream.batches()))",
    "describe": "expect(client.describe)",
    "read": "expect(lambda: client.read('uniform', 0))",
    "execute": "expect(lambda: next(client.execute('.')))",
    "execution": "expect(lambda: next(running))",
    "new stream": "expect(lambda: client.stream('uniform'))",
    "new client": "expect(lambda: iterand.describe(server=address))",
    "close": "stream.close(); client.close(); running.close(); expect(lambda: next(stream))",
    "collect": "del stream, client, running; gc.collect()",
    "exit": "sys.exit(0)",
    "repr": "repr(stream), repr(client), stream.next_index, stream.fingerprint, client.target",
}

SCRIPT = """
import gc, multiprocessing, os, signal, sys, time
import numpy as np
import iterand
from iterand import _connection

opened = []
server_stream = _connection.Connection.server_stream
address, case = sys.argv[1:]

def expect(call):
    try:
        call()
    except iterand.ForkedProcess:
        return
    os._exit(3)

def double(x):
    return 2 * x

retry = iterand.Retry(attempts=0)
client = iterand.Client(address, retry=retry)
stream = iterand.stream("uniform", length=128, batch_size=8, prefetch=2, retry=retry, server=address)
running = client.execute(["."] * 4_000)
rows = [next(stream) for _ in range(3)]
results = [next(running)]
if case == "pool":
    with multiprocessing.get_context("fork").Pool(3) as pool:
        assert pool.map(double, range(100)) == list(range(0, 200, 2))
        rows += [next(stream) for _ in range(20)]
else:
    for _ in range(5):
        rows += [next(stream) for _ in range(20)]
        child = os.fork()
        if child == 0:
            signal.alarm(30)
            exec(case)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
rows += [next(stream) for _ in range(200)]
results += running
tokens = np.concatenate(rows)
np.testing.assert_array_equal(tokens, client.read("uniform", range(len(tokens)), length=128))
assert [result.program for result in results] == list(range(4_000))
stream.close()
print("whole")
"""


def environment_of(support: str | None) -> dict[str, str]:
    """With gRPC's own handlers of forks off ("0"), on ("1"), or as they are by default, which is in part."""
    others = {name: value for name, value in os.environ.items() if name != "GRPC_ENABLE_FORK_SUPPORT"}
    return others if support is None else {**others, "GRPC_ENABLE_FORK_SUPPORT": support}


@pytest.mark.parametrize("support", [None, "0", "1"])
@pytest.mark.parametrize("case", [*CASES, "pool"])
def test_a_forked_child_says_so_and_harms_nobody(address: str, case: str, support: str | None) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, address, CASES.get(case, case)],
        env=environment_of(support),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stdout) == (0, "whole\n")


@pytest.mark.parametrize("support", [None, "0", "1"])
def test_forks_right_after_a_call_do_not_hang(address: str, support: str | None) -> None:
    """Without a channel that stays open, gRPC shut down meanwhile, and hung within some fifty forks."""
    script = (
        "import os, sys, iterand\n"
        "client = iterand.Client(sys.argv[1])\n"
        "for index in range(300):\n"
        "    client.read('uniform', index)\n"
        "    child = os.fork()\n"
        "    if child == 0:\n"
        "        os._exit(0)\n"
        "    assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", script, address], env=environment_of(support), timeout=100, check=True)


def test_a_client_that_was_not_used_works_in_the_child(address: str) -> None:
    script = (
        "import os, sys, iterand\n"
        "client = iterand.Client(sys.argv[1])\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    client.describe()\n"
        "    os._exit(0)\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
        "client.describe()\n"
    )
    subprocess.run([sys.executable, "-c", script, address], timeout=60, check=True)
