"""Streams, random access, errors and reconnection against a real server."""

from __future__ import annotations

import gc
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import cast

import grpc
import numpy as np
import pytest
from conftest import Server, sample

import iterand
from iterand import Client, Retry, Tls
from iterand.v1 import noise_service_pb2 as service

LENGTH = 128
FEW = Retry(attempts=2, first_wait=0.05)
RECIPE = {"families": [{"uniform": {}}], "length": 64}


@pytest.fixture(scope="module")
def reference(server: Server) -> np.ndarray:
    """The first 1200 sequences of `up`, generated without a server."""
    return sample(1200, length=LENGTH)


def collect(address: str, **options: object) -> np.ndarray:
    options = {"recipe": "up", "length": LENGTH, **options}
    with iterand.stream(address, **options) as stream:  # type: ignore[arg-type]
        return np.concatenate(list(stream))


@pytest.mark.parametrize("batch_size", [1, 7, 64])
def test_stream_equals_the_command_line(address: str, reference: np.ndarray, batch_size: int) -> None:
    rows = collect(address, batch_size=batch_size, count=200)
    assert rows.dtype == np.uint8
    np.testing.assert_array_equal(rows, reference[:200])


def test_served_sample_equals_in_process(address: str, reference: np.ndarray) -> None:
    np.testing.assert_array_equal(sample(100, length=LENGTH, server=address), reference[:100])


def test_resume_at_1000(address: str, reference: np.ndarray) -> None:
    np.testing.assert_array_equal(collect(address, start=1000, count=100), reference[1000:1100])
    np.testing.assert_array_equal(sample(100, length=LENGTH, start=1000), reference[1000:1100])


@pytest.mark.parametrize("world", [2, 4])
def test_shards_are_every_nth_sequence(address: str, reference: np.ndarray, world: int) -> None:
    for rank in range(world):
        rows = collect(address, shard=(rank, world), count=50, batch_size=16)
        np.testing.assert_array_equal(rows, reference[rank::world][:50])


def test_start_inside_a_shard(address: str, reference: np.ndarray) -> None:
    with iterand.stream(address, "up", length=LENGTH, shard=(1, 4), start=10, count=5, batch_size=2) as stream:
        assert stream.next_index == 13
        rows = np.concatenate(list(stream))
        assert stream.next_index == 13 + 5 * 4
    np.testing.assert_array_equal(rows, reference[13:33:4])


def test_seed_and_recipe_change_the_stream(address: str, reference: np.ndarray) -> None:
    assert not np.array_equal(collect(address, seed=1, count=64), reference[:64])
    assert not np.array_equal(collect(address, recipe="uniform", count=64), reference[:64])


def test_read_is_random_access(address: str, reference: np.ndarray) -> None:
    rows = iterand.read(address, 5, 10, stride=7, recipe="up", length=LENGTH)
    np.testing.assert_array_equal(rows, reference[5:75:7])
    far = iterand.read(address, 10**9, 2, recipe="up", length=LENGTH)
    np.testing.assert_array_equal(far, collect(address, start=10**9, count=2))


def test_recipe_as_dict_text_and_file(address: str, tmp_path: Path) -> None:
    file = tmp_path / "recipe.json"
    file.write_text(json.dumps(RECIPE))
    forms = [RECIPE, json.dumps(RECIPE), file, str(file)]
    rows = [collect(address, recipe=form, length=None, count=3) for form in forms]
    assert rows[0].shape == (3, 64)
    for other in rows[1:]:
        np.testing.assert_array_equal(other, rows[0])
    numpys = {**RECIPE, "length": np.int64(RECIPE["length"])}
    np.testing.assert_array_equal(collect(address, recipe=numpys, length=None, count=3), rows[0])
    unnamed = tmp_path / "recipe"  # a path, since it has a / in it
    unnamed.write_text(json.dumps(RECIPE))
    np.testing.assert_array_equal(collect(address, recipe=str(unnamed), length=None, count=3), rows[0])


