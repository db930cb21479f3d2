"""Exception classes follow from the server's reason, else from the status code; never from the text."""

from __future__ import annotations

import contextlib
import inspect
import pickle
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import grpc
import pytest
from google.protobuf import any_pb2
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import iterand
from client_helpers import FEW, collect
from conftest import Server
from iterand import errors
from iterand.v1 import errors_pb2
from iterand.v1 import noise_service_pb2 as service

REASONS = [name for name in errors_pb2.ErrorReason.DESCRIPTOR.values_by_name if name != "ERROR_REASON_UNSPECIFIED"]

# What the status code alone gives.
BY_CODE = {
    grpc.StatusCode.INVALID_ARGUMENT: iterand.InvalidArgument,
    grpc.StatusCode.NOT_FOUND: iterand.UnknownPreset,
    grpc.StatusCode.FAILED_PRECONDITION: iterand.Error,
    grpc.StatusCode.OUT_OF_RANGE: iterand.OutOfRange,
    grpc.StatusCode.RESOURCE_EXHAUSTED: iterand.ResourceExhausted,
    grpc.StatusCode.UNAUTHENTICATED: iterand.Unauthenticated,
    grpc.StatusCode.PERMISSION_DENIED: iterand.Unauthenticated,
    grpc.StatusCode.UNAVAILABLE: iterand.Unavailable,
    grpc.StatusCode.DEADLINE_EXCEEDED: iterand.DeadlineExceeded,
    grpc.StatusCode.CANCELLED: iterand.Cancelled,
    grpc.StatusCode.UNIMPLEMENTED: iterand.Error,
    grpc.StatusCode.INTERNAL: iterand.Error,
    grpc.StatusCode.UNKNOWN: iterand.Error,
}

# Reason, the code that it comes with, and the class.
BY_REASON = {
    "INVALID_REQUEST": (grpc.StatusCode.INVALID_ARGUMENT, iterand.InvalidArgument),
    "INVALID_RECIPE": (grpc.StatusCode.INVALID_ARGUMENT, iterand.InvalidRecipe),
    "UNKNOWN_PRESET": (grpc.StatusCode.NOT_FOUND, iterand.UnknownPreset),
    "FINGERPRINT_MISMATCH": (grpc.StatusCode.FAILED_PRECONDITION, iterand.FingerprintMismatch),
    "STARVED": (grpc.StatusCode.FAILED_PRECONDITION, iterand.Starved),
    "INDEX_OUT_OF_RANGE": (grpc.StatusCode.OUT_OF_RANGE, iterand.OutOfRange),
    "REPLAY_TOO_LONG": (grpc.StatusCode.OUT_OF_RANGE, iterand.OutOfRange),
    "REQUEST_TOO_LARGE": (grpc.StatusCode.RESOURCE_EXHAUSTED, iterand.ResourceExhausted),
    "STREAM_TOO_LARGE": (grpc.StatusCode.RESOURCE_EXHAUSTED, iterand.ResourceExhausted),
    "TOKEN_MISSING": (grpc.StatusCode.UNAUTHENTICATED, iterand.Unauthenticated),
    "TOKEN_INVALID": (grpc.StatusCode.UNAUTHENTICATED, iterand.Unauthenticated),
    "SERVER_BUSY": (grpc.StatusCode.UNAVAILABLE, iterand.Unavailable),
    "SERVER_STOPPING": (grpc.StatusCode.UNAVAILABLE, iterand.Unavailable),
    "REQUEST_TIMEOUT": (grpc.StatusCode.DEADLINE_EXCEEDED, iterand.DeadlineExceeded),
    "CALL_CANCELLED": (grpc.StatusCode.CANCELLED, iterand.Cancelled),
}

# Texts that would say something else to a reader of words.
WORDINGS = ("", "fingerprint mismatch", "shard: wrong", "families[0]: wrong", "Received message larger than max")


class Refusing(grpc.GenericRpcHandler):
    """A server that ends every call with one status, made by Google's own messages."""

    def __init__(self) -> None:
        self.code = grpc.StatusCode.UNKNOWN
        self.message = ""
        self.trailer: bytes | None = None

    def set(self, code: grpc.StatusCode, message: str, reason: str | None, domain: str = "iterand") -> None:
        self.code, self.message, self.trailer = code, message, None
        if reason is not None:
            detail = any_pb2.Any()
            detail.Pack(error_details_pb2.ErrorInfo(reason=reason, domain=domain, metadata={"field": "a\u202eb"}))
            rich = errors_pb2.RichStatus(code=code.value[0], message=message.encode(), details=[detail])
            self.trailer = rich.SerializeToString()

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
        def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
            if self.trailer is not None:
                context.set_trailing_metadata((("grpc-status-details-bin", self.trailer),))
            context.abort(self.code, self.message)
            return b""

        return grpc.unary_unary_rpc_method_handler(answer)


