"""Programs run on a real server's byte machine."""

from __future__ import annotations

import itertools
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import grpc
import numpy as np
import pytest

import iterand
from conftest import Server
from iterand import Retry
from iterand.v1 import noise_service_pb2 as service


def test_results_come_in_order(address: str) -> None:
    results = list(iterand.execute(["+++.", b"+[]", "+[.+]"], max_steps=1000, max_output=10, server=address))
    assert [result.program for result in results] == [0, 1, 2]
    assert [result.output for result in results] == [b"\3", b"", bytes(range(1, 11))]
    assert [result.halt for result in results] == ["ended", "step_limit", "output_limit"]
    assert (results[0].steps, results[1].steps) == (4, 1000)


def test_input_tapes(address: str) -> None:
    tapes = [b"ab", 7, 7, 8, None]
    results = list(iterand.execute([",.,."] * 5, tapes, max_output=64, repeat=True, server=address))
    echoes = [result.output for result in results]
    assert echoes[0] == b"ab" * 32
    assert echoes[1] == echoes[2] != echoes[3]
    assert echoes[4] == bytes(64)
    (same,) = iterand.execute(",.", b"x", server=address)
    assert same.output == b"x"


def test_what_is_empty_is_an_empty_program_or_tape(address: str) -> None:
    results = list(iterand.execute(["", b"", ",.", ",."], [None, b"", b"", None], server=address))
    assert [result.output for result in results] == [b"", b"", b"\0", b"\0"]
    assert [result.halt for result in results] == ["ended"] * 4
    for empty in ("", b""):
        (result,) = iterand.execute(empty, b"", server=address)
        assert (result.steps, result.output) == (0, b"")


def test_a_small_machine(address: str) -> None:
    (result,) = iterand.execute(".-.>.>.", cells=2, symbols=5, server=address)
    assert list(result.output) == [0, 4, 0, 4]


def test_outputs_equal_the_family(address: str) -> None:
    text = "+>++<[.>.+<+]>"
    machine = {"programs": [text], "cells": {"fixed": 9}, "steps_per_token": {"fixed": 4}}
    recipe = {"families": [{"tape_machine": machine}], "chain": {"max_depth": {"fixed": 1}}, "length": 64}
    (result,) = iterand.execute(text, cells=9, repeat=True, max_steps=4 * 64, max_output=64, server=address)
    for row in iterand.read(recipe, range(8), server=address):
        np.testing.assert_array_equal(row, np.resize(np.frombuffer(result.output, np.uint8), 64))


@pytest.mark.parametrize(
    ("programs", "options", "message"),
    [
        ([], {}, "programs: there are none"),
        (["+", "+ ]"], {}, "programs[1]: program: position 2: ']' closes no loop"),
        (["+x"], {}, "programs[0]: program: position 1: 'x' is not an instruction"),
        (["+"], {"max_steps": 2**27}, "max_steps: is 134217728"),
        (["+"], {"cells": 0}, "cells: is 0"),
        (["+"], {"max_output": -1}, "-1"),
        (["+"], {"max_steps": "5"}, "max_steps is '5'"),
        (["+"], {"repeat": "x"}, "repeat is 'x'; it must be True or False"),
        (["+"], {"inputs": -1}, "inputs: the seed of tape 0 is -1"),
        (["+"], {"inputs": [1.5]}, "inputs: the seed of tape 0 is 1.5"),
        (["+", 3], {}, "programs[1] is a int"),
        (5, {}, "programs is a int"),
        (["+", "-"], {"inputs": [b""]}, "inputs has 1 tapes for 2 programs"),
    ],
)
def test_errors_say_what_is_wrong(address: str, programs: object, options: dict[str, object], message: str) -> None:
    with pytest.raises(iterand.InvalidArgument) as caught:
        list(iterand.execute(programs, server=address, **options))  # type: ignore[arg-type]
    assert message in str(caught.value)
    assert not isinstance(caught.value, iterand.InvalidRecipe)


def test_seeds_of_numpy_are_seeds(address: str) -> None:
    results = [
        list(iterand.execute(",.", seed, repeat=True, max_output=9, server=address))
        for seed in (3, np.int64(3), [np.uint64(3)])
    ]
    assert results[0] == results[1] == results[2]


def test_a_request_that_is_too_large_says_what_to_do(address: str) -> None:
    with pytest.raises(
        iterand.ResourceExhausted, match=r"has 180\d+ bytes.* at most 16777216: .*fewer or shorter programs"
    ):
        list(iterand.execute(["+" * 60_000] * 300, server=address))
    assert len(list(iterand.execute(["+" * 60_000] * 20, max_steps=10, server=address))) == 20


def test_goes_on_when_the_server_comes_back(own_server: Server) -> None:
    count = 60
    retry = Retry(attempts=20, first_wait=0.05)
    programs = ["+[]"] * (count - 1) + ["."]
    with iterand.Client(own_server.address, retry=retry) as client:
        results = client.execute(programs, max_steps=2**22)
        first = list(itertools.islice(results, 3))
        stopping = threading.Thread(target=lambda: (own_server.stop(), own_server.start()))
        stopping.start()
        time.sleep(0.2)
        rest = list(results)
        stopping.join()
    assert [result.program for result in first + rest] == list(range(count))
    assert rest[-1].output == b"\0"


def test_a_connection_that_breaks_behind_the_last_result_is_no_failure() -> None:
    calls = []

    def answer(request: service.ExecuteRequest, context: grpc.ServicerContext) -> object:
        calls.append(len(request.programs))
        ended = service.ExecuteResult.ENDED
        yield service.ExecuteResponse(results=[service.ExecuteResult(program=0, output=b"a", steps=1, halt=ended)])
        context.abort(grpc.StatusCode.UNAVAILABLE, "the connection broke")

    handler = grpc.unary_stream_rpc_method_handler(
        answer, service.ExecuteRequest.FromString, service.ExecuteResponse.SerializeToString
    )
    server = grpc.server(ThreadPoolExecutor(1))
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("iterand.v1.NoiseService", {"Execute": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        results = list(iterand.execute([".", "."], retry=Retry(first_wait=0.01), server=f"127.0.0.1:{port}"))
    finally:
        server.stop(None)
    assert [result.program for result in results] == [0, 1]
    assert calls == [2, 1]
