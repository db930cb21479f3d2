"""Running programs on the server's byte machine."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, SupportsIndex

from iterand import errors
from iterand._requests import check_bool, check_range
from iterand.v1 import noise_service_pb2 as service

if TYPE_CHECKING:
    from iterand._connection import Connection

_MAX_REQUEST_BYTES = 16 << 20  # of a server, as noise_service.proto says

InputTape = bytes | int | None
"""The tape's bytes, a seed of random ones, or None for an empty tape.

>>> [run.output for run in iterand.execute([",.", ",."], [b"a", None])]
[b'a', b'\\x00']
"""


@dataclass(frozen=True)
class Execution:
    """What a program did on the byte machine.

    program: its place among the programs given.
    output: one byte per symbol.
    steps: instructions executed.
    halt: "ended", "step_limit" or "output_limit".

    >>> next(iterand.execute("+.+."))
    Execution(program=0, output=b'\\x01\\x02', steps=4, halt='ended')
    """

    program: int
    output: bytes
    steps: int
    halt: str


def execute_request(
    programs: str | bytes | Sequence[str | bytes],
    inputs: InputTape | Sequence[InputTape],
    max_steps: int | None,
    max_output: int | None,
    cells: int | None,
    symbols: int | None,
    repeat: bool,
) -> service.ExecuteRequest:
    """The message. Errors: InvalidArgument for what it cannot hold; the rest is the server's to judge."""
    texts = [programs] if isinstance(programs, str | bytes) else _listed("programs", programs)
    one = inputs is None or isinstance(inputs, bytes | SupportsIndex)
    tapes: list[Any] = [inputs] * len(texts) if one else _listed("inputs", inputs)
    if len(tapes) != len(texts):
        raise errors.InvalidArgument(f"inputs has {len(tapes)} tapes for {len(texts)} programs")
    bounds = {
        "max_steps": (max_steps, 64),
        "max_output": (max_output, 32),
        "cells": (cells, 32),
        "symbols": (symbols, 32),
    }
    for name, (value, bits) in bounds.items():
        if value is not None:
            check_range(name, value, 0, 2**bits - 1)
    check_bool("repeat", repeat)
    request = service.ExecuteRequest(
        max_steps=max_steps, max_output=max_output, cells=cells, symbols=symbols, repeat=bool(repeat)
    )
    for place, (text, tape) in enumerate(zip(texts, tapes, strict=True)):
        if not isinstance(text, str | bytes):
            raise errors.InvalidArgument(f"programs[{place}] is a {type(text).__name__}; it must be text")
        # Text that cannot be encoded is not an instruction, and the server's error for it is better.
        program = request.programs.add(text=text.encode(errors="replace") if isinstance(text, str) else text)
        if isinstance(tape, bytes):
            program.input = tape
        elif tape is not None:
            check_range(f"inputs: the seed of tape {place}", tape, 0, 2**64 - 1)
            program.seed = tape
    return request


def _listed(name: str, given: Any) -> list[Any]:
    try:
        return list(given)
    except TypeError:
        raise errors.InvalidArgument(f"{name} is a {type(given).__name__}; it must be one or a list of them") from None


def run_programs(connection: Connection, request: service.ExecuteRequest, timeout: float | None) -> Iterator[Execution]:
    """Results in order. If a connection breaks, programs whose results have not come are requested again."""
    from iterand import _fork
    from iterand._connection import Attempts

    if (size := request.ByteSize()) > _MAX_REQUEST_BYTES:
        raise errors.ResourceExhausted(
            f"the request has {size} bytes, must have at most {_MAX_REQUEST_BYTES}: "
            "give it fewer or shorter programs at a time"
        )
    attempts = Attempts(connection, timeout)
    first = 0  # of the programs still in the request
    done = 0
    while True:
        call = connection.server_stream("Execute", request, service.ExecuteResponse.FromString, attempts.left())
        try:
            for response in call:
                attempts.succeeded()
                for execution in executions(response, first):
                    done = execution.program + 1
                    yield execution
                    _fork.check()
            return
        except errors.Error as failure:
            if done > first and isinstance(failure, errors.Unavailable | errors.Cancelled):
                del request.programs[: done - first]
                first = done
                if not request.programs:
                    return  # the connection broke after the last result
            attempts.failed(call.link, failure)


def executions(response: service.ExecuteResponse, first: int) -> Iterator[Execution]:
    """The results in a message; `first` is the place of the request's first program."""
    for result in response.results:
        halt = service.ExecuteResult.Halt.Name(result.halt).lower()
        yield Execution(first + result.program, result.output, result.steps, halt)
