"""Streams of this process at a process's turning points: its end in every way, forks, Ctrl-C. Nothing may hang.

Each test runs a program of its own. It has to end in time, with the expected status and output, and nothing unexpected
on standard error. tools/wheel runs these tests in every Python that the wheel is for.
"""

from __future__ import annotations

import signal
import subprocess
import sys
import textwrap
import time

import pytest

SECONDS = 60  # a hanging program is killed then

# A preset whose batch takes long, and one of which a batch is there at once.
SLOW = "iterand.stream('up-transformer', length=1024, batch_size=64)"
FAST = "iterand.stream('up-statistics', length=128, batch_size=64)"

PRELUDE = """
import atexit, gc, hashlib, multiprocessing, os, signal, sys, threading, time, warnings
import iterand

warnings.simplefilter("ignore", DeprecationWarning)  # Python's own, about forks of processes with threads

def digest(stream, batches=5):
    return hashlib.sha256(b"".join(next(stream).tobytes() for _ in range(batches))).hexdigest()

def whole(start=0, batches=5):
    with iterand.stream('up-statistics', length=128, batch_size=64, start=start) as stream:
        return digest(stream, batches)
"""


def run(code: str, status: int = 0, stderr: str = "") -> str:
    """What the program prints. `stderr`: what its last line there begins with."""
    program = PRELUDE + textwrap.dedent(code)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=SECONDS)
    assert done.returncode == status, done.stderr
    last = (done.stderr.splitlines() or [""])[-1]
    assert last.startswith(stderr) if stderr else done.stderr == "", done.stderr
    return done.stdout


# ---- The end -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("end", "status", "stderr"),
    [
        ("pass", 0, ""),
        ("sys.exit(3)", 3, ""),
        ("raise ValueError('no')", 1, "ValueError: no"),
        ("os._exit(4)", 4, ""),
        ("os.kill(os.getpid(), signal.SIGTERM)", -signal.SIGTERM, ""),
        ("del stream; gc.collect()", 0, ""),
        ("stream.close()", 0, ""),
        ("stream.close(); stream.close(); assert list(stream) == []", 0, ""),
    ],
)
@pytest.mark.parametrize("made", [SLOW, FAST])
def test_a_program_ends_in_the_middle_of_a_stream(made: str, end: str, status: int, stderr: str) -> None:
    """While the slow stream's threads are in the middle of a batch, and after some batches of the fast one."""
    taken = "" if made == SLOW else "next(stream)\n"
    run(f"stream = {made}\n{taken}time.sleep(0.2)\n{end}", status, stderr)


def test_leaving_a_loop_ends_its_stream() -> None:
    run(
        f"""
        for number, tokens in enumerate({FAST}):
            if number == 3:
                break
        try:
            for tokens in {FAST}:
                raise KeyError("a mistake of the loop")
        except KeyError:
            pass
        """
    )


def test_what_runs_at_exit_may_use_a_stream_or_is_told_why_not() -> None:
    printed = run(
        f"""
        def early():  # registered before the native module is imported, so it runs after that has ended
            try:
                next(stream)
            except iterand.Cancelled as error:
                print(error)
        atexit.register(early)
        stream = {FAST}
        atexit.register(lambda: print(next(stream).shape))
        """
    )
    assert printed.splitlines() == ["(64, 128)", "this process is ending"]


@pytest.mark.parametrize("daemon", [True, False])
def test_a_thread_that_waits_for_a_batch_does_not_hold_up_the_end(daemon: bool) -> None:
    ending = "" if daemon else "stream.close()"
    run(
        f"""
        stream = {SLOW}
        def loop():
            try:
                for _ in stream:
                    pass
            except iterand.Cancelled:
                pass
        thread = threading.Thread(target=loop, daemon={daemon})
        thread.start()
        time.sleep(0.3)
        {ending}
        """
    )


def test_threads_that_take_batches_at_the_end_are_left() -> None:
    """Many times, since it depends on when the interpreter ends."""
    for _ in range(8):
        run(
            f"""
            def loop():
                try:
                    for _ in {FAST}:
                        pass
                except iterand.Cancelled:
                    pass
            for _ in range(3):
                threading.Thread(target=loop, daemon=True).start()
            time.sleep(0.15)
            """
        )


def test_arrays_may_outlive_everything() -> None:
    run(f"stream = {FAST}\nsys.kept = [next(stream) for _ in range(40)]")


def test_closing_from_another_thread_ends_the_wait() -> None:
    run(
        f"""
        stream = {SLOW}
        begin = time.monotonic()
        threading.Timer(0.3, stream.close).start()
        for _ in stream:  # it has no end of its own
            pass
        assert 0.29 < time.monotonic() - begin < 20
        """
    )


# ---- Ctrl-C ------------------------------------------------------------------------------------------------------