def test_wide_tokens(address: str) -> None:
    for vocab_size, dtype in ((5000, np.uint16), (100_000, np.uint32)):
        recipe = {
            "families": [{"uniform": {}}],
            "length": 33,
            "vocab_size": vocab_size,
            "alphabet_size": 300,
            "relabel": "RELABEL_SEQUENCE",
        }
        with iterand.stream(address, recipe, count=20, batch_size=5) as stream:
            batches = list(stream)
        assert all(batch.dtype == dtype and batch.flags.aligned for batch in batches)
        rows = np.concatenate(batches)
        assert rows.shape == (20, 33)
        assert rows.max() < vocab_size
        assert rows.max() >= 300


def test_payload_is_not_copied(address: str) -> None:
    with iterand.stream(address, "up", length=LENGTH, count=1, batch_size=1) as stream:
        tokens = next(stream)
    assert not tokens.flags.writeable
    base = tokens
    while isinstance(base, np.ndarray):
        base = base.base  # type: ignore[assignment]
    assert isinstance(base, bytes)  # the message itself


def test_provenance(address: str) -> None:
    with iterand.stream(address, "up", length=LENGTH, count=40, batch_size=40, provenance=True) as stream:
        batch = stream.next_batch()
    assert len(batch.provenance) == batch.rows == 40
    assert [row.lane for row in batch.provenance] == [index % 32 for index in range(40)]
    assert all(row.family for row in batch.provenance)


def test_describe(address: str) -> None:
    bare = iterand.describe(address)
    assert bare.stream is None
    assert {"up", "uniform"} <= set(bare.presets)
    assert "lstm" in {family.name for family in bare.families}
    info = iterand.describe(address, "up", seed=3, length=LENGTH).stream
    assert info is not None
    assert (info.seed, info.length, info.vocab_size, info.dtype, len(info.fingerprint)) == (3, 128, 256, "uint8", 32)
    with iterand.stream(address, "up", seed=3, length=LENGTH, count=1) as stream:
        next(stream)
        assert stream.fingerprint == info.fingerprint
    rows = info.max_batch_rows
    with iterand.stream(address, length=LENGTH, count=rows, batch_size=rows, provenance=True) as stream:
        assert next(stream).shape == (rows, LENGTH)


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
    with pytest.raises(iterand.InvalidArgument, match=r"length.* is 0, must lie within \[16, 65536\]"):
        collect(address, length=0, count=1)
    with pytest.raises(iterand.InvalidArgument, match="lanes"):
        collect(address, shard=(0, 7), count=1)
    with pytest.raises(iterand.InvalidArgument, match="rank is 4"):
        collect(address, shard=(4, 4), count=1)
    with pytest.raises(iterand.InvalidArgument, match="seed is -1"):
        collect(address, seed=-1, count=1)
    with pytest.raises(iterand.FingerprintMismatch, match="fingerprint"):
        collect(address, expected_fingerprint=bytes(32), count=1)
    with pytest.raises(iterand.InvalidRecipe, match="nonsense"):
        iterand.describe(address, {"nonsense": 1})
    with pytest.raises(iterand.Error):
        iterand.read(address, 0, 1, recipe="no-such-preset")


def test_wrong_arguments_are_told_before_any_call(tmp_path: Path) -> None:
    nobody = "127.0.0.1:1"
    for wrong in ("localhost", "http://localhost:50051", "", [], [nobody, "localhost"]):
        with pytest.raises(iterand.InvalidArgument, match="host:port"):
            iterand.stream(wrong)
    for wrong in ("localhost:65536", "[::1]:0"):  # of which gRPC takes the first for port 0
        with pytest.raises(iterand.InvalidArgument, match="port must be from 1 to 65535"):
            iterand.stream(wrong)
    for wrong in (1.0, "1", True, None):
        with pytest.raises(iterand.InvalidArgument, match=r"seed is .* whole number"):
            iterand.stream(nobody, seed=cast("int", wrong))
    for wrong in (3, (0,), None):
        with pytest.raises(iterand.InvalidArgument, match=r"shard is .* pair"):
            iterand.stream(nobody, shard=cast("tuple[int, int]", wrong))
    # gRPC itself would say "Invalid metadata".
    for wrong in ("open\nsesame", "Sésame", "\0"):
        with pytest.raises(iterand.InvalidArgument, match="printable ASCII"):
            iterand.describe(nobody, token=wrong)
    with pytest.raises(iterand.InvalidArgument, match=r"missing\.pem"):
        iterand.describe(nobody, tls=Tls(ca=tmp_path / "missing.pem"))


