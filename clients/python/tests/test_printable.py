"""What a hostile server sends must not command the terminal that shows it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from concurrent import futures

import grpc
import pytest

import iterand
from iterand import live
from iterand._printable import printable

HOSTILE = "a\x1b[2J\x07\n\r\x00\x7f\x9b31m\u202eb\u2028\u2066\u200b\U000e0041"
ESCAPED = r"a\u001b[2J\u0007\n\r\u0000\u007f\u009b31m\u202eb\u2028\u2066\u200b\udb40\udc41"


def test_escapes() -> None:
    assert printable(HOSTILE) == ESCAPED
    for text in ("", "plain, with \\ and 'quotes'", "Grüße", "日本語", "🙂"):
        assert printable(text) == text
    assert printable("\udcff") == r"\udcff"  # a byte that was not UTF-8, as Python holds it


def test_every_character_comes_out_printable() -> None:
    for code in range(sys.maxunicode + 1):
        escaped = printable(chr(code))
        assert escaped.isprintable() and (escaped == chr(code) or escaped.isascii())


@pytest.fixture
def hostile_server() -> Iterator[str]:
    """A server that ends every call with a status of its own making."""

    class Handler(grpc.GenericRpcHandler):
        def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler:
            def answer(request: bytes, context: grpc.ServicerContext) -> bytes:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, HOSTILE)
                return b""

            def stream(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
                yield answer(request, context)

            if handler_call_details.method.endswith("/Stream"):
                return grpc.unary_stream_rpc_method_handler(stream)
            return grpc.unary_unary_rpc_method_handler(answer)

    server = grpc.server(futures.ThreadPoolExecutor(2), handlers=[Handler()])
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        yield f"127.0.0.1:{port}"
    finally:
        server.stop(0)


def test_errors_of_a_hostile_server(hostile_server: str, capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(iterand.InvalidArgument) as raised:
        iterand.describe(server=hostile_server)
    assert str(raised.value) == ESCAPED
    with pytest.raises(iterand.InvalidArgument) as raised, iterand.stream(server=hostile_server) as stream:
        next(stream)
    assert str(raised.value) == ESCAPED
    assert live.main(["--server", hostile_server, "--batches", "1"]) == 2
    assert capfd.readouterr().err == f"iterand: {ESCAPED}\n"
