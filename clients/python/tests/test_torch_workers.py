"""Workers: how fast they start, what their errors look like, and how they end."""

from __future__ import annotations

import os
import pickle
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import grpc
import pytest
import torch
from torch.utils.data import DataLoader

import iterand
from conftest import Server
from iterand.torch import StreamDataset, StreamLoader

LENGTH, BATCH = 32, 4
BAD_LANES = {"families": [{"uniform": {}}], "lanes": -1}


def dataset(address: str, **options: Any) -> StreamDataset:
    return StreamDataset("up", length=LENGTH, server=address, **{"batch_size": BATCH, **options})


def plain_loader(data: StreamDataset, workers: int, **options: Any) -> Any:
    return DataLoader(data, batch_size=None, num_workers=workers, multiprocessing_context="forkserver", **options)


def script(folder: Path, text: str, *arguments: str, **options: Any) -> subprocess.Popen[str]:
    """Runs a program of a user's, in a process of its own."""
    file = folder / "user.py"
    file.write_text(textwrap.dedent(text))
    return subprocess.Popen(
        [sys.executable, str(file), *arguments], text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options
    )


def finished(process: subprocess.Popen[str]) -> str:
    out, errors = process.communicate(timeout=120)
    assert process.returncode == 0, errors
    return out


def test_workers_do_not_import_torch_again(address: str, tmp_path: Path) -> None:
    """By the processor time of the fork server's children, since importing torch takes more than all the rest."""
    text = """
        import sys, time
        import iterand.torch
        from iterand.torch import StreamDataset, StreamLoader

        def used(_):
            spent = time.process_time()  # of a worker since it was forked, when it begins
            assert spent < 0.6, f"a worker spent {spent} s before its first batch"

        if __name__ == "__main__":
            data = StreamDataset("up", length=32, batch_size=4, count=16, server=sys.argv[1])
            loader = StreamLoader(data, num_workers=2, worker_init_fn=used)
            for epoch in range(3):
                assert len(list(loader)) == 4
            print("fine")
    """
    assert finished(script(tmp_path, text, address)) == "fine\n"


def test_preloading_keeps_the_callers_modules(tmp_path: Path, address: str) -> None:
    text = """
        import multiprocessing, sys

        def loaded(names, queue):
            queue.put([name in sys.modules for name in names])

        def ask(context, *names):
            queue = context.SimpleQueue()
            process = context.Process(target=loaded, args=(names, queue))
            process.start()
            found = queue.get()
            process.join()
            return found

        if __name__ == "__main__":
            multiprocessing.set_forkserver_preload(["colorsys"])
            from iterand.torch import StreamDataset
            StreamDataset(server=sys.argv[1])
            print(ask(multiprocessing.get_context("forkserver"), "colorsys", "iterand.torch", "torch"))
    """
    assert finished(script(tmp_path, text, address)) == "[True, True, True]\n"


def test_a_fork_server_that_runs_already_is_logged(tmp_path: Path, address: str) -> None:
    text = """
        import logging, multiprocessing, sys

        if __name__ == "__main__":
            logging.basicConfig(stream=sys.stdout, format="%(name)s %(levelname)s %(message)s")
            process = multiprocessing.get_context("forkserver").Process(target=int)
            process.start()
            process.join()
            from iterand.torch import StreamDataset, StreamLoader
            loader = StreamLoader(StreamDataset(length=32, batch_size=4, count=4, server=sys.argv[1]), num_workers=1)
            assert [len(list(loader)) for epoch in range(2)] == [1, 1]
    """
    lines = finished(script(tmp_path, text, address)).splitlines()
    assert len(lines) == 1
    assert lines[0].startswith("iterand WARNING the fork server was started before")
    assert "set_forkserver_preload(['iterand.torch'])" in lines[0]


def test_a_loader_with_workers_leaves_this_process_free_of_grpc(address: str, tmp_path: Path) -> None:
    text = """
        import sys
        from torch.utils.data import DataLoader
        from iterand.torch import StreamDataset, StreamLoader

        if __name__ == "__main__":
            data = StreamDataset(length=32, batch_size=4, count=16, server=sys.argv[1])
            assert len(list(StreamLoader(data, num_workers=2))) == 4
            assert len(list(DataLoader(data, batch_size=None, num_workers=2, multiprocessing_context="fork"))) == 4
            print("fine")
    """
    assert finished(script(tmp_path, text, address)) == "fine\n"


def test_forked_workers_are_known_to_the_parent(address: str, tmp_path: Path) -> None:
    """Epochs after a resumed one are whole, and the dataset does not claim to know where the workers are."""
    text = """
        import sys
        import iterand
        from torch.utils.data import DataLoader
        from iterand.torch import StreamDataset

        if __name__ == "__main__":
            new = lambda: StreamDataset(length=32, batch_size=4, count=16, server=sys.argv[1])
            for persistent in (False, True):
                data, state = new(), new().state_dict()
                state["next_index"] = 8
                data.load_state_dict(state)
                loader = DataLoader(data, batch_size=None, num_workers=2, persistent_workers=persistent,
                                    multiprocessing_context="fork")
                print([len(list(loader)) for epoch in range(3)])
                try:
                    data.state_dict()
                except iterand.InvalidArgument as error:
                    print("StreamLoader" in str(error))
    """
    assert finished(script(tmp_path, text, address)).split("\n") == ["[2, 4, 4]", "True", "[2, 4, 4]", "True", ""]


