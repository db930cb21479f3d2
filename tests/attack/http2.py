"""HTTP/2 by hand, to send what no well-behaved client sends. Frames are RFC 9113, header blocks RFC 7541."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterable

from hpack import Encoder

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 2, 3, 4, 6, 7, 8, 9
END_STREAM, ACK, END_HEADERS = 1, 1, 4
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEALTH = "/grpc.health.v1.Health/Check"
WATCH = "/grpc.health.v1.Health/Watch"
REFLECTION = "/grpc.reflection.v1alpha.ServerReflection/ServerReflectionInfo"
SERVICE = "/iterand.v1.NoiseService/"
MAX_STREAM_ID = 2**31 - 1


def frame(kind: int, flags: int = 0, stream: int = 0, payload: bytes = b"") -> bytes:
    return struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload


def message(payload: bytes) -> bytes:
    """A gRPC message: not compressed, its length, the payload."""
    return struct.pack(">BI", 0, len(payload)) + payload


def call_headers(path: str, token: str | None = None, extra: Iterable[tuple[str, str]] = ()) -> list[tuple[str, str]]:
    headers = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "localhost")]
    headers += [("te", "trailers"), ("content-type", "application/grpc")]
    if token is not None:
        headers.append(("authorization", f"Bearer {token}"))
    return [*headers, *extra]


class Connection:
    """One connection to a server at `HOST:PORT` or `unix:PATH`. The methods raise OSError once the server closed it.

    Nothing is read unless `drain` is called, so the server sees a peer that never acknowledges settings or pings.
    """

    def __init__(self, address: str, *, preface: bool = True, receive_buffer: int | None = None) -> None:
        unix = address.startswith("unix:")
        self.socket = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        if receive_buffer is not None:
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self.socket.settimeout(5)
        host, _, port = address.rpartition(":")
        self.socket.connect(address[len("unix:") :] if unix else (host, int(port)))
        self.encoder = Encoder()
        self.next_stream = 1
        if preface:
            self.send(PREFACE + frame(SETTINGS))

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def drain(self) -> bytes:
        """What has arrived, without waiting. Raises ConnectionError at the end of the connection."""
        received = b""
        self.socket.setblocking(False)
        try:
            while data := self.socket.recv(1 << 20):
                received += data
            raise ConnectionError("the server closed the connection")
        except BlockingIOError:
            return received
        finally:
            self.socket.settimeout(5)

    def closed(self, seconds: float) -> bool:
        """Whether the server closes the connection within this time."""
        self.socket.settimeout(seconds)
        try:
            while self.socket.recv(1 << 20):
                pass
        except TimeoutError:
            return False
        except OSError:
            pass
        return True

    def close(self) -> None:
        self.socket.close()

    def take_stream(self) -> int:
        stream, self.next_stream = self.next_stream, self.next_stream + 2
        return stream

    def headers(self, headers: list[tuple[str, str]], flags: int = END_HEADERS) -> tuple[int, bytes]:
        """A stream's number, and the frame that opens it."""
        stream = self.take_stream()
        return stream, frame(HEADERS, flags, stream, self.encoder.encode(headers))

    def call(self, path: str, payload: bytes, token: str | None = None) -> bytes:
        """The frames of a whole unary call."""
        stream, data = self.headers(call_headers(path, token))
        return data + frame(DATA, END_STREAM, stream, message(payload))

    def __enter__(self) -> Connection:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
