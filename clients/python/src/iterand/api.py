"""The package's functions. Each works in this process or, given a server, there, with the same result."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import numpy.typing as npt

from iterand import _checkpoint, errors
from iterand._batch import Tokens
from iterand._renamed import refuse_old_names
from iterand._requests import RecipeLike, Shard, check_bool, check_prefetch, check_range, recipe_text
from iterand._stream import Stream, checked_indices

if TYPE_CHECKING:
    from iterand._connection_options import Retry, Tls
    from iterand._description import Description
    from iterand._execute import Execution, InputTape
    from iterand._explanation import Explanation
    from iterand._server import Server
    from iterand.client import Client


@refuse_old_names
def stream(
    recipe: RecipeLike = "up",
    *,
    seed: int = 0,
    length: int | None = None,
    batch_size: int = 64,
    rank: int = 0,
    world_size: int = 1,
    start: int = 0,
    count: int | None = None,
    provenance: bool = False,
    loss_mask: bool = False,
    expected_fingerprint: bytes | None = None,
    server: str | Sequence[str] | Server | Literal[False] | None = None,
    prefetch: int = 8,
    tls: Tls | bool = False,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    retry: Retry | None = None,
) -> Stream:
    """Streams a recipe's sequences: iterates over arrays of batch_size x length tokens.

    recipe: a preset's name, a dict, JSON text, or the path of a JSON file.
    length: tokens per sequence, instead of the recipe's own.
    rank, world_size: of each global batch of batch_size * world_size successive sequences, reader `rank` has the rows
        rank, rank + world_size, ... Any world size works. One that does not divide the recipe's lanes costs more. In
        this process a reader then makes sequences that it does not use: all of them if the two have no common divisor.
        From a server it reads batch by batch, and the server makes the sequences once for all readers that keep step.
    start: index of the first sequence of the first global batch.
    count: how many sequences this reader gives; None: endless.
    expected_fingerprint: refuse any other stream (FingerprintMismatch).
    loss_mask: ask for loss masks, as a recipe with loss_mask does. The batches of `stream.batches()` then have a
        `loss_mask`, true where a token is to be predicted, which may be nowhere in a row. The fingerprint is that
        recipe's; the tokens are the same.
    server: None: the sequences are made in this process, unless $ITERAND_SERVER names servers, with commas between
        them. "host:port" of a server, a list of them to fall back on, or an `iterand.Server`. False: this process,
        whatever the variable says.
    prefetch: batches read ahead from a server. In this process, threads of its own (`set_threads`) make 16 MiB of
        sequences ahead, or two segments of each lane if that is more.
    tls, token, token_file, retry: of the connection to a server, as of Client.
    Errors are `iterand.Error`s. Those of a server come from the iteration, since the connection is made in the
    background.

    >>> for tokens in iterand.stream("up", length=128, batch_size=64, count=128):
    ...     print(tokens.shape)
    (64, 128)
    (64, 128)
    """
    return open_shard(
        recipe,
        Shard(batch_size, rank, world_size, start, count),
        seed=seed,
        length=length,
        provenance=provenance,
        loss_mask=loss_mask,
        expected_fingerprint=expected_fingerprint,
        server=server,
        prefetch=prefetch,
        tls=tls,
        token=token,
        token_file=token_file,
        retry=retry,
    )


def open_shard(
    recipe: RecipeLike,
    shard: Shard,
    *,
    seed: int,
    length: int | None,
    loss_mask: bool,
    expected_fingerprint: bytes | None,
    server: Any,
    prefetch: int,
    tls: Tls | bool,
    token: str | None,
    token_file: str | os.PathLike[str] | None,
    retry: Retry | None,
    provenance: bool = False,
) -> Stream:
    """As `stream`."""
    check_bool("provenance", provenance)
    check_prefetch(prefetch)
    servers = addresses(server, tls=tls or None, token=token, token_file=token_file, retry=retry)
    _refuse_address(recipe)
    if servers is not None:
        from iterand._connection import SINGLE_THREADED

        client = _client(servers, tls, token, token_file, retry, options=SINGLE_THREADED)
        return client._stream(
            recipe,
            shard,
            seed=seed,
            length=length,
            provenance=provenance,
            prefetch=prefetch,
            expected_fingerprint=expected_fingerprint,
            loss_mask=loss_mask,
            owns_connection=True,
        )
    from iterand._embedded import EmbeddedRoad, open_stream

    opened = open_stream(recipe, seed, length, loss_mask, expected_fingerprint)
    name = _checkpoint.Name.of(*recipe_text(recipe), seed, length, loss_mask)
    return Stream(EmbeddedRoad(opened, bool(provenance)), name, shard)


def read(
    recipe: RecipeLike,
    indices: int | Sequence[int],
    *,
    seed: int = 0,
    length: int | None = None,
    server: str | Sequence[str] | Server | Literal[False] | None = None,
    tls: Tls | bool = False,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
) -> Tokens:
    """Random access: the sequences of any indices, in the order given, as an array of len(indices) x length tokens.

    indices: one index, a range, or a sequence or array of them. In this process each segment is made once.
    timeout: seconds for the call to a server with all its attempts (DeadlineExceeded); None for no limit but those of
        `retry`.
    The other arguments are those of `stream`.

    >>> iterand.read("up", [5, 100_000, 5], length=128).shape
    (3, 128)
    """
    servers = addresses(server, tls=tls or None, token=token, token_file=token_file, retry=retry, timeout=timeout)
    _refuse_address(recipe)
    if servers is not None:
        with _client(servers, tls, token, token_file, retry) as client:
            return client.read(recipe, indices, seed=seed, length=length, timeout=timeout)
    from iterand._embedded import EmbeddedRoad, open_stream

    wanted = checked_indices(indices)
    return EmbeddedRoad(open_stream(recipe, seed, length, False, None), False).read(wanted).tokens


@refuse_old_names
def describe(
    recipe: RecipeLike | None = None,
    *,
    seed: int = 0,
    length: int | None = None,
    loss_mask: bool = False,
    at: int = 0,
    server: str | Sequence[str] | Server | Literal[False] | None = None,
    tls: Tls | bool = False,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
) -> Description:
    """Presets, families and engine version and, if a recipe is given, what it resolves to. With `loss_mask` that is the
    stream with loss masks, which has a fingerprint of its own.

    at: index of the stream; shares of the parts of a mixture, and its cost, are those at this index.
    The other arguments are those of `read`.

    >>> iterand.describe("up").stream.recipe["length"]
    512
    """
    check_range("at", at, 0, 2**64 - 1)
    servers = addresses(server, tls=tls or None, token=token, token_file=token_file, retry=retry, timeout=timeout)
    if recipe is not None:
        _refuse_address(recipe)
    if servers is not None:
        with _client(servers, tls, token, token_file, retry) as client:
            return client.describe(recipe, seed=seed, length=length, loss_mask=loss_mask, at=at, timeout=timeout)
    from iterand._description import description
    from iterand._embedded import open_stream
    from iterand._native import core
    from iterand.v1 import noise_service_pb2 as service

    answer = core.describe() if recipe is None else open_stream(recipe, seed, length, loss_mask, None).describe(int(at))
    return description(service.DescribeResponse.FromString(answer))


def execute(
    programs: str | bytes | Sequence[str | bytes],
    inputs: InputTape | Sequence[InputTape] = None,
    *,
    max_steps: int | None = None,
    max_output: int | None = None,
    cells: int | None = None,
    symbols: int | None = None,
    repeat: bool = False,
    server: str | Sequence[str] | Server | Literal[False] | None = None,
    tls: Tls | bool = False,
    token: str | None = None,
    token_file: str | os.PathLike[str] | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
) -> Iterator[Execution]:
    """Runs programs on the byte machine and yields what each did, in order, as the results come.

    programs: one text or many, of the instructions + - > < [ ] . , and white space.
    inputs: the input tape of all programs, or one for each: bytes, the seed of random ones, or None for an empty tape.
    max_steps, max_output, cells, symbols: limits and the machine's size; the defaults are in noise_service.proto.
    repeat: a program that ends begins again on the same tape.
    timeout: seconds from the first result that is asked of a server to the last (DeadlineExceeded); None for no limit.
    The other arguments are those of `read`. Errors are `iterand.Error`s and come with the first result. Text that is no
    program raises InvalidArgument, which names the program, the position and the character.

    >>> for run in iterand.execute([",+.", "+[]"], b"a", max_steps=1000):
    ...     print(run.output, run.steps, run.halt)
    b'b' 3 ended
    b'' 1000 step_limit
    """
    servers = addresses(server, tls=tls or None, token=token, token_file=token_file, retry=retry, timeout=timeout)
    if servers is not None:
        with _client(servers, tls, token, token_file, retry) as client:
            yield from client.execute(
                programs,
                inputs,
                max_steps=max_steps,
                max_output=max_output,
                cells=cells,
                symbols=symbols,
                repeat=repeat,
                timeout=timeout,
            )
        return
    from iterand._execute import execute_request, executions
    from iterand._native import core
    from iterand.v1 import noise_service_pb2 as service

    request = execute_request(programs, inputs, max_steps, max_output, cells, symbols, repeat)
    running = core.Programs(request.SerializeToString())
    while (answer := running.next()) is not None:
        yield from executions(service.ExecuteResponse.FromString(answer), 0)


def explain(recipe: RecipeLike, index: int, *, seed: int = 0, length: int | None = None) -> Explanation:
    """Where a sequence comes from, found by making its segment again in this process: the same for every server of this
    engine version. For people and tests: slow. Errors: as `stream`.

    >>> [step.family for step in iterand.explain("markov", 12345).steps]
    ['markov']
    """
    from iterand._embedded import explanation, open_stream

    check_range("index", index, 0, 2**64 - 1)
    return explanation(open_stream(recipe, seed, length, False, None), int(index))


def complexity(tokens: npt.ArrayLike, alphabet_size: int = 256) -> npt.NDArray[np.float64]:
    """The complexity of each row, which the filter `band` of a recipe measures: an estimate of its Lempel-Ziv code
    length as a share of the plain row's (iterate/complexity.h). Constants measure near 0, noise near 1.

    tokens: rows x length, or one row, of whole numbers from 0 to alphabet_size - 1. Errors: InvalidArgument.

    >>> constant, noise = iterand.complexity([[7] * 512, iterand.read("uniform", 0, length=512)[0]])
    >>> bool(constant < 0.1), bool(noise > 0.9)
    (True, True)
    """
    from iterand._native import core

    check_range("alphabet_size", alphabet_size, 2, 65536)
    rows = np.asarray(tokens)
    if rows.dtype.kind not in "ui" or rows.ndim not in (1, 2) or rows.shape[-1] < 1:
        raise errors.InvalidArgument(
            f"tokens is an array of {rows.dtype} of shape {rows.shape}; it must be rows x length whole numbers"
        )
    rows = np.atleast_2d(rows)
    if rows.size and not 0 <= rows.min() <= rows.max() < alphabet_size:
        wrong = rows.max() if rows.max() >= alphabet_size else rows.min()
        raise errors.InvalidArgument(
            f"tokens has {wrong}; with alphabet_size {alphabet_size} it must be 0 to {alphabet_size - 1}"
        )
    return np.array(core.complexity(np.ascontiguousarray(rows, np.uint16), int(alphabet_size)), np.float64)


def set_threads(threads: int | None = None) -> None:
    """How many cores the streams that are made in this process from now on use together; None: all.

    Streams that are open keep what they have.

    >>> iterand.set_threads(2)
    >>> iterand.set_threads(None)
    """
    from iterand._native import core

    if threads is not None:
        check_range("threads", threads, 1, 4096)
    core.set_threads(0 if threads is None else int(threads))


def addresses(server: Any, **only_remote: Any) -> list[str] | None:
    """Where to make a call; None: in this process. Errors: InvalidArgument for arguments that need a server."""
    if server is None:
        variable = os.environ.get("ITERAND_SERVER", "")
        found = [address.strip() for address in variable.split(",") if address.strip()] or None
    elif server is False:
        found = None
    else:
        address = getattr(server, "address", server)
        found = list(address) if isinstance(address, list | tuple) else [address]
    given = [name for name, value in only_remote.items() if value is not None]
    if found is None and given:
        raise errors.InvalidArgument(f"{given[0]} is given, but no server: nothing is connected to")
    return found


def _refuse_address(recipe: object) -> None:
    if isinstance(recipe, str) and re.fullmatch(r"(unix:.*|[^{}/]*:\d+)", recipe):
        raise errors.InvalidArgument(f"recipe is {recipe!r}, an address: it is now given as server={recipe!r}")


def _client(
    servers: list[str],
    tls: Tls | bool,
    token: str | None,
    token_file: str | os.PathLike[str] | None,
    retry: Retry | None,
    options: Sequence[tuple[str, Any]] = (),
) -> Client:
    from iterand.client import Client

    return Client(servers, tls=tls, token=token, token_file=token_file, retry=retry, options=options)
