"""The client: streams, random access and descriptions from an iterand server.

A stream is a pure function of (recipe, seed, index). So the server keeps nothing that a client would have to restore,
and every call may be made again on another server.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from types import TracebackType
from typing import Any

from iterand import errors
from iterand._batch import Batch, Tokens
from iterand._checkpoint import Name
from iterand._connection import Connection
from iterand._connection_options import Retry, Tls
from iterand._description import Description, description
from iterand._execute import Execution, InputTape, execute_request, run_programs
from iterand._remote import RemoteRoad
from iterand._renamed import refuse_old_names
from iterand._requests import RecipeLike, Shard, check_bool, check_prefetch, check_range, recipe_text, stream_spec
from iterand._secrets import checked_token, read_token
from iterand._stream import Stream, checked_indices
from iterand.v1 import noise_service_pb2 as service


class Client:
    """A connection to one server, or to the first of several equal servers that answers.

    target: "host:port", or a list of such. All must serve the same streams, as iterand servers of one engine version
        do.
    tls: True for an encrypted connection that trusts the system's authorities; Tls for other files.
    token: what the server asks every call for.
    token_file: a file whose first token is sent instead. It may have the form of a server's token file.
    retry: how long a call looks for a server.
    options: further ones of gRPC's channels.

    >>> with iterand.Server() as server, iterand.Client(server.address) as client:
    ...     print(client.target == server.address, client.describe().engine_version)
    ...     print(client.read("up", 7, length=128).shape, client.read_batch("up", [7, 9]).rows)
    ...     print(next(client.stream("up", length=128)).shape)
    ...     print(next(client.execute("+.")).output)
    True 6
    (1, 128) 2
    (64, 128)
    b'\\x01'
    """

    def __init__(
        self,
        target: str | Sequence[str],
        *,
        tls: Tls | bool = False,
        token: str | None = None,
        token_file: str | os.PathLike[str] | None = None,
        retry: Retry | None = None,
        options: Sequence[tuple[str, Any]] = (),
    ) -> None:
        targets = _checked_targets(target)
        if not isinstance(tls, bool | Tls):
            raise errors.InvalidArgument(f"tls is {tls!r}; it must be True, False or a Tls, as Tls(ca_file='ca.pem')")
        if not isinstance(retry, Retry | None):
            raise errors.InvalidArgument(f"retry is {retry!r}; it must be a Retry, as Retry(attempts=3), or None")
        if isinstance(tls, Tls):
            tls.check()
        self._connection = Connection(
            targets,
            Tls() if tls is True else (tls or None),
            _token(token, token_file),
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

    @refuse_old_names
    def stream(
        self,
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
        prefetch: int = 8,
        expected_fingerprint: bytes | None = None,
        loss_mask: bool = False,
    ) -> Stream:
        """See `iterand.stream`."""
        return self._stream(
            recipe,
            Shard(batch_size, rank, world_size, start, count),
            seed=seed,
            length=length,
            provenance=provenance,
            prefetch=prefetch,
            expected_fingerprint=expected_fingerprint,
            loss_mask=loss_mask,
        )

    def _stream(
        self,
        recipe: RecipeLike,
        shard: Shard,
        *,
        seed: int,
        length: int | None,
        provenance: bool,
        prefetch: int,
        expected_fingerprint: bytes | None,
        loss_mask: bool,
        owns_connection: bool = False,
    ) -> Stream:
        check_bool("provenance", provenance)
        check_prefetch(prefetch)
        spec = stream_spec(recipe, seed, length, expected_fingerprint, loss_mask)
        road = RemoteRoad(self._connection, spec, int(prefetch), bool(provenance), owns_connection)
        return Stream(road, Name.of(*recipe_text(recipe), seed, length, loss_mask), shard)

    @refuse_old_names
    def read_batch(
        self,
        recipe: RecipeLike,
        indices: int | Sequence[int],
        *,
        seed: int = 0,
        length: int | None = None,
        provenance: bool = False,
        expected_fingerprint: bytes | None = None,
        loss_mask: bool = False,
        timeout: float | None = None,
    ) -> Batch:
        """As `read`, with indices, fingerprint and, if asked for, provenance and the loss masks."""
        wanted = checked_indices(indices)
        check_bool("provenance", provenance)
        spec = stream_spec(recipe, seed, length, expected_fingerprint, loss_mask)
        return RemoteRoad(self._connection, spec, 1, bool(provenance), owns_connection=False).read(wanted, timeout)

    def read(
        self,
        recipe: RecipeLike,
        indices: int | Sequence[int],
        *,
        seed: int = 0,
        length: int | None = None,
        timeout: float | None = None,
    ) -> Tokens:
        """See `iterand.read`."""
        return self.read_batch(recipe, indices, seed=seed, length=length, timeout=timeout).tokens

    @refuse_old_names
    def describe(
        self,
        recipe: RecipeLike | None = None,
        *,
        seed: int = 0,
        length: int | None = None,
        loss_mask: bool = False,
        at: int = 0,
        timeout: float | None = None,
    ) -> Description:
        """See `iterand.describe`."""
        spec = None if recipe is None else stream_spec(recipe, seed, length, None, loss_mask)
        check_range("at", at, 0, 2**64 - 1)
        request = service.DescribeRequest(stream=spec, at=int(at))
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
                f"target {address!r}: must be host:port or unix:path, such as 'localhost:50051'"
            )
        port = address.rpartition(":")[2]  # which gRPC takes modulo 2^16
        if not address.startswith("unix:") and port.isdecimal() and not 1 <= int(port) <= 65535:
            raise errors.InvalidArgument(f"target {address!r}: the port must be from 1 to 65535")
    return targets


def _token(token: str | None, token_file: str | os.PathLike[str] | None) -> str | None:
    if token is not None and token_file is not None:
        raise errors.InvalidArgument("token and token_file are given; it must be one of them")
    if token_file is not None:
        return read_token(token_file)
    return None if token is None else checked_token(token)
