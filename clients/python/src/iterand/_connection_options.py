"""How a client connects: how long it tries, and whether and how the connection is encrypted."""

from __future__ import annotations

import os
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from iterand import errors
from iterand._requests import check_range
from iterand._secrets import warn_if_readable_by_all

if TYPE_CHECKING:
    import grpc


@dataclass(frozen=True)
class Retry:
    """How long a call looks for a server before `Unavailable` is raised. Times are in seconds.

    A call that finds no server, or only full ones, is tried `attempts` times more. Waits in between double from
    `first_wait` to `longest_wait`. Every batch that arrives resets the count. A server that was never reached is more
    likely a wrong address than a restart: it is tried for `connect_timeout`, which also bounds one attempt to connect.

    A call that has waited for `keepalive_time` without a message makes a health check. A server that does not answer
    it within `keepalive_timeout` is replaced by the next: one that is stopped, after the sum of both. A server that
    answers may take any time for a batch.

    >>> iterand.describe(server="localhost:1", retry=iterand.Retry(connect_timeout=0.2))
    Traceback (most recent call last):
    iterand.errors.Unavailable: localhost:1: ...
    >>> [iterand.Retry().wait(attempt) for attempt in (1, 2, 3, 9)]
    [0.1, 0.2, 0.4, 5.0]
    """

    attempts: int = 8
    first_wait: float = 0.1
    longest_wait: float = 5.0
    connect_timeout: float = 3.0
    keepalive_time: float = 3.0
    keepalive_timeout: float = 4.0

    def __post_init__(self) -> None:
        check_range("attempts of Retry", self.attempts, 0, 2**31)
        for name in ("first_wait", "longest_wait", "connect_timeout", "keepalive_time", "keepalive_timeout"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 86400:
                raise errors.InvalidArgument(f"{name} of Retry is {value!r}; it must be 0 to 86400 seconds")
        if self.keepalive_timeout == 0:
            raise errors.InvalidArgument("keepalive_timeout of Retry is 0; it must be more than 0 seconds")

    def wait(self, attempt: int) -> float:
        """Seconds before attempt 1, 2, ..."""
        return min(self.longest_wait, self.first_wait * 2.0 ** min(attempt - 1, 64))


@dataclass(frozen=True)
class Tls:
    """An encrypted connection. Files are PEM.

    ca_file: authorities to trust; None: the system's.
    cert_file, key_file: certificate of this client and its key, if the server asks for one.
    server_name: if the certificate names another host than the address does.

    >>> tls = iterand.Tls(ca_file="ca.pem")
    >>> tls.check()  # Client and stream do so
    >>> iterand.stream("up", server="noise.example:50051", tls=tls)
    <Stream of up, seed 0, at index 0, from noise.example:50051>
    """

    ca_file: str | os.PathLike[str] | None = None
    cert_file: str | os.PathLike[str] | None = None
    key_file: str | os.PathLike[str] | None = None
    server_name: str | None = None

    def __post_init__(self) -> None:
        if (self.cert_file is None) != (self.key_file is None):
            raise errors.InvalidArgument("Tls has one of cert_file and key_file; a client certificate needs both")

    def check(self) -> None:
        """Reads the files, without gRPC. Errors: InvalidArgument for what a handshake could not use.

        Logs a warning if every user of the machine may read the key.
        """
        self._pems()
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if self.ca_file is not None:
            try:
                context.load_verify_locations(self.ca_file)
            except ssl.SSLError as error:
                raise errors.InvalidArgument(f"ca_file {self.ca_file} has no PEM certificate ({error})") from error
        if self.cert_file is not None and self.key_file is not None:
            try:
                context.load_cert_chain(self.cert_file, self.key_file, password=_no_passphrase)
            except ssl.SSLError as error:
                raise errors.InvalidArgument(
                    f"cert_file {self.cert_file} and key_file {self.key_file} must be a PEM certificate and its key "
                    f"without a passphrase ({error})"
                ) from error

    def _credentials(self) -> grpc.ChannelCredentials:
        """Errors: InvalidArgument if a file cannot be read."""
        import grpc

        authorities, key, certificate = self._pems()
        return grpc.ssl_channel_credentials(authorities, key, certificate)

    def _pems(self) -> tuple[bytes | None, ...]:
        if self.key_file is not None:
            warn_if_readable_by_all(self.key_file)
        return tuple(_pem(path) for path in (self.ca_file, self.key_file, self.cert_file))


def _pem(path: str | os.PathLike[str] | None) -> bytes | None:
    try:
        return None if path is None else Path(path).read_bytes()
    except OSError as error:
        raise errors.InvalidArgument(f"TLS file {path} cannot be read: {error.strerror}") from error


def _no_passphrase() -> bytes:
    return b""  # where OpenSSL would ask at the terminal
