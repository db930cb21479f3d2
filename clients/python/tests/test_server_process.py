"""A server that Python starts and stops."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

import iterand
from conftest import binary
from iterand._server import ServerProcess


def gone(process_id: int) -> bool:
    try:
        os.kill(process_id, 0)
    except ProcessLookupError:
        return True
    return False


def test_it_listens_once_it_is_made_and_ends_with_its_block(tmp_path: Path) -> None:
    with ServerProcess(binary(), "--threads", "1") as first, ServerProcess(binary()) as second:
        assert first.address != second.address
        for server in (first, second):
            assert iterand.describe(server=server.address).engine_version >= 1
    assert first.process.returncode == second.process.returncode == 0
    with ServerProcess(binary(), listen=f"unix:{tmp_path}/socket") as third:
        assert third.address == f"unix:{tmp_path}/socket"
    assert third.stop() == 0  # stopped already


def script(folder: Path, text: str) -> Path:
    program = folder / "program"
    program.write_text(f"#!/bin/sh\n{text}\n")
    program.chmod(0o755)
    return program


def test_a_program_that_ends_is_reported(tmp_path: Path) -> None:
    with pytest.raises(iterand.Error, match="program serve ended at once, with exit status 3"):
        ServerProcess(script(tmp_path, "exit 3"))
    with pytest.raises(iterand.Error, match="ended at once, with exit status"):
        ServerProcess(binary(), "--no-such-option", stderr=-3)
    with pytest.raises(FileNotFoundError, match="no-such-program"):
        ServerProcess(tmp_path / "no-such-program")


def test_a_program_that_does_not_listen_is_killed(tmp_path: Path) -> None:
    """An address file that is still empty is no address."""
    number = tmp_path / "number"
    program = script(tmp_path, f'trap "" TERM; : > "$5"; echo $$ > {number}; exec sleep 60')
    with pytest.raises(iterand.Error, match=r"serve did not listen within 1 seconds"):
        ServerProcess(program, timeout=1)
    assert gone(int(number.read_text()))


def test_a_program_that_ignores_the_signal_is_killed(tmp_path: Path) -> None:
    program = script(tmp_path, 'trap "" TERM; echo 127.0.0.1:1 > "$5"; while :; do sleep 0.1; done')
    server = ServerProcess(program)
    assert server.address == "127.0.0.1:1"
    assert server.stop(timeout=0.5) == -9
    assert gone(server.process.pid)