def test_arguments_of_a_wrong_type_are_named() -> None:
    nobody = "127.0.0.1:1"
    for wrong in (None, 5, [None], b"127.0.0.1:1"):
        with pytest.raises(iterand.InvalidArgument, match="target"):
            iterand.describe(cast("str", wrong))
    with pytest.raises(iterand.InvalidArgument, match=r"tls is 'cert.pem'; .*Tls\(ca="):
        iterand.describe(nobody, tls=cast("bool", "cert.pem"))
    with pytest.raises(iterand.InvalidArgument, match="token is a bytes"):
        iterand.describe(nobody, token=cast("str", b"x"))
    for fingerprint in ("abc", b"abc"):
        with pytest.raises(iterand.InvalidArgument, match=r"expected_fingerprint is .*32 bytes"):
            iterand.stream(nobody, expected_fingerprint=cast("bytes", fingerprint))
    for name in ("mask", "provenance"):
        with pytest.raises(iterand.InvalidArgument, match=f"{name} is 'no'; it must be True or False"):
            iterand.stream(nobody, **{name: "no"})  # type: ignore[arg-type]
    with pytest.raises(iterand.InvalidArgument, match="retry is 5; it must be a Retry"):
        iterand.describe(nobody, retry=cast("Retry", 5))
    for timeout in ("a", 0, -1, float("nan"), True):
        with pytest.raises(iterand.InvalidArgument, match="timeout is"):
            Client(nobody).read(0, timeout=cast("float", timeout))
    for name in ("first_wait", "longest_wait", "connect_timeout", "attempts"):
        for value in (-1, "1", None, float("nan")):
            with pytest.raises(iterand.InvalidArgument, match=name):
                Retry(**{name: value})  # type: ignore[arg-type]


def test_waits_stay_bounded_however_many_there_were() -> None:
    retry = Retry(attempts=10**6, first_wait=0.1, longest_wait=5)
    assert [retry.wait(attempt) for attempt in (1, 2, 3)] == [0.1, 0.2, 0.4]
    assert retry.wait(1025) == retry.wait(10**6) == 5


def test_a_full_server_is_left_for_the_next(tmp_path: Path, address: str) -> None:
    full = Server(tmp_path, "--max-streams", "1")
    try:
        with iterand.stream(full.address, "uniform", length=LENGTH) as taken:
            next(taken)
            both = [full.address, address]
            rows = collect(cast("str", both), recipe="uniform", count=100)
            np.testing.assert_array_equal(rows, sample(100, recipe="uniform", length=LENGTH))
            assert iterand.read(both, 0, 1, recipe="uniform", length=LENGTH).shape == (1, LENGTH)
            assert len(list(iterand.execute(both, "."))) == 1
            with pytest.raises(iterand.Unavailable, match=f"{full.address}.* 1 calls .* open"):
                collect(full.address, retry=FEW, count=1)
    finally:
        full.stop()


def test_another_kind_of_server_is_told_with_its_address() -> None:
    nothing = grpc.server(ThreadPoolExecutor(1))  # speaks gRPC, and has no such service
    port = nothing.add_insecure_port("127.0.0.1:0")
    nothing.start()
    try:
        with pytest.raises(iterand.Error, match=rf"127.0.0.1:{port}: no iterand server answers there"):
            iterand.describe(f"127.0.0.1:{port}")
    finally:
        nothing.stop(None)


def test_grpc_writes_nothing_of_its_own(address: str) -> None:
    script = (
        "import iterand\n"
        "try:\n"
        f"    iterand.describe({address!r}, tls=True, retry=iterand.Retry(attempts=1, connect_timeout=0.5))\n"
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
        lambda: iterand.read(nobody, 0, retry=FEW),
        lambda: iterand.describe(nobody, retry=FEW),
    ):
        with pytest.raises(iterand.Unavailable, match=nobody):
            call()