def test_ctrl_c_in_the_middle_of_a_batch_interrupts_at_once_and_loses_nothing() -> None:
    """The delay of the interruption follows the time of a batch, however fast or busy the machine is."""
    printed = run(
        """
        recipe = {"families": [{"transformer": {}}], "lanes": 8, "segment_sequences": 16, "length": 64}
        stream = iterand.stream(recipe, batch_size=16)
        def interrupt(number, frame):
            raise KeyboardInterrupt
        signal.signal(signal.SIGALRM, interrupt)
        found = []
        interrupted = 0
        delay = 0.01
        while len(found) < 3 or interrupted < 3:
            try:
                # Once: the next one must not come while this one is handled.
                signal.setitimer(signal.ITIMER_REAL, delay)
                found.append(next(stream))
                signal.setitimer(signal.ITIMER_REAL, 0)
                delay = max(delay / 2, 1e-6)
            except KeyboardInterrupt:
                interrupted += 1
                delay *= 2
                if stream.next_index > 16 * len(found):  # it came between next and append
                    stream.seek(16 * len(found))
        import numpy
        expected = iterand.read(recipe, range(16 * len(found)))
        print(numpy.array_equal(numpy.concatenate(found), expected), stream.next_index - 16 * len(found))
        """
    )
    assert printed == "True 0\n"


@pytest.mark.parametrize("call", ["next(stream)", "iterand.read('up-transformer', range(64), length=1024)"])
def test_ctrl_c_ends_a_program_that_waits(call: str) -> None:
    program = PRELUDE + f"stream = {SLOW}\nprint('ready', flush=True)\nwhile True:\n    {call}"
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as running:
        assert running.stdout is not None
        assert running.stdout.readline() == "ready\n"
        time.sleep(0.5)
        begin = time.monotonic()
        running.send_signal(signal.SIGINT)
        _, errors = running.communicate(timeout=SECONDS)
        assert time.monotonic() - begin < 20
        assert running.returncode in (-signal.SIGINT, 130)
        assert errors.splitlines()[-1] == "KeyboardInterrupt"


# ---- Forks -------------------------------------------------------------------------------------------------------


def test_a_forked_child_goes_on_with_threads_of_its_own() -> None:
    """The child has the parent's stream at the parent's position, and both continue with equal batches."""
    run(
        f"""
        stream = {FAST}
        kept = next(stream)
        before = stream.next_index
        expected = whole(before)
        for _ in range(10):
            child = os.fork()
            if child == 0:
                del kept
                ok = stream.next_index == before and digest(stream) == expected and whole() == whole()
                os._exit(0 if ok else 1)
            assert os.waitpid(child, 0)[1] == 0
        assert digest(stream) == expected
        """
    )


def test_forks_while_threads_generate_and_take() -> None:
    """Whatever the native threads and other threads of Python's do at the moment of the fork."""
    run(
        """
        expected = whole()
        ending = threading.Event()
        def loop(seed):
            while not ending.is_set():
                with iterand.stream('lstm', seed=seed, length=64, batch_size=8) as stream:
                    for _ in range(20):
                        next(stream)
                    stream.read([seed, 10**6])
                iterand.describe('up-statistics', seed=seed)
        threads = [threading.Thread(target=loop, args=(seed,)) for seed in range(3)]
        for thread in threads:
            thread.start()
        for _ in range(40):
            child = os.fork()
            if child == 0:
                os._exit(0 if whole() == expected else 1)
            assert os.waitpid(child, 0)[1] == 0
        ending.set()
        for thread in threads:
            thread.join()
        """
    )


def test_children_of_children_and_processes_of_multiprocessing() -> None:
    run(
        """
        expected = whole()
        def generation(left):
            if whole() != expected:
                sys.exit(1)
            if left > 0:
                child = multiprocessing.get_context("fork").Process(target=generation, args=(left - 1,))
                child.start()
                child.join(30)
                sys.exit(child.exitcode)
        generation_zero = multiprocessing.get_context("fork").Process(target=generation, args=(3,))
        generation_zero.start()
        generation_zero.join(40)
        assert generation_zero.exitcode == 0
        with multiprocessing.get_context("fork").Pool(3) as pool:
            assert pool.map(whole, [0] * 6) == [expected] * 6
        """
    )


def test_a_child_that_only_exits_is_not_held_up() -> None:
    run(
        f"""
        stream = {FAST}
        next(stream)
        for how in (lambda: os._exit(0), lambda: sys.exit(0)):
            child = os.fork()
            if child == 0:
                how()
            assert os.waitpid(child, 0)[1] == 0
        """
    )


def test_a_fork_does_not_wait_for_a_slow_batch() -> None:
    run(
        f"""
        stream = {SLOW}
        time.sleep(0.5)
        for _ in range(5):
            begin = time.monotonic()
            child = os.fork()
            if child == 0:
                os._exit(0)
            assert time.monotonic() - begin < 5
            os.waitpid(child, 0)
        """
    )


def test_other_programs_can_be_started_meanwhile() -> None:
    run(
        f"""
        import subprocess
        stream = {FAST}
        for _ in range(10):
            next(stream)
            subprocess.run(["true"], check=True)
            subprocess.run(["true"], check=True, preexec_fn=lambda: None)
            os.system("true")
        """
    )
