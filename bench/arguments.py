"""The arguments of bench/run. Run as a program it only checks them, with only Python's own library.

Errors are then reported before anything is built or installed.
"""

import argparse
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PARTS = ("presets", "peers", "wire")


def all_presets() -> list[str]:
    """Names, in order."""
    return sorted(path.stem for path in (ROOT / "iterate/presets").glob("*.json"))


def parse() -> argparse.Namespace:
    """Parses the command line. Ends the process with status 2 if something is wrong with it."""
    parser = argparse.ArgumentParser(
        prog="bench/run", description="Runs the benchmark programs in turn and prints tables."
    )
    parser.add_argument("--quick", action="store_true", help="one short repetition: figures are rough")
    parser.add_argument("--json", type=Path, metavar="FILE", help="also write everything to this file")
    parser.add_argument(
        "--preset", action="append", choices=all_presets(), metavar="NAME", help="only this preset; may be repeated"
    )
    parser.add_argument("--part", action="append", choices=PARTS, help="only this part; may be repeated")
    arguments = parser.parse_args()
    if arguments.json is not None and not arguments.json.resolve().parent.is_dir():
        parser.error(f"--json {arguments.json}: its folder is not there")
    return arguments


if __name__ == "__main__":
    parse()
