"""Running programs on the server's byte machine."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc

from iterand import errors
from iterand.v1 import noise_service_pb2 as service

if TYPE_CHECKING:
    from iterand.client import Client

InputTape = bytes | int | None  # the tape's bytes, a seed of random ones, or an empty tape


@dataclass(frozen=True)
class Execution:
    """What a program did on the byte machine: see ExecuteResult in noise_service.proto."""

    program: int  # its place among the programs given
    output: bytes  # a byte a symbol
    steps: int  # instructions executed
    halt: str  # "ended", "step_limit" or "output_limit"


def execute_request(
    programs: str | bytes | Sequence[str | bytes],
    inputs: InputTape | Sequence[InputTape],
    max_steps: int | None,
    max_output: int | None,
    cells: int | None,
    symbols: int | None,
    repeat: bool,
) -> service.ExecuteRequest:
    """The message. Errors: InvalidArgument for values that it cannot hold; the rest is the server's to judge."""
    texts = [programs] if isinstance(programs, str | bytes) else list(programs)
    tapes = [inputs] * len(texts) if inputs is None or isinstance(inputs, bytes | int) else list(inputs)
    if len(tapes) != len(texts):
        raise errors.InvalidArgument(f"inputs has {len(tapes)} tapes for {len(texts)} programs")
    try:
        request = service.ExecuteRequest(
            max_steps=max_steps, max_output=max_output, cells=cells, symbols=symbols, repeat=repeat
        )
        for text, tape in zip(texts, tapes, strict=True):
            program = request.programs.add(text=text.encode() if isinstance(text, str) else text)
            if isinstance(tape, int):
                program.seed = tape
            elif tape is not None:
                program.input = tape
    except ValueError as error:
        raise errors.InvalidArgument(str(error)) from error
    return request


def run_programs(client: Client, request: service.ExecuteRequest) -> Iterator[Execution]:
    """Results in order. Where a connection breaks, programs whose results have not come are asked for again."""
    attempt = 0
    begin = time.monotonic()
    first = 0  # of the programs still in the request
    done = 0
    while True:
        target = client.target
        try:
            for response in client.open_execution(request):
                client.reached = True
                for result in response.results:
                    attempt = 0
                    done = first + result.program + 1
                    halt = service.ExecuteResult.Halt.Name(result.halt).lower()
                    yield Execution(first + result.program, result.output, result.steps, halt)
            return
        except grpc.RpcError as error:
            failure = errors.from_rpc(error, target)
            attempt += 1
            if not isinstance(failure, errors.Unavailable | errors.Cancelled):  # Cancelled: see Client._unary
                raise failure from error
            del request.programs[: done - first]
            first = done
            if done and not request.programs:
                return  # the connection broke behind the last result
            if client.gives_up(attempt, begin):
                raise failure from error
            client.use_next_target(target)
            time.sleep(client.retry.wait(attempt))
