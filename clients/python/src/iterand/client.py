"""The client: streams, random access and descriptions from an iterand server.

A stream is a pure function of (recipe, seed, index), so the server keeps nothing that a client would have to restore,
and every call may be made again on another server.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from iterand import errors
from iterand._connection import SINGLE_THREADED, Connection, Retry, Tls
from iterand._description import Description, description
from iterand._execute import Execution, InputTape, execute_request, run_programs
from iterand._requests import RecipeLike, check_bool, check_prefetch, check_range, stream_request, stream_spec
from iterand._stream import Stream
from iterand._wire import Batch, Tokens, decode_batch
from iterand.v1 import noise_service_pb2 as service


class Client:
    """A connection to one server, or to the first of several equal servers that answers.

    target: "host:port", or a list of such; all must serve the same streams (any iterand servers of one engine version
    do).
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        tls: Tls | bool = False,
        token: str | None = None,
        retry: Retry | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        targets = _checked_targets(target)
        if not isinstance(tls, bool | Tls):
            raise errors.InvalidArgument(f"tls is {tls!r}; it must be True, False or a Tls, as Tls(ca='cert.pem')")
        if not isinstance(retry, Retry | None):
            raise errors.InvalidArgument(f"retry is {retry!r}; it must be a Retry, as Retry(attempts=3), or None")
        self._connection = Connection(
            targets,
            Tls() if tls is True else (tls or None),
            None if token is None else _checked_token(token),
            retry if retry is not None else Retry(),
            options,
        )

    @property
    def target(self) -> str:
        """The server in use."""
        return self._connection.target

    def close(self) -> None:
        """Closes the connection. Streams on it end and later calls fail, with `Cancelled`."""
        self._connection.close()

    def __repr__(self) -> str:
        targets = self._connection.targets
        shown = targets[0] if len(targets) == 1 else targets
        return f"Client({shown!r}{', closed' if self._connection.closed else ''})"

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def stream(
        self,
        recipe: RecipeLike = "up",
        *,
        seed: int = 0,
        length: int | None = None,
        batch_size: int = 64,
        shard: tuple[int, int] = (0, 1),
        start: int = 0,
        count: int | None = None,
        provenance: bool = False,
        prefetch: int = 8,
        expected_fingerprint: bytes | None = None,
        mask: bool = False,
    ) -> Stream:
        """See `iterand.stream`."""
        request = stream_request(
            recipe, seed, length, batch_size, shard, start, count, provenance, expected_fingerprint, mask
        )
        return self._stream(request, prefetch, owns_connection=False)

    def _stream(self, request: service.StreamRequest, prefetch: int, owns_connection: bool) -> Stream:
        check_prefetch(prefetch)
        return Stream(self._connection, request, prefetch, owns_connection)

    def read_batch(
        self,
        first_index: int,
        rows: int = 1,
        *,
        stride: int = 1,
        recipe: RecipeLike = "up",
        seed: int = 0,
        length: int | None = None,
        provenance: bool = False,
        expected_fingerprint: bytes | None = None,
        mask: bool = False,
        timeout: float | None = None,
    ) -> Batch:
        """As `read`, with indices, fingerprint and, if asked for, provenance and the loss mask."""
        check_range("first_index", first_index, 0, 2**64 - 1)
        check_range("rows", rows, 0, 2**32 - 1)
        check_range("stride", stride, 1, 2**64 - 1)
        check_bool("provenance", provenance)
        request = service.ReadRequest(
            stream=stream_spec(recipe, seed, length, expected_fingerprint, mask),
            first_index=first_index,
            stride=stride,
            rows=rows,
            provenance=bool(provenance),
        )
        data = self._connection.unary("Read", request, bytes, timeout)
        return decode_batch(data)

    def read(
        self,
        first_index: int,
        rows: int = 1,
        *,
        stride: int = 1,
        recipe: RecipeLike = "up",
        seed: int = 0,
        length: int | None = None,
        timeout: float | None = None,
    ) -> Tokens:
        """See `iterand.read`."""
        return self.read_batch(
            first_index, rows, stride=stride, recipe=recipe, seed=seed, length=length, timeout=timeout
        ).tokens

    def describe(
        self,
        recipe: RecipeLike | None = None,
        *,
        seed: int = 0,
        length: int | None = None,
        mask: bool = False,
        at: int = 0,
        timeout: float | None = None,
    ) -> Description:
        """See `iterand.describe`."""
        spec = None if recipe is None else stream_spec(recipe, seed, length, None, mask)
        check_range("at", at, 0, 2**64 - 1)
        request = service.DescribeRequest(stream=spec, at=at)
        answer = self._connection.unary("Describe", request, service.DescribeResponse.FromString, timeout)
        return description(answer)

    def execute(
        self,
        programs: str | bytes | Sequence[str | bytes],
        inputs: InputTape | Sequence[InputTape] = None,
        *,
        max_steps: int | None = None,
        max_output: int | None = None,
        cells: int | None = None,
        symbols: int | None = None,
        repeat: bool = False,
        timeout: float | None = None,
    ) -> Iterator[Execution]:
        """See `iterand.execute`."""
        request = execute_request(programs, inputs, max_steps, max_output, cells, symbols, repeat)
        return run_programs(self._connection, request, timeout)


