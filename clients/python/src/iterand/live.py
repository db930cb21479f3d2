"""A live picture of a stream: python -m iterand.live --server ADDRESS [--recipe up] [--batches N].

Each sequence is a block of cells, one cell per token, read line by line; a character has two, one above the other.
The colour is the token's rank by frequency within its sequence, from the darkest, the commonest, to the lightest. On a
light ground (COLORFGBG) it is the other way round. Which token it is does not show, since relabelled streams give it no
meaning; repetition, nesting and noise do.

Beside it are the part and the family that made the sequence, its depth, and the parameters of its last program. Those
are found in this process (`iterand.explain`), if it makes the same stream as the server and that takes under a second.

Without colours (NO_COLOR is set, or the terminal has none) each token is a character, as in `iterand sample`: '.' the
most frequent one, then a-z, A-Z, 0-9, and '#' what is rarer. A terminal that cannot move its cursor (TERM=dumb), and
output that is not a terminal, get plain lines.
"""

from __future__ import annotations

import argparse
import curses
import functools
import io
import os
import signal
import string
import sys
import threading
import time
from collections import deque
from collections.abc import Mapping, Sequence
from pathlib import Path
from queue import SimpleQueue
from types import FrameType
from typing import TYPE_CHECKING, Any

import numpy as np

import iterand
from iterand import Batch, Tokens, _extras
from iterand._picture import LAST_RANK, lightness, rank_colour, ranks
from iterand._printable import printable, short

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.style import Style

__all__ = ["main"]

_GLYPHS = "." + string.ascii_lowercase + string.ascii_uppercase + string.digits  # by rank; rarer tokens are '#'
# For terminals of few colours, as in clients/cli/cells.cc: of rising lightness, by their numbers.
_MAGMA_256 = (233, 53, 89, 125, 168, 203, 209, 215, 222, 229)
_MAGMA_16 = (0, 4, 5, 9, 11, 15)
_PROGRAM_SECONDS = 1.0  # of core time, for one program
_PATIENCE = 10.0  # seconds for the programs of the last picture


def palette(colour_system: str | None, light: bool) -> list[str]:
    """The colour of each rank on a terminal of this colour system of rich, by rich's names."""
    count = LAST_RANK + 1
    if colour_system == "256":
        shades = len(_MAGMA_256)
        places = (min(int(lightness(rank, light) * shades), shades - 1) for rank in range(count))
        return [f"color({_MAGMA_256[place]})" for place in places]
    if colour_system == "standard":
        shown = _MAGMA_16[::-1] if light else _MAGMA_16
        # Ranks 0, 1, 2, 3 to 6, 7 to 14, and all rarer ones.
        levels = (rank if rank < 3 else min((rank + 1).bit_length(), len(shown) - 1) for rank in range(count))
        return [f"color({shown[level]})" for level in levels]
    return ["#{:02x}{:02x}{:02x}".format(*rank_colour(rank, light)) for rank in range(count)]


def has_light_ground(variables: Mapping[str, str]) -> bool:
    """Whether COLORFGBG says that the terminal's ground is light."""
    return variables.get("COLORFGBG", "").split(";")[-1] in {"7", "9", "10", "11", "12", "13", "14", "15"}


def glyphs(sequence: Tokens) -> str:
    """A sequence as text, one character per token, by frequency."""
    return "".join(_GLYPHS[rank] if rank < len(_GLYPHS) else "#" for rank in ranks(sequence).tolist())


class Counter:
    """Counts what is received, and how fast."""

    def __init__(self) -> None:
        self.begin = time.perf_counter()
        self.batches = self.sequences = self.tokens = 0
        self._recent: deque[tuple[float, int, int]] = deque([(self.begin, 0, 0)])

    def add(self, batch: Batch) -> None:
        self.batches += 1
        self.sequences += batch.rows
        self.tokens += batch.tokens.size
        now = time.perf_counter()
        if now - self._recent[-1][0] > 0.05:
            self._recent.append((now, self.sequences, self.tokens))
            while now - self._recent[0][0] > 3:
                self._recent.popleft()

    def rates(self) -> tuple[float, float]:
        """Sequences and tokens per second, over the last three seconds."""
        then, sequences, tokens = self._recent[0]
        elapsed = max(time.perf_counter() - then, 1e-9)
        return (self.sequences - sequences) / elapsed, (self.tokens - tokens) / elapsed

    def summary(self) -> str:
        elapsed = max(time.perf_counter() - self.begin, 1e-9)
        return (
            f"{self.batches} batches, {self.sequences} sequences, {self.tokens} tokens, "
            f"{self.tokens / elapsed:.0f} tokens/s"
        )