def test_gives_up_soon_on_a_server_that_was_never_reached() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nobody = f"127.0.0.1:{free.getsockname()[1]}"
    for call in (
        lambda retry: collect(nobody, retry=retry, count=1),
        lambda retry: iterand.describe(nobody, retry=retry),
        lambda retry: list(iterand.execute(nobody, "+.", retry=retry)),
    ):
        begin = time.monotonic()
        with pytest.raises(iterand.Unavailable):
            call(Retry(attempts=100, connect_timeout=0.3))
        assert 0.3 <= time.monotonic() - begin < 10


def opened_streams(monkeypatch: pytest.MonkeyPatch) -> list[service.StreamRequest]:
    """The requests of all calls that open a stream, from now on."""
    requests: list[service.StreamRequest] = []
    open_stream = iterand.Client.open_stream

    def noted(client: iterand.Client, request: service.StreamRequest) -> object:
        copy = service.StreamRequest()
        copy.CopyFrom(request)
        requests.append(copy)
        return open_stream(client, request)

    monkeypatch.setattr(iterand.Client, "open_stream", noted)
    return requests


# A server that goes is watched on streams without an end: the buffers of a connection hold what it sent before, which
# may be tens of megabytes.
@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_server_restarted_in_mid_stream(own_server: Server, monkeypatch: pytest.MonkeyPatch, how: int) -> None:
    requests = opened_streams(monkeypatch)
    restart = threading.Timer(0.5, own_server.start)
    with iterand.stream(own_server.address, "uniform", length=LENGTH, batch_size=7, prefetch=2) as stream:
        rows = [next(stream) for _ in range(5)]
        own_server.stop(how)
        restart.start()
        while len(requests) < 2:
            rows.append(next(stream))
        rows += [next(stream) for _ in range(10)]  # the queue's, then the new server's
    restart.join()
    tokens = np.concatenate(rows)
    assert 0 < requests[-1].start < len(tokens)
    np.testing.assert_array_equal(tokens, sample(len(tokens), recipe="uniform", length=LENGTH))


def test_falls_back_to_the_next_server(own_server: Server, address: str, monkeypatch: pytest.MonkeyPatch) -> None:
    requests = opened_streams(monkeypatch)
    with iterand.stream([own_server.address, address], "uniform", length=LENGTH, prefetch=1) as stream:
        rows = [next(stream)]
        own_server.stop(signal.SIGKILL)
        while len(requests) < 2:
            rows.append(next(stream))
        rows += [next(stream) for _ in range(10)]
    tokens = np.concatenate(rows)
    assert 0 < requests[-1].start < len(tokens)
    np.testing.assert_array_equal(tokens, sample(len(tokens), recipe="uniform", length=LENGTH))


def test_calls_turn_to_the_next_server_together() -> None:
    with iterand.Client(["first:1", "second:1"]) as client:
        client.use_next_target("first:1")
        client.use_next_target("first:1")  # of another stream, which failed on the same server
        assert client.target == "second:1"
        client.use_next_target("second:1")
        assert client.target == "first:1"