@pytest.fixture(scope="module")
def refusing() -> Iterator[tuple[Refusing, str]]:
    handler = Refusing()
    server = grpc.server(ThreadPoolExecutor(2), handlers=[handler])
    address = f"127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
    server.start()
    yield handler, address
    server.stop(0)


def refused(address: str) -> iterand.Error:
    with pytest.raises(iterand.Error) as found:
        iterand.describe(server=address, timeout=20, retry=iterand.Retry(attempts=0))
    return found.value


def test_the_table_is_whole() -> None:
    assert sorted(BY_REASON) == sorted(REASONS) == sorted(errors._BY_REASON)


@pytest.mark.parametrize("reason", REASONS)
def test_each_reason_has_its_class_whatever_the_text(refusing: tuple[Refusing, str], reason: str) -> None:
    handler, address = refusing
    code, kind = BY_REASON[reason]
    for message in WORDINGS:
        handler.set(code, message, reason)
        error = refused(address)
        # A deadline that the client has set itself ends in its own words.
        if reason != "REQUEST_TIMEOUT":
            assert error.reason == reason
            assert error.metadata == {"field": "a\\u202eb"}
        assert type(error) is kind, message
        assert error.code is code


@pytest.mark.parametrize("code", BY_CODE)
def test_without_a_reason_the_code_decides_whatever_the_text(
    refusing: tuple[Refusing, str], code: grpc.StatusCode
) -> None:
    handler, address = refusing
    for message in WORDINGS:
        for reason, domain in ((None, ""), ("A_REASON_OF_TOMORROW", "iterand"), ("STARVED", "googleapis.com")):
            handler.set(code, message, reason, domain)
            error = refused(address)
            assert type(error) is BY_CODE[code], (message, reason)


@pytest.mark.parametrize("trailer", [b"", b"\xff", b"\x1a\x03abc", b"\x1a\x05\x0a\x03abc", bytes(100)])
def test_a_broken_trailer_is_ignored(refusing: tuple[Refusing, str], trailer: bytes) -> None:
    handler, address = refusing
    handler.set(grpc.StatusCode.OUT_OF_RANGE, "far", None)
    handler.trailer = trailer
    error = refused(address)
    assert type(error) is iterand.OutOfRange
    assert (error.reason, error.metadata) == (None, {})


def test_errors_are_pickled_whole() -> None:
    error = iterand.UnknownPreset("none", grpc.StatusCode.NOT_FOUND, "UNKNOWN_PRESET", {"preset": "x"})
    copy = pickle.loads(pickle.dumps(error))
    assert type(copy) is iterand.UnknownPreset
    assert (copy.message, copy.code, copy.reason, copy.metadata) == (
        "none",
        grpc.StatusCode.NOT_FOUND,
        "UNKNOWN_PRESET",
        {"preset": "x"},
    )
    assert all(
        inspect.signature(kind) == inspect.signature(iterand.Error)
        for kind in vars(errors).values()
        if inspect.isclass(kind) and issubclass(kind, iterand.Error)
    )


STARVING = {
    "families": [{"constant": {}}],
    "length": 64,
    "lanes": 2,
    "alphabet_size": 2,
    "distinct": True,
    "starvation_rounds": 3,
}
WIDE = {"families": [{"uniform": {}}], "length": 65536, "lanes": 4096, "segment_sequences": 1024}
ENDLESS = "up-paper"
SHORT = {"recipe": "uniform", "length": 64, "count": 1}


