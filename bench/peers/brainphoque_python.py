"""BrainPhoque in plain Python, as a peer of the preset `brainphoque`: the machine and the sampling of Grau-Moya et al.
2024 (arXiv 2401.14953), straightforwardly written.

A program is sampled while it runs: an instruction is drawn, all equally likely, when execution reaches the end of the
instructions so far. A `[` met with cell 0 is written `{`: what follows it comes at once, and its body is placed when
the loop is first entered. `]` goes back to its opening bracket; without one it does nothing. What a program writes is
repeated to fill a row; a program that writes nothing is thrown away, at most three times per row. Every row has a
program of its own, and reads a row of noise.

Prints one JSON object with tokens and instructions per second of one core (CPU time).
"""

import argparse
import json
import random
import time

SYMBOLS, CELLS, INSTRUCTIONS, STEPS, ATTEMPTS = 128, 10, 100, 1000, 4
KINDS = "+-><[].,"


class Node:
    """A place of a program: its instruction, the place after it and, of a bracket, the loop's body."""

    __slots__ = ("behind", "body", "kind", "loop")

    def __init__(self, kind: str, loop: "Node | None") -> None:
        self.kind = kind
        self.loop = loop  # innermost loop whose body contains it
        self.behind: Node | None = None
        self.body: Node | None = None


def run(row: list[int], length: int, draw: random.Random) -> tuple[list[int], int]:
    """Samples and runs one program. Returns what it has written and the number of its steps."""
    choice = draw.choice
    tape, pointer, out, read = [0] * CELLS, 0, [], 0
    node = Node(choice(KINDS), None)
    drawn, steps = 1, 0
    while True:
        steps += 1
        kind = node.kind
        into_body = False
        if kind == "+":
            tape[pointer] = (tape[pointer] + 1) % SYMBOLS
        elif kind == "-":
            tape[pointer] = (tape[pointer] - 1) % SYMBOLS
        elif kind == ">":
            pointer = (pointer + 1) % CELLS
        elif kind == "<":
            pointer = (pointer - 1) % CELLS
        elif kind == ".":
            out.append(tape[pointer])
            if len(out) == length:
                return out, steps
        elif kind == ",":
            tape[pointer] = row[read % len(row)] % SYMBOLS
            read += 1
        elif kind == "[":
            into_body = tape[pointer] != 0
        if steps == STEPS:
            return out, steps
        if kind == "]" and node.loop is not None:
            node = node.loop
            continue
        following = node.body if into_body else node.behind
        if following is None:
            if drawn == INSTRUCTIONS:
                return out, steps
            drawn += 1
            loop = node if into_body else node.loop
            following = Node(choice(KINDS), loop)
            if into_body:
                node.body = following
            else:
                node.behind = following
        node = following


def main() -> None:
    """Measures for so long."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=2.0)
    parser.add_argument("--length", type=int, default=512)
    arguments = parser.parse_args()
    draw = random.Random(0)
    noise = [draw.randrange(SYMBOLS) for _ in range(arguments.length)]
    rows = instructions = 0
    begin = time.process_time()
    while (passed := time.process_time() - begin) < arguments.seconds:
        for _ in range(ATTEMPTS):
            out, steps = run(noise, arguments.length, draw)
            instructions += steps
            if out:
                break
        row = (out * (arguments.length // len(out) + 1))[: arguments.length] if out else [0] * arguments.length
        assert len(row) == arguments.length
        rows += 1
    print(
        json.dumps(
            {
                "tokens_per_second": rows * arguments.length / passed,
                "instructions_per_second": instructions / passed,
            }
        )
    )


if __name__ == "__main__":
    main()
