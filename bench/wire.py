"""What the Python client takes off the wire, against a bare gRPC client of equal messages, in the same run.

Both servers are processes of their own. The bare one sends one ready-made message again and again. To show what memory
costs, it also sends as many in turn as our cache holds. Its client, plain grpcio in a process of its own, looks at
nothing. Ours serves preset `markov` from its cache, as a second run of a sweep has it. The first pass fills the cache
and is not counted. Bare and ours take turns. Prints one JSON object with medians.

  bench/wire.py [--seconds S] [--repeats N]
"""

import argparse
import contextlib
import json
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import iterand
from iterand._server import ServerProcess
from iterand.v1 import noise_service_pb2 as service

BUILD = Path(__file__).resolve().parent.parent / "build" / "release"
PRESET, SEED = "markov", 1000
CACHED_SEQUENCES = 100_000


@contextlib.contextmanager
def process(*command: object) -> Iterator[str]:
    """A server that prints `listening on ADDRESS`, stopped at the end."""
    arguments = [str(part) for part in command]
    server = subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
    try:
        assert server.stdout is not None
        yield server.stdout.readline().split()[-1]
    finally:
        server.terminate()
        server.wait()


def take_bare(address: str, rows: int, sequences: int, seconds: float) -> float:
    """Bytes per second of a client that takes messages as they are. 0 sequences: the server has one message ready."""
    options = [("grpc.max_receive_message_length", -1), ("grpc.enable_http_proxy", 0)]
    with grpc.insecure_channel(address, options=options) as channel:
        method = channel.unary_stream(
            "/iterand.v1.NoiseService/Stream",
            request_serializer=service.StreamRequest.SerializeToString,
            response_deserializer=None,
        )
        call: Any = method(service.StreamRequest(batch_size=rows, count=sequences))
        next(call)
        count, begin = 0, time.perf_counter()
        for message in call:
            count += len(message)
            if (passed := time.perf_counter() - begin) >= seconds:
                break
        call.cancel()
    return count / passed


def bare_rate(address: str, rows: int, sequences: int, seconds: float) -> float:
    """The same in another process: ours changes what malloc does in its own."""
    command = [sys.executable, __file__, "--bare-client", address, str(rows), str(sequences), "--seconds", str(seconds)]
    return float(subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout)


def our_rate(address: str, rows: int) -> float:
    """Bytes of tokens per second."""
    with iterand.stream(PRESET, seed=SEED, batch_size=rows, count=CACHED_SEQUENCES, server=address) as stream:
        next(stream)
        begin = time.perf_counter()
        count = sum(tokens.nbytes for tokens in stream)
        return count / (time.perf_counter() - begin)


def main() -> None:
    """Measures three sizes of batches."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=0.5, help="of each bare measurement")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--bare-client", nargs=3, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare_client:
        address, rows, sequences = arguments.bare_client
        print(take_bare(address, int(rows), int(sequences), arguments.seconds))
        return
    report = []
    with (
        process(BUILD / "bench/serve_bench", "--serve-bare") as bare,
        ServerProcess(BUILD / "clients/cli/iterand", stderr=subprocess.DEVNULL) as running,
    ):
        ours = running.address
        our_rate(ours, 512)
        for rows in (64, 512, 2048):
            rates: dict[str, list[float]] = {"bare": [], "many": [], "cached": []}
            for _ in range(arguments.repeats):
                rates["bare"].append(bare_rate(bare, rows, 0, arguments.seconds))
                rates["cached"].append(our_rate(ours, rows))
                rates["many"].append(bare_rate(bare, rows, CACHED_SEQUENCES, arguments.seconds))
            medians = {name: statistics.median(values) for name, values in rates.items()}
            report.append(
                {
                    "batch_size": rows,
                    "bare_bytes_per_second": medians["bare"],
                    "bare_many_bytes_per_second": medians["many"],
                    "cached_bytes_per_second": medians["cached"],
                    "ratio": medians["cached"] / medians["bare"],
                }
            )
    print(json.dumps({"grpcio": grpc.__version__, "wire": report}))


if __name__ == "__main__":
    main()
