"""Programs in a terminal of their own, and the cells that they draw."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import termios
import time


def in_terminal(
    command: list[str],
    interrupt: bool = False,
    variables: dict[str, str] | None = None,
    columns: int = 100,
    seconds: float = 120,
) -> tuple[int, str]:
    """Runs a command in a terminal of its own, if asked until it has shown something and Ctrl-C is pressed.

    Errors: AssertionError with the end of its output, and where its threads are, if it has not ended after `seconds`.
    """
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": str(columns), "LINES": "30", "LANG": "C.UTF-8"}
    for name in ("NO_COLOR", "COLORTERM", "FORCE_COLOR", "COLORFGBG", "LC_ALL", "LC_CTYPE"):
        environment.pop(name, None)
    environment["PYTHONFAULTHANDLER"] = "1"
    environment.update(variables or {})
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGINT, signal.SIG_DFL)  # what runs in the background inherits that Ctrl-C is ignored
        fcntl.ioctl(1, termios.TIOCSWINSZ, struct.pack("HHHH", 30, columns, 0, 0))
        os.execvpe(command[0], command, environment)
    output = b""
    end: float | None = time.monotonic() + seconds
    while True:
        if end is not None:
            select.select([terminal], [], [], max(0.0, end - time.monotonic()))
            if time.monotonic() >= end:
                os.kill(pid, signal.SIGABRT)  # faulthandler writes where the threads are
                end = None
        try:
            chunk = os.read(terminal, 65536)
        except OSError:  # Linux says so when the other side has closed
            break
        if not chunk:
            break
        output += chunk
        if interrupt and b"tokens/s" in output:
            os.write(terminal, b"\x03")
            interrupt = False
    os.close(terminal)
    status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    if end is None:
        raise AssertionError(f"{command} did not end within {seconds:g} s:\n{output[-8000:].decode(errors='replace')}")
    # At Ctrl-C a terminal drops what it has not shown yet, and may cut a character.
    return status, output.decode(errors="replace")


def cells(line: str) -> list[tuple[str, str, str]]:
    """The characters of a line, each with what selected its colour and that of its ground, as SGR parameters."""
    found: list[tuple[str, str, str]] = []
    colour = ground = ""
    for selection, character in re.findall(r"\x1b\[([0-9;]*)m|(.)", line):
        if character:
            found.append((character, colour, ground))
            continue
        numbers = selection.split(";")
        while numbers:
            code = numbers.pop(0) or "0"
            if code in {"38", "48"}:
                taken = 4 if numbers[0] == "2" else 2
                value, numbers = ";".join([code, *numbers[:taken]]), numbers[taken:]
            else:
                value = code
            if code == "0":
                colour = ground = ""
            elif code[0] == "3" or code[0] == "9":
                colour = value
            elif code[0] == "4" or code[:2] == "10":
                ground = value
    return found
