"""Errors: their classes, their words, and when they come."""

from __future__ import annotations

import functools
import os
import socket
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, cast

import grpc
import pytest

import iterand
from client_helpers import FEW, collect
from iterand import Client, Retry, Tls


def test_errors_carry_the_servers_message(address: str) -> None:
    with pytest.raises(iterand.UnknownPreset, match="no-such-preset"):
        collect(address, recipe="no-such-preset", count=1)
    with pytest.raises(iterand.InvalidRecipe, match="nonsense"):
        collect(address, recipe={"nonsense": 1}, count=1)
    with pytest.raises(iterand.InvalidRecipe):
        collect(address, recipe="{broken", count=1)
    for missing in ("missing.json", "./missing"):
        with pytest.raises(iterand.InvalidRecipe, match=f"{missing}.*No such file"):
            collect(address, recipe=missing, count=1)
    with pytest.raises(iterand.InvalidRecipe, match="cannot be written as JSON: Out of range float"):
        collect(address, recipe={"band": {"low": float("nan")}}, count=1)
    with pytest.raises(iterand.InvalidArgument, match=r"length.* is 0, must be in \[16, 65536\]"):
        collect(address, length=0, count=1)
    with pytest.raises(iterand.InvalidArgument, match="rank is 4"):
        collect(address, rank=4, world_size=4, count=1)
    with pytest.raises(iterand.InvalidArgument, match="seed is -1"):
        collect(address, seed=-1, count=1)
    with pytest.raises(iterand.FingerprintMismatch, match="fingerprint"):
        collect(address, expected_fingerprint=bytes(32), count=1)
    with pytest.raises(iterand.InvalidRecipe, match="nonsense"):
        iterand.describe({"nonsense": 1}, server=address)
    with pytest.raises(iterand.Error):
        iterand.read("no-such-preset", 0, server=address)


def test_wrong_arguments_are_told_before_any_call(tmp_path: Path) -> None:
    nobody = "127.0.0.1:1"
    for wrong in ("localhost", "http://localhost:50051", "", [], [nobody, "localhost"]):
        with pytest.raises(iterand.InvalidArgument, match="host:port"):
            iterand.stream(server=wrong)
    for wrong in ("localhost:65536", "[::1]:0"):  # of which gRPC takes the first for port 0
        with pytest.raises(iterand.InvalidArgument, match="port must be from 1 to 65535"):
            iterand.stream(server=wrong)
    for wrong in (1.0, "1", True, None):
        with pytest.raises(iterand.InvalidArgument, match=r"seed is .* whole number"):
            iterand.stream(seed=cast("int", wrong), server=nobody)
    for wrong in (1, -1, 0.5, None):
        with pytest.raises(iterand.InvalidArgument, match="rank is "):
            iterand.stream(rank=cast("int", wrong), server=nobody)
    for wrong in (0, -1, 2**32, "4", None):
        with pytest.raises(iterand.InvalidArgument, match="world_size is "):
            iterand.stream(world_size=cast("int", wrong), server=nobody)
    # gRPC itself would say "Invalid metadata".
    for wrong in ("open\nsesame", "Sésame", "\0"):
        with pytest.raises(iterand.InvalidArgument, match="printable ASCII"):
            iterand.describe(token=wrong, server=nobody)
    with pytest.raises(iterand.InvalidArgument, match=r"missing\.pem"):
        iterand.describe(tls=Tls(ca_file=tmp_path / "missing.pem"), server=nobody)


def test_arguments_under_an_old_name_are_refused_with_the_new_one() -> None:
    nobody = "127.0.0.1:1"
    client = Client(nobody)
    for call in (iterand.stream, iterand.describe, Client.stream, Client.read_batch, Client.describe):
        own: Any = client if call.__qualname__.startswith("Client") else nobody
        with pytest.raises(TypeError, match="mask=, which is now loss_mask="):
            cast("Any", call)(own, 0, mask=True)
    for stream in (functools.partial(iterand.stream, nobody), client.stream):
        with pytest.raises(TypeError, match=r"stream\(\) has no argument shard=, which is now rank= and world_size="):
            cast("Any", stream)(shard=(0, 1))
    with pytest.raises(TypeError, match="unexpected keyword argument 'shard'"):  # which it never had
        cast("Any", iterand.execute)(nobody, "+", shard=(0, 1))


def test_arguments_of_a_wrong_type_are_named() -> None:
    nobody = "127.0.0.1:1"
    for wrong in (5, [None], b"127.0.0.1:1"):
        with pytest.raises(iterand.InvalidArgument, match="target"):
            iterand.describe(server=cast("str", wrong))
    with pytest.raises(iterand.InvalidArgument, match=r"tls is 'cert.pem'; .*Tls\(ca_file="):
        iterand.describe(tls=cast("bool", "cert.pem"), server=nobody)
    with pytest.raises(iterand.InvalidArgument, match="token is a bytes"):
        iterand.describe(token=cast("str", b"x"), server=nobody)
    for fingerprint in ("abc", b"abc"):
        with pytest.raises(iterand.InvalidArgument, match=r"expected_fingerprint is .*32 bytes"):
            iterand.stream(expected_fingerprint=cast("bytes", fingerprint), server=nobody)
    for name in ("loss_mask", "provenance"):
        with pytest.raises(iterand.InvalidArgument, match=f"{name} is 'no'; it must be True or False"):
            iterand.stream(server=nobody, **{name: "no"})  # type: ignore[arg-type]
    with pytest.raises(iterand.InvalidArgument, match="retry is 5; it must be a Retry"):
        iterand.describe(retry=cast("Retry", 5), server=nobody)
    for timeout in ("a", 0, -1, float("nan"), True):
        with pytest.raises(iterand.InvalidArgument, match="timeout is"):
            Client(nobody).read("up", 0, timeout=cast("float", timeout))
    for name in ("first_wait", "longest_wait", "connect_timeout", "attempts"):
        for value in (-1, "1", None, float("nan")):
            with pytest.raises(iterand.InvalidArgument, match=name):
                Retry(**{name: value})  # type: ignore[arg-type]


def test_another_kind_of_server_is_told_with_its_address() -> None:
    nothing = grpc.server(ThreadPoolExecutor(1))  # speaks gRPC, and has no such service
    port = nothing.add_insecure_port("127.0.0.1:0")
    nothing.start()
    try:
        with pytest.raises(iterand.Error, match=rf"127.0.0.1:{port}: no iterand server answers there"):
            iterand.describe(server=f"127.0.0.1:{port}")
    finally:
        nothing.stop(None)


def test_grpc_writes_nothing_of_its_own(address: str) -> None:
    script = (
        "import iterand\n"
        "try:\n"
        f"    iterand.describe(server={address!r}, tls=True, retry=iterand.Retry(attempts=0, connect_timeout=0.5))\n"
        "except iterand.Unavailable:\n"
        "    print('refused')\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_VERBOSITY"}
    done = subprocess.run(
        [sys.executable, "-c", script], env=environment, capture_output=True, text=True, timeout=60, check=True
    )
    assert (done.stdout, done.stderr) == ("refused\n", "")


def test_no_server() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    for call in (
        lambda: collect(nobody, retry=FEW, count=1),
        lambda: iterand.read("up", 0, retry=FEW, server=nobody),
        lambda: iterand.describe(retry=FEW, server=nobody),
    ):
        with pytest.raises(iterand.Unavailable, match=nobody):
            call()