def _checked_targets(target: str | Sequence[str]) -> list[str]:
    """Addresses as a list. gRPC takes one without a port for port 443, and a URL for a host's name."""
    targets: list[Any] = list(target) if isinstance(target, list | tuple) else [target]
    if not targets or not all(targets):
        raise errors.InvalidArgument(f"target is {target!r}; it must be host:port or a list of such")
    for address in targets:
        if not isinstance(address, str) or ":" not in address or address.startswith(("http://", "https://")):
            raise errors.InvalidArgument(
                f"target {address!r}: host:port or unix:path is wanted, such as 'localhost:50051'"
            )
        port = address.rpartition(":")[2]  # which gRPC takes modulo 2^16
        if not address.startswith("unix:") and port.isdecimal() and not 1 <= int(port) <= 65535:
            raise errors.InvalidArgument(f"target {address!r}: the port must be from 1 to 65535")
    return targets


def _checked_token(token: str) -> str:
    """The token without the white space around it, which a file that it was read from may have."""
    if not isinstance(token, str):
        raise errors.InvalidArgument(f"token is a {type(token).__name__}; it must be a str")
    token = token.strip()
    if not (token.isascii() and token.isprintable()):
        raise errors.InvalidArgument("token has a character that no header can carry; it must be printable ASCII")
    return token


def stream(
    target: str | Sequence[str],
    recipe: RecipeLike = "up",
    *,
    seed: int = 0,
    length: int | None = None,
    batch_size: int = 64,
    shard: tuple[int, int] = (0, 1),
    start: int = 0,
    count: int | None = None,
    provenance: bool = False,
    prefetch: int = 8,
    expected_fingerprint: bytes | None = None,
    mask: bool = False,
    tls: Tls | bool = False,
    token: str | None = None,
    retry: Retry | None = None,
) -> Stream:
    """Streams one shard of a recipe's sequences: iterates over arrays of rows x length tokens.

    target: "host:port" of a server, or a list of them to fall back on.
    recipe: a preset's name, a dict, JSON text, or the path of a JSON file.
    length: tokens a sequence, instead of the recipe's own.
    shard: (rank, world): the indices g with g mod world = rank. The recipe's lanes must be a multiple of world.
    start: the shard's sequences with index >= start.
    count: how many sequences this shard gives; None: endless.
    prefetch: batches read ahead.
    expected_fingerprint: refuse any other stream (FingerprintMismatch).
    mask: ask for loss masks, as a recipe with loss_mask does: `stream.batches()` then gives batches whose `mask` is
        true where a token is to be predicted, which may be nowhere in a row. The fingerprint is that recipe's; the
        tokens are the same.
    Errors are `iterand.Error`s; they come from the iteration, since the connection is made in the background.
    """
    request = stream_request(
        recipe, seed, length, batch_size, shard, start, count, provenance, expected_fingerprint, mask
    )
    client = Client(target, tls=tls, token=token, retry=retry, options=SINGLE_THREADED)
    return client._stream(request, prefetch, owns_connection=True)


def read(
    target: str | Sequence[str],
    first_index: int,
    rows: int = 1,
    *,
    stride: int = 1,
    recipe: RecipeLike = "up",
    seed: int = 0,
    length: int | None = None,
    tls: Tls | bool = False,
    token: str | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
) -> Tokens:
    """Random access: the sequences first_index, first_index + stride, ... as an array of rows x length tokens.

    timeout: seconds for the call with all its attempts (DeadlineExceeded); None for no limit but those of `retry`.
    """
    with Client(target, tls=tls, token=token, retry=retry) as client:
        return client.read(first_index, rows, stride=stride, recipe=recipe, seed=seed, length=length, timeout=timeout)


def describe(
    target: str | Sequence[str],
    recipe: RecipeLike | None = None,
    *,
    seed: int = 0,
    length: int | None = None,
    mask: bool = False,
    at: int = 0,
    tls: Tls | bool = False,
    token: str | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
) -> Description:
    """Presets, families and engine version of a server and, if a recipe is given, what it resolves to; with `mask` the
    stream that `iterand.stream` with a mask reads, which has a fingerprint of its own.

    at: index at which the shares of a mixture's parts are told, and its cost.
    timeout: seconds for the call with all its attempts (DeadlineExceeded); None for no limit but those of `retry`.
    """
    with Client(target, tls=tls, token=token, retry=retry) as client:
        return client.describe(recipe, seed=seed, length=length, mask=mask, at=at, timeout=timeout)


def execute(
    target: str | Sequence[str],
    programs: str | bytes | Sequence[str | bytes],
    inputs: InputTape | Sequence[InputTape] = None,
    *,
    max_steps: int | None = None,
    max_output: int | None = None,
    cells: int | None = None,
    symbols: int | None = None,
    repeat: bool = False,
    tls: Tls | bool = False,
    token: str | None = None,
    retry: Retry | None = None,
    timeout: float | None = None,
) -> Iterator[Execution]:
    """Runs programs on the server's byte machine and yields what each did, in order, as the results come.

    programs: one text or many, of the instructions + - > < [ ] . , and white space.
    inputs: the input tape of all programs, or one for each: bytes, the seed of random ones, or None for an empty tape.
    max_steps, max_output, cells, symbols: limits and the machine's size; the defaults stand in noise_service.proto.
    repeat: a program that ends begins again on the same tape.
    timeout: seconds from the first result that is asked for to the last (DeadlineExceeded); None for no limit.
    Errors are `iterand.Error`s and come with the first result; a program that is none is an InvalidArgument that names
    it, the position and the character.
    """
    with Client(target, tls=tls, token=token, retry=retry) as client:
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