def _has_colours(console: Console) -> bool:
    """Whether the terminal shows colours and half blocks."""
    if console.color_system is None or console.no_color or not console.encoding.startswith("utf"):
        return False
    if os.environ.get("COLORTERM"):
        return True
    # rich assumes colours for every terminal that is not dumb.
    try:
        curses.setupterm()
    except curses.error:  # a terminal that the system does not know
        return True
    return curses.tigetnum("colors") > 1


class _Programs:
    """Finds the programs that made the rows on show, on a thread of its own. Gives up at the first that it cannot find:
    the others are as expensive, or as unknown.

    It has no lock that Ctrl-C could leave taken: KeyboardInterrupt may come inside `Condition.__enter__`, too.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._requests: SimpleQueue[tuple[list[int], bytes] | None] = SimpleQueue()
        self._wanted: list[int] = []
        self._found: dict[int, str] = {}
        self.known = True  # until it gives up
        self._thread = threading.Thread(target=self._find, name="iterand-programs", daemon=True)
        self._thread.start()

    def want(self, indices: list[int], fingerprint: bytes) -> None:
        """Finds the programs of these sequences, and forgets all others."""
        self._wanted = indices
        self._requests.put((indices, fingerprint))

    def of(self, index: int) -> str:
        """The parameters of the program that made a sequence last; empty while they are unknown, or if none did."""
        return self._found.get(index, "")

    def wait(self, seconds: float) -> None:
        """Waits until the wanted ones are found."""
        end = time.monotonic() + seconds
        while self.known and not all(index in self._found for index in self._wanted) and time.monotonic() < end:
            time.sleep(0.02)

    def close(self) -> None:
        self.known = False
        self._requests.put(None)
        self._thread.join()

    def _find(self) -> None:
        try:
            from iterand._embedded import explanation, open_stream

            stream = None
            while (request := self._requests.get()) is not None:
                indices, fingerprint = request
                self._found = {index: program for index, program in self._found.items() if index in indices}
                for index in indices:
                    if not self._requests.empty():  # a newer request, or the end
                        break
                    if index in self._found:
                        continue
                    if stream is None:
                        named = self._options
                        stream = open_stream(named.recipe, named.seed, named.length, False, fingerprint)
                    steps = explanation(stream, index, _PROGRAM_SECONDS).steps
                    self._found[index] = printable(steps[-1].program) if steps else ""
        except (iterand.Error, ImportError):
            self.known = False


class _View:
    """The picture for a terminal."""

    def __init__(self, title: str, console: Console, total: int | None, programs: _Programs) -> None:
        self._title = title
        self._console = console
        self._total = total
        self._programs = programs
        self._rows: list[tuple[int, str, Tokens]] = []  # what is shown of a batch: index, label and the tokens
        self._width = self._lines = 1  # of a row, in characters

    def look_at(self, batch: Batch) -> None:
        """Takes a few rows of the batch as the picture."""
        self._width = max(16, self._console.width - 6)
        lines_left = max(3, self._console.height - 8)
        self._lines = min(3, -(-batch.tokens.shape[1] // (2 * self._width)))
        shown = max(1, min(8, lines_left // (self._lines + 2), batch.rows))
        self._rows = []
        for place in range(shown):
            row = place * batch.rows // shown
            index = batch.first_index + row * batch.stride
            label = f"sequence {index}"
            if batch.provenance:
                origin = batch.provenance[row]
                part = f"part {printable(origin.part)}, " if origin.part else ""
                label += f"  {part}{printable(origin.family)}, depth {origin.depth}"
            distinct = len(np.unique(batch.tokens[row]))
            self._rows.append((index, f"{label}, {distinct} different tokens", batch.tokens[row].copy()))
        self._programs.want([index for index, _, _ in self._rows], batch.fingerprint)

    def frame(self, counter: Counter, colours: list[str] | None) -> RenderableType:
        """The picture in these colours of ranks, or in characters."""
        from rich.console import Group
        from rich.panel import Panel
        from rich.progress_bar import ProgressBar
        from rich.table import Table
        from rich.text import Text

        sequences, tokens = counter.rates()
        status = Table.grid(padding=(0, 2), expand=True)
        status.add_column(no_wrap=True)
        status.add_column(ratio=1)
        status.add_column(no_wrap=True, justify="right")
        done = f"batch {counter.batches}" + (f" of {self._total}" if self._total else "")
        bar = ProgressBar(self._total, counter.batches, pulse=self._total is None, complete_style="#5fafd7")
        rate = f"{short(sequences)} sequences/s   {short(tokens)} tokens/s   {short(counter.tokens)} tokens"
        status.add_row(Text(done), bar, Text(rate, style="bold"))
        picture: list[RenderableType] = []
        for index, label, row in self._rows:
            picture.append(Text(label, style="bold", no_wrap=True, overflow="ellipsis"))
            if self._programs.known:
                picture.append(Text(self._programs.of(index), style="dim", no_wrap=True, overflow="ellipsis"))
            if colours:
                picture.append(_cells(row, self._width, self._lines, colours))
            else:
                picture.append(_characters(row, self._width, self._lines))
        return Panel(Group(*picture, status), title=self._title, title_align="left", border_style="#5f6b7a")


@functools.lru_cache(maxsize=1 << 16)
def _style(colour: str, below: str | None) -> Style:
    from rich.style import Style

    return Style(color=colour, bgcolor=below)


def _cells(sequence: Tokens, width: int, lines: int, colours: list[str]) -> RenderableType:
    """At most `lines` lines of cells, two to a character: its upper half is a token, its lower half the one below."""
    from rich.text import Text

    shown = np.minimum(ranks(sequence)[: 2 * width * lines], LAST_RANK).tolist()
    lines = -(-len(shown) // (2 * width))
    width = -(-len(shown) // (2 * lines))  # lines of equal length
    text = Text(no_wrap=True)
    for top in range(0, len(shown), 2 * width):
        upper, lower = shown[top : top + width], shown[top + width : top + 2 * width]
        if top:
            text.append("\n")
        for column, rank in enumerate(upper):
            below = colours[lower[column]] if column < len(lower) else None
            text.append("▀", _style(colours[rank], below))
    return text


def _characters(sequence: Tokens, width: int, lines: int) -> RenderableType:
    """Rows of characters, one per token."""
    from rich.text import Text

    shown = glyphs(sequence)[: width * lines]
    return Text("\n".join(shown[begin : begin + width] for begin in range(0, len(shown), width)), no_wrap=True)


def _arguments(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m iterand.live", description="Shows a live stream.")
    parser.add_argument("--server", required=True, metavar="ADDRESS", help="host:port of an iterand server")
    parser.add_argument("--recipe", default="up", help="a preset's name or a JSON file (default: up)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--length", type=int, help="tokens per sequence (default: the recipe's)")
    parser.add_argument("--batch-size", type=int, default=64, metavar="ROWS")
    parser.add_argument("--batches", type=int, metavar="N", help="stop after N batches (default: at Ctrl-C)")
    parser.add_argument("--svg", metavar="FILE", help="write the last picture to an SVG file")
    # The same options as `iterand sample`.
    parser.add_argument(
        "--tls", action="store_true", help="encrypt the connection; the system's authorities are trusted"
    )
    parser.add_argument("--ca-file", metavar="FILE", help="encrypt it, and trust the authorities of this PEM file")
    parser.add_argument("--tls-cert", metavar="FILE", help="client certificate (PEM), for a server that asks for one")
    parser.add_argument("--tls-key", metavar="FILE", help="private key (PEM) of the client certificate")
    parser.add_argument("--tls-server-name", metavar="NAME", help="name in the server's certificate, if another one")
    parser.add_argument(
        "--token-file", metavar="FILE", help="file whose first line is a secret that the server asks for"
    )
    parser.add_argument("--connect-timeout", type=float, default=3.0, metavar="S", help="seconds to try (default: 3)")
    options, unknown = parser.parse_known_args(arguments)
    for word in unknown:
        renamed = " (--tls-root is now --ca-file)" if word.split("=")[0] == "--tls-root" else ""
        parser.error(f"unrecognized arguments: {' '.join(unknown)}{renamed}")
    if options.batches is not None and options.batches < 1:
        parser.error(f"--batches is {options.batches}; it must be at least 1")
    if (options.tls_cert is None) != (options.tls_key is None):
        parser.error("a client certificate needs both --tls-cert and --tls-key")
    if options.svg:
        try:
            with Path(options.svg).open("a"):  # now, not after the last batch
                pass
        except OSError as error:
            parser.error(f"--svg {options.svg}: {error.strerror}")
    return options


def _tls(options: argparse.Namespace) -> iterand.Tls | bool:
    files = (options.ca_file, options.tls_cert, options.tls_key)
    if options.tls_server_name is None and not any(files):
        return bool(options.tls)
    return iterand.Tls(*files, server_name=options.tls_server_name)


def _watch(stream: iterand.Stream, counter: Counter, options: argparse.Namespace, console: Console) -> None:
    from rich.live import Live

    title = printable(f" iterand  {options.server}  recipe {options.recipe}  seed {options.seed} ")
    light = has_light_ground(os.environ)
    colours = palette(console.color_system, light) if _has_colours(console) else None
    programs = _Programs(options)
    view = _View(title, console, options.batches, programs)
    looked = shown = 0.0
    try:
        with Live(console=console, auto_refresh=False, vertical_overflow="crop") as live:
            while options.batches is None or counter.batches < options.batches:
                batch = stream.next_batch()
                counter.add(batch)
                now = time.monotonic()
                last = counter.batches == options.batches
                if now - looked > 1 or last:
                    view.look_at(batch)
                    looked = now
                if now - shown > 0.1 or last:
                    live.update(view.frame(counter, colours), refresh=True)
                    shown = now
            programs.wait(_PATIENCE)
            live.update(view.frame(counter, colours), refresh=True)
        if options.svg:
            # A picture in a file has colours, whatever the terminal has.
            _save(view.frame(counter, palette("truecolor", light=False)), options.svg, console.width, title)
    finally:
        programs.close()


def _save(frame: RenderableType, path: str, width: int, title: str) -> None:
    from rich.console import Console

    recorder = Console(record=True, width=width, file=io.StringIO(), force_terminal=True)
    recorder.print(frame)
    recorder.save_svg(path, title=title.strip())


def _plain(stream: iterand.Stream, counter: Counter, options: argparse.Namespace) -> None:
    printed = 0.0
    while options.batches is None or counter.batches < options.batches:
        batch = stream.next_batch()
        counter.add(batch)
        if counter.batches == 1:
            for row in range(min(4, batch.rows)):
                print(f"sequence {batch.first_index + row * batch.stride}: {glyphs(batch.tokens[row, :96])}")
        now = time.monotonic()
        if now - printed > 1:
            sequences, tokens = counter.rates()
            print(f"batch {counter.batches}: {sequences:.0f} sequences/s, {tokens:.0f} tokens/s", flush=True)
            printed = now


def _interrupt(number: int, frame: FrameType | None) -> None:
    raise KeyboardInterrupt


def main(arguments: Sequence[str] | None = None) -> int:
    """The program. `arguments`: those of the command line; None: of this process. Returns the exit status.

    >>> from iterand import live
    >>> with iterand.Server() as server:
    ...     status = live.main(["--server", server.address, "--batches", "1"])
    sequence 0: ...
    1 batches, 64 sequences, 32768 tokens, ... tokens/s
    >>> status
    0
    """
    options = _arguments(arguments)
    signal.signal(signal.SIGTERM, _interrupt)
    console: Any = None
    if sys.stdout.isatty() or options.svg:
        try:
            from rich.console import Console

            console = Console() if sys.stdout.isatty() else Console(file=io.StringIO(), width=112, height=40)
            if console.is_dumb_terminal and not options.svg:
                console = None
        except ImportError as error:
            wanted = str(_extras.missing("the picture", "rich", "live", error))
            if options.svg:
                print(f"iterand: {wanted}", file=sys.stderr)
                return 1
            print(f"{wanted}; plain lines instead")
    counter = Counter()
    try:
        with iterand.stream(
            options.recipe,
            seed=options.seed,
            length=options.length,
            batch_size=options.batch_size,
            count=None if options.batches is None else options.batches * options.batch_size,
            provenance=console is not None,
            server=options.server,
            tls=_tls(options),
            token_file=options.token_file,
            retry=iterand.Retry(connect_timeout=options.connect_timeout),
        ) as stream:
            if console is not None:
                _watch(stream, counter, options, console)
            else:
                _plain(stream, counter, options)
    except KeyboardInterrupt:
        pass
    except iterand.Error as error:
        print(f"iterand: {printable(str(error))}", file=sys.stderr)
        return 2 if isinstance(error, iterand.InvalidArgument) else 1  # as the program `iterand`
    except BrokenPipeError:  # the reader of our output has gone, as in `| head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    print(counter.summary(), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