@pytest.mark.parametrize(
    ("options", "kind", "reason", "metadata"),
    [
        ({**SHORT, "batch_size": 2**31 - 1}, iterand.InvalidArgument, "INVALID_REQUEST", {"field": "batch_size"}),
        ({"recipe": "no-such"}, iterand.UnknownPreset, "UNKNOWN_PRESET", {"preset": "no-such"}),
        ({"recipe": "{broken"}, iterand.InvalidRecipe, "INVALID_RECIPE", {}),
        ({"recipe": {"families": [{"lstm": {"layers": 99}}]}}, iterand.InvalidRecipe, "INVALID_RECIPE", {}),
        ({"recipe": "uniform", "length": 3}, iterand.InvalidRecipe, "INVALID_RECIPE", {}),
        ({"recipe": STARVING}, iterand.Starved, "STARVED", {}),
        ({"recipe": WIDE}, iterand.ResourceExhausted, "STREAM_TOO_LARGE", {"limit": str(256 << 20)}),
        ({"recipe": ENDLESS, "start": 10**15}, iterand.OutOfRange, "REPLAY_TOO_LONG", {}),
        ({"recipe": "up", "seed": 1, "token": "unneeded", "length": 15}, iterand.InvalidRecipe, "INVALID_RECIPE", {}),
    ],
)
def test_the_server_gives_reasons(
    address: str, options: dict[str, object], kind: type[iterand.Error], reason: str, metadata: dict[str, str]
) -> None:
    with pytest.raises(iterand.Error) as found:
        collect(address, **options)
    assert (type(found.value), found.value.reason, found.value.metadata) == (kind, reason, metadata)


def test_more_reasons_of_the_server(address: str, tmp_path: object) -> None:
    with pytest.raises(iterand.FingerprintMismatch) as mismatch:
        collect(address, expected_fingerprint=bytes(32), count=1)
    assert mismatch.value.reason == "FINGERPRINT_MISMATCH"
    assert mismatch.value.metadata["expected"] == "00" * 32
    known = iterand.describe("up", length=128, server=address).stream
    assert known is not None
    assert mismatch.value.metadata["actual"] == known.fingerprint.hex()
    for programs, options, field in (
        (["+", "?"], {}, "programs[1]"),
        ("+", {"max_steps": 0}, "max_steps"),
        ([], {}, "programs"),
    ):
        with pytest.raises(iterand.InvalidArgument) as refusal:
            list(iterand.execute(programs, server=address, **options))  # type: ignore[arg-type]
        assert (refusal.value.reason, refusal.value.metadata) == ("INVALID_REQUEST", {"field": field})
    # What is larger than gRPC itself lets through has no reason. This has one: 2 MiB of a recipe.
    with pytest.raises(iterand.ResourceExhausted) as large:
        iterand.describe("{" + " " * (2 << 20) + "}", server=address)
    assert (large.value.reason, large.value.metadata) == ("REQUEST_TOO_LARGE", {"limit": str(2 << 20)})


def test_reasons_of_a_server_that_serves_few(tmp_path: object) -> None:
    server = Server("--max-streams", "1", "--request-timeout", "1")
    try:
        with iterand.stream("uniform", length=64, prefetch=1, server=server.address) as stream:
            next(stream)
            with pytest.raises(iterand.Unavailable) as busy:
                collect(server.address, count=1, retry=FEW)
            assert busy.value.reason == "SERVER_BUSY"
    finally:
        server.stop()


def test_a_standard_decoder_reads_what_the_server_sends(address: str) -> None:
    """grpcio-status and googleapis-common-protos, which know nothing of iterand."""
    spec = service.StreamSpec(preset="nö-such " * 400)
    with grpc.insecure_channel(address) as channel:
        describe = channel.unary_unary(
            "/iterand.v1.NoiseService/Describe", service.DescribeRequest.SerializeToString, lambda data: data
        )
        for preset, length in (("nö-such", 7), ("ö" * 100_000, 128), ("%" * 100_000, 256)):
            spec = service.StreamSpec(preset=preset)
            with pytest.raises(grpc.RpcError) as found:
                describe(service.DescribeRequest(stream=spec))
            assert isinstance(found.value, grpc.Call)
            assert found.value.code() is grpc.StatusCode.NOT_FOUND
            status = rpc_status.from_call(found.value)  # which checks that code and message agree
            assert status is not None
            info = error_details_pb2.ErrorInfo()
            assert [detail.Unpack(info) for detail in status.details] == [True]
            assert (info.reason, info.domain, list(info.metadata)) == ("UNKNOWN_PRESET", "iterand", ["preset"])
            assert info.metadata["preset"].rstrip(".") == preset[:length]


def test_a_long_message_fits_its_header(address: str) -> None:
    """Characters that gRPC escapes by three bytes each, in every message that quotes what it was sent."""
    for quoted in ("ö" * 20_000, "%" * 20_000, "\U0001f40d" * 20_000):
        for recipe in ({"families": [{quoted: {}}]}, {"relabel": quoted}, {quoted: 1}, {"families": [quoted]}):
            with pytest.raises(iterand.InvalidRecipe) as found, contextlib.suppress(StopIteration):
                iterand.describe(recipe, server=address)
            assert found.value.reason == "INVALID_RECIPE"