ERRORS = [each for each in vars(iterand.errors).values() if isinstance(each, type) and issubclass(each, iterand.Error)]


@pytest.mark.parametrize("cls", ERRORS)
def test_errors_survive_pickling(cls: type[iterand.Error]) -> None:
    error = pickle.loads(pickle.dumps(cls("the server's words", grpc.StatusCode.NOT_FOUND)))
    assert type(error) is cls
    assert (error.message, str(error), error.code) == (
        "the server's words",
        "the server's words",
        grpc.StatusCode.NOT_FOUND,
    )


@pytest.mark.parametrize("workers", [0, 1, 2])
def test_errors_of_workers_keep_class_words_and_code(address: str, workers: int) -> None:
    cases: list[tuple[StreamDataset, type[iterand.Error], str]] = [
        (StreamDataset("no-such-preset", server=address), iterand.UnknownPreset, "no-such-preset"),
        (StreamDataset(BAD_LANES, server=address), iterand.InvalidRecipe, "lanes"),
        (dataset(address, expected_fingerprint=bytes(32)), iterand.FingerprintMismatch, "fingerprint"),
        (dataset(address, batch_size=2**31 - 1), iterand.InvalidArgument, "batch"),
    ]
    for data, cls, word in cases:
        with pytest.raises(iterand.Error, match=word) as found:
            next(iter(StreamLoader(data, num_workers=workers)))
        assert type(found.value) is cls
        assert found.value.code is not None
        assert "Traceback" not in str(found.value)
        if workers == 1:
            with pytest.raises(cls, match=word):
                next(iter(plain_loader(data, workers)))


@pytest.mark.parametrize("workers", [0, 2])
def test_a_server_that_dies_raises_unavailable(own_server: Server, workers: int) -> None:
    retry = iterand.Retry(attempts=1, first_wait=0.05)
    iterator = iter(StreamLoader(dataset(own_server.address, retry=retry, prefetch=1), num_workers=workers))
    next(iterator)
    own_server.stop(signal.SIGKILL)
    with pytest.raises(iterand.Unavailable, match=re.escape(own_server.address)):
        for _ in iterator:
            pass
    assert list(iterator) == []


def worker_pids(iterator: Any) -> list[int]:
    return [worker.pid for worker in iterator._batches._workers]


def gone(pids: list[int], seconds: float) -> bool:
    end = time.monotonic() + seconds
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
def test_a_worker_that_is_killed_is_an_error(address: str, how: signal.Signals) -> None:
    iterator = iter(StreamLoader(dataset(address), num_workers=2))
    next(iterator)
    pids = worker_pids(iterator)
    os.kill(pids[1], how)
    with pytest.raises(RuntimeError, match="worker"):
        for _ in range(10_000):
            next(iterator)
    assert gone(pids, 10)


def test_leaving_early_ends_the_workers(address: str) -> None:
    def broken() -> Iterator[torch.Tensor]:
        for batch in (iterator := iter(StreamLoader(dataset(address), num_workers=2))):
            pids.extend(worker_pids(iterator))
            yield batch
            raise KeyError("the trainer's own")

    pids: list[int] = []
    begin = time.monotonic()
    with pytest.raises(KeyError):
        list(broken())
    iterator = iter(StreamLoader(dataset(address), num_workers=2))
    next(iterator)
    pids += worker_pids(iterator)
    iterator.close()
    assert list(iterator) == []
    assert gone(pids, 5)
    assert time.monotonic() - begin < 20


def readers() -> int:
    return sum(thread.name == "iterand-stream" for thread in threading.enumerate())


def test_closing_an_iterator_without_workers_ends_its_call(address: str) -> None:
    before = readers()
    iterators = [iter(dataset(address)) for _ in range(3)]
    for iterator in iterators:
        next(iterator)
    assert readers() == before + 3
    iterators[0].close()
    assert list(iterators[0]) == []
    del iterator
    iterators.clear()
    end = time.monotonic() + 5
    while readers() > before and time.monotonic() < end:
        time.sleep(0.02)
    assert readers() == before


EXIT = """
    import os, signal, sys, threading, time
    from iterand.torch import StreamDataset, StreamLoader

    if __name__ == "__main__":
        address, workers, how = sys.argv[1], int(sys.argv[2]), sys.argv[3]
        iterator = iter(StreamLoader(StreamDataset(length=32, batch_size=4, server=address), num_workers=workers))
        next(iterator)
        print(*(worker.pid for worker in iterator._batches._workers) if workers else (), flush=True)
        if how == "raise":
            raise KeyError("the trainer's own")
        if how == "exit":
            sys.exit(3)
        if how == "signal":
            for batch in iterator:
                time.sleep(0.01)
"""