def test_streams_of_one_client_fall_back_together(
    own_server: Server, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    requests, world = opened_streams(monkeypatch), 4
    with iterand.Client([own_server.address, address]) as client:
        streams = [client.stream("uniform", length=LENGTH, shard=(rank, world), prefetch=1) for rank in range(world)]
        rows = [[next(stream)] for stream in streams]
        own_server.stop(signal.SIGKILL)

        def read_on(rank: int) -> None:
            while sum(request.shard.rank == rank for request in requests) < 2:
                rows[rank].append(next(streams[rank]))
            rows[rank] += [next(streams[rank]) for _ in range(10)]

        with ThreadPoolExecutor(world) as pool:
            list(pool.map(read_on, range(world)))
        for stream in streams:
            stream.close()
    parts = [np.concatenate(each) for each in rows]
    expected = sample(max(map(len, parts)) * world, recipe="uniform", length=LENGTH)
    for rank, part in enumerate(parts):
        np.testing.assert_array_equal(part, expected[rank::world][: len(part)])


@pytest.mark.parametrize("count", [None, 10])
def test_a_stream_ends_with_the_last_index(address: str, count: int | None) -> None:
    whole = collect(address, start=2**64 - 10, batch_size=4, count=count)
    assert whole.shape == (10, LENGTH)
    odd = collect(address, start=2**64 - 10, batch_size=4, shard=(1, 2), count=count and 5)
    np.testing.assert_array_equal(odd, whole[1::2])


def test_a_shard_without_an_index_left_is_out_of_range(address: str) -> None:
    with (
        pytest.raises(iterand.OutOfRange, match="shard 0 of 2 has no index"),
        iterand.stream(address, "up", start=2**64 - 1, shard=(0, 2)) as stream,
    ):
        next(iter(stream))


def test_a_call_goes_on_when_another_thread_turns_to_the_next_server(
    address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with iterand.Client([address, address]) as client:
        connect = client._connect

        def turned() -> object:
            channel = connect()
            monkeypatch.undo()
            client.use_next_target(address)  # closes the channel
            return channel

        monkeypatch.setattr(client, "_connect", turned)
        described = client.describe("up").stream
        assert described is not None
        assert described.vocab_size == 256


def test_a_closed_client_stays_closed(address: str) -> None:
    client = iterand.Client(address)
    stream = client.stream("uniform", length=LENGTH, prefetch=1)
    next(stream)
    client.close()
    with pytest.raises(iterand.Cancelled, match="client is closed"):
        for _ in range(100_000):
            next(stream)
    with pytest.raises(iterand.Cancelled, match="client is closed"):
        client.describe()
    wait_for_threads(0)


def test_server_gone_for_good(own_server: Server) -> None:
    with iterand.stream(own_server.address, "up", length=LENGTH, prefetch=1, retry=FEW) as stream:
        next(stream)
        own_server.stop()
        with pytest.raises(iterand.Unavailable):
            for _ in range(10_000):
                next(stream)
        with pytest.raises(StopIteration):
            next(stream)


def test_token_and_tls(tmp_path: Path) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    key, certificate, secret = tmp_path / "key.pem", tmp_path / "certificate.pem", tmp_path / "token"
    command = ["openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    secret.write_text("open sesame\n")
    files = ["--tls-cert", str(certificate), "--tls-key", str(key), "--token-file", str(secret)]
    server = Server(tmp_path, *files)
    tls = Tls(ca=certificate, server_name="localhost")
    try:
        rows = collect(server.address, recipe="uniform", count=3, tls=tls, token="open sesame")
        assert rows.shape == (3, LENGTH)
        assert iterand.describe(server.address, tls=tls, token=secret.read_text()).engine_version >= 1
        with pytest.raises(iterand.Unauthenticated, match="token"):
            iterand.describe(server.address, tls=tls, token="open barley")
        with pytest.raises(iterand.Unauthenticated):
            collect(server.address, count=1, tls=tls)
        with pytest.raises(iterand.Unavailable):
            iterand.describe(server.address, tls=True, token="open sesame", retry=FEW)
    finally:
        server.stop()


def threads() -> int:
    return sum(thread.name == "iterand-stream" for thread in threading.enumerate())


def wait_for_threads(expected: int) -> None:
    end = time.monotonic() + 5
    while threads() != expected and time.monotonic() < end:
        time.sleep(0.01)
    assert threads() == expected


def test_nothing_is_left_behind(address: str) -> None:
    wait_for_threads(0)
    stream = iterand.stream(address, "up", length=LENGTH)
    next(stream)
    assert threads() == 1
    stream.close()
    stream.close()
    wait_for_threads(0)
    dropped = iterand.stream(address, "up", length=LENGTH)
    next(dropped)
    del dropped
    gc.collect()
    wait_for_threads(0)


def test_one_client_many_streams(address: str, reference: np.ndarray) -> None:
    with iterand.Client(address) as client:
        streams = [client.stream("up", length=LENGTH, shard=(rank, 2), count=20) for rank in range(2)]
        for rank, stream in enumerate(streams):
            np.testing.assert_array_equal(np.concatenate(list(stream)), reference[rank:40:2])
        assert client.describe().engine_version >= 1
