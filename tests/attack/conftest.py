"""Attacks on a real server process: how much memory it takes meanwhile, and whether it still answers others.

Each attack lasts `attack_seconds`: 1.5, or $ITERAND_ATTACK_SECONDS (tools/attack sets it). All traffic stays on this
machine. A test starts its server by `serve(...)`, opens `watch(server)` around the attack, and checks what was seen.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import grpc
import iterand
import pytest
from iterand._server import ServerProcess
from server_program import binary

TOKEN = "attack-token"

# What every attack must keep to: growth of the server's peak resident memory, and the time that a health check of
# another client takes. The slack is for machines that do other work as well.
MOST_GROWTH = 200 << 20
MOST_LATENCY = 1.0  # seconds


class Server:
    """`iterand serve` with options, perhaps under `ulimit`. Its log is `log()`."""

    def __init__(self, folder: Path, *options: str, ulimit: str | None = None, listen: str = "127.0.0.1:0") -> None:
        self._log = folder / "log"
        if "--drain" not in options:
            options = (*options, "--drain", "1")
        wrapper = [] if ulimit is None else ["bash", "-c", f'ulimit {ulimit} && exec "$@"', "bash"]
        with self._log.open("wb") as log:
            try:
                self._running = ServerProcess(binary(), *options, listen=listen, stderr=log, wrapper=wrapper)
            except iterand.Error as error:
                raise RuntimeError(f"{error}: {self.log()}") from error
        self.process, self.address = self._running.process, self._running.address

    def log(self) -> str:
        return self._log.read_text(errors="replace")

    def _status(self, field: str) -> int:
        text = Path(f"/proc/{self.process.pid}/status").read_text()
        return next(int(line.split()[1]) << 10 for line in text.splitlines() if line.startswith(field))

    def memory(self) -> int:
        """Resident bytes now."""
        return self._status("VmRSS:")

    def peak_memory(self) -> int:
        """The most resident bytes since forget_peak()."""
        return self._status("VmHWM:")

    def forget_peak(self) -> None:
        Path(f"/proc/{self.process.pid}/clear_refs").write_text("5")

    def files(self) -> int:
        """Open descriptors."""
        return sum(1 for _ in Path(f"/proc/{self.process.pid}/fd").iterdir())

    def cpu_seconds(self) -> float:
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def stop(self) -> float:
        """Seconds from SIGTERM to the end of the process."""
        begin = time.monotonic()
        self._running.stop()
        return time.monotonic() - begin


def health_check(channel: Any) -> Any:
    """The method that takes and gives bytes: b"" asks for the server as a whole, and SERVING answers it."""
    return channel.unary_unary("/grpc.health.v1.Health/Check")


SERVING = b"\x08\x01"


def health(address: str, seconds: float = 5.0) -> float:
    """Seconds that a health check over a new connection takes. Raises grpc.RpcError unless the server is serving."""
    begin = time.monotonic()
    # Without the global pool, each channel has a connection of its own.
    with grpc.insecure_channel(address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
        answer = health_check(channel)(b"", timeout=seconds, wait_for_ready=True)
    assert answer == SERVING
    return time.monotonic() - begin


class Watch:
    """What was seen of a server during an attack."""

    def __init__(self, server: Server) -> None:
        self.server = server
        self.before = server.memory()
        self.growth = 0  # of peak resident memory, bytes
        self.latencies: list[float] = []  # of health checks over one connection, seconds; failed ones count as 60
        self.errors: list[str] = []

    @property
    def latency(self) -> float:
        """The 99th percentile, seconds."""
        ordered = sorted(self.latencies)
        return ordered[max(0, -(-len(ordered) * 99 // 100) - 1)]

    def summary(self) -> str:
        return (
            f"memory {self.before >> 20} MB + {self.growth >> 20} MB at most, health p99 {1000 * self.latency:.0f} ms, "
            f"{len(self.errors)} of {len(self.latencies)} health checks failed {self.errors[:1]}"
        )

    def check(self, *, growth: int = MOST_GROWTH, latency: float = MOST_LATENCY) -> None:
        print(self.summary())
        assert self.growth <= growth, self.summary()
        assert not self.errors, self.summary()
        assert self.latency <= latency, self.summary()


@contextmanager
def watch(server: Server) -> Iterator[Watch]:
    """Checks the server's health 20 times per second, from another connection, until the block ends."""
    seen = Watch(server)
    end = threading.Event()
    begun = threading.Event()

    def probe() -> None:
        with grpc.insecure_channel(server.address, options=[("grpc.use_local_subchannel_pool", 1)]) as channel:
            check = health_check(channel)
            check(b"", timeout=10, wait_for_ready=True)
            begun.set()
            while not end.wait(0.05):
                begin = time.monotonic()
                try:
                    check(b"", timeout=10)
                    seen.latencies.append(time.monotonic() - begin)
                except grpc.RpcError as error:
                    seen.errors.append(f"{error.code()}: {error.details()}")
                    seen.latencies.append(60.0)

    thread = threading.Thread(target=probe)
    thread.start()
    assert begun.wait(15)
    seen.before = server.memory()
    server.forget_peak()
    try:
        yield seen
        end.wait(0.3)  # what the attack left behind
    finally:
        end.set()
        thread.join()
        if server.process.poll() is None:
            seen.growth = max(0, server.peak_memory() - seen.before)


Serve = Callable[..., Server]


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Serve]:
    """Starts a server with options of `iterand serve`, and ends it after the test."""
    started: list[Server] = []

    def start(*options: str, ulimit: str | None = None, listen: str = "127.0.0.1:0", token: bool = False) -> Server:
        folder = tmp_path / str(len(started))
        folder.mkdir()
        if token:
            (folder / "token").write_text(TOKEN)
            (folder / "token").chmod(0o600)
            options = (*options, "--token-file", str(folder / "token"))
        started.append(Server(folder, *options, ulimit=ulimit, listen=listen))
        return started[-1]

    yield start
    for server in started:
        if server.process.poll() is None:
            server.process.kill()
            server.process.wait()


@pytest.fixture(scope="session")
def attack_seconds() -> float:
    return float(os.environ.get("ITERAND_ATTACK_SECONDS", "1.5"))