@pytest.mark.parametrize("workers", [0, 2])
@pytest.mark.parametrize(("how", "status"), [("end", 0), ("raise", 1), ("exit", 3), ("signal", -signal.SIGINT)])
def test_the_interpreter_ends_with_a_live_iterator(
    address: str, tmp_path: Path, workers: int, how: str, status: int
) -> None:
    process = script(tmp_path, EXIT, address, str(workers), how)
    assert process.stdout is not None
    pids = [int(pid) for pid in process.stdout.readline().split()]
    assert len(pids) == workers
    begin = time.monotonic()
    if how == "signal":
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == status, errors
    assert time.monotonic() - begin < 15  # about a second, but the machine may be busy
    assert gone(pids, 10)
    if how in ("end", "exit"):
        assert errors == ""
    if how == "signal":
        assert errors.count("KeyboardInterrupt") == 1


@pytest.mark.parametrize("how", ["end", "raise"])
def test_the_interpreter_ends_with_a_server_of_a_loader(tmp_path: Path, how: str) -> None:
    """The workers end before the server that they share, so that none logs its end."""
    text = """
        import sys
        from iterand.torch import StreamDataset, StreamLoader

        if __name__ == "__main__":
            iterator = iter(StreamLoader(StreamDataset(length=32, batch_size=4, server=False), num_workers=2))
            next(iterator)
            print(iterator._loader._server._running.process.pid, *(worker.pid for worker in iterator._batches._workers))
            if sys.argv[1] == "raise":
                raise KeyError("the trainer's own")
    """
    process = script(tmp_path, text, how)
    out, errors = process.communicate(timeout=120)
    pids = [int(pid) for pid in out.split()]
    assert len(pids) == 3
    assert gone(pids, 10)
    if how == "end":
        assert errors == ""
    else:
        assert errors.startswith("Traceback")
        assert errors.endswith('KeyError: "the trainer\'s own"\n')


def test_representations() -> None:
    data = StreamDataset(token="secret", length=512, server="localhost:50051")
    assert repr(data) == (
        "StreamDataset('up', seed=0, length=512, batch_size=64, rank=0, world_size=1, server='localhost:50051')"
    )
    assert repr(StreamDataset()) == "StreamDataset('up', seed=0, batch_size=64, rank=0, world_size=1)"
    assert repr(StreamLoader(data, 2, pin_memory=True)) == f"StreamLoader({data!r}, num_workers=2, pin_memory=True)"
    recipe = {"families": [{"name": "x" * 4000}]}
    long = StreamDataset(recipe, count=5, start=7, loss_mask=True, dtype=torch.uint8, seed=9, server=["a:1", "b:2"])
    assert len(repr(long)) < 250
    assert (
        "seed=9, batch_size=64, rank=0, world_size=1, start=7, count=5, loss_mask=True, dtype=torch.uint8, "
        "server=['a:1', 'b:2'])"
    ) in repr(long)
    assert repr(data) in repr(iter(data))
    assert repr(data) in repr(iter(StreamLoader(data)))


@pytest.mark.parametrize("workers", [0, 1])
def test_an_interrupted_iteration_can_continue(own_server: Server, workers: int) -> None:
    """Ctrl-C while the loop waits for a batch loses none."""
    data = StreamDataset("uniform", length=8192, batch_size=BATCH, prefetch=1, server=own_server.address)
    loader = StreamLoader(data, num_workers=workers)
    iterator, done, over = iter(loader), 0, threading.Event()

    def interrupt_when_stuck() -> None:
        seen = -1
        while not over.wait(1):
            if seen == done:
                os.kill(os.getpid(), signal.SIGINT)
                return
            seen = done

    next(iterator)
    done += 1
    own_server.process.send_signal(signal.SIGSTOP)
    thread = threading.Thread(target=interrupt_when_stuck)
    thread.start()
    try:
        with pytest.raises(KeyboardInterrupt):
            while True:  # what was read ahead is used up first
                next(iterator)
                done += 1
    finally:
        over.set()
        thread.join()
        own_server.process.send_signal(signal.SIGCONT)
    assert loader.state_dict()["next_index"] == done * BATCH
    left = iterand.stream("uniform", length=8192, batch_size=BATCH, start=done * BATCH, server=own_server.address)
    for _ in range(3):
        assert next(iterator)["tokens"].tolist() == next(left).tolist()


def test_a_loader_of_forked_workers_is_known_at_once(address: str, tmp_path: Path) -> None:
    text = """
        import sys
        import iterand
        from iterand.torch import StreamDataset, StreamLoader

        if __name__ == "__main__":
            data = StreamDataset(length=32, batch_size=4, count=16, server=sys.argv[1])
            iterator = iter(StreamLoader(data, num_workers=1, multiprocessing_context="fork"))
            try:
                data.state_dict()
            except iterand.InvalidArgument as error:
                print("StreamLoader" in str(error), len(list(iterator)))
    """
    assert finished(script(tmp_path, text, address)) == "True 4\n"
