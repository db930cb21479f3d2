"""Writes the reference of the Python package as HTML pages, with pdoc: see tools/api.

python docs/make_api.py FOLDER
"""

import importlib
import re
import sys
import warnings
from pathlib import Path
from types import ModuleType

import pdoc
import pdoc.render
from pdoc.doc_ast import walk_tree

# The names of iterand.client and iterand.errors are names of iterand.
MODULES = ("iterand", "iterand.torch", "iterand.hf", "iterand.grain", "iterand.ray", "iterand.live")
_ITEM = re.compile(r"(?P<names>[a-z]\w*(?:, [a-z]\w*)*|Errors): (?P<text>.*)")


def markdown(docstring: str) -> str:
    """A docstring as Markdown: its lines `name: text`, with indented ones after them, become a list."""
    lines: list[str] = []
    in_item = in_example = False
    for line in docstring.splitlines():
        in_example = bool(line) and (in_example or line.startswith(">>>"))
        if in_example or (line.startswith("    ") and not in_item):
            lines.append(line)
        elif item := _ITEM.fullmatch(line):
            names = ", ".join(f"**`{name}`**" for name in item["names"].split(", "))
            head = "**Errors**" if item["names"] == "Errors" else names
            lines += [] if in_item else [""]
            lines.append(f"- {head}: {item['text']}")
            in_item = True
        elif in_item and line.startswith("    "):
            lines.append(f"  {line.strip()}")
        else:
            lines += [""] if in_item and line else []
            in_item = False
            lines.append(line)
    return "\n".join(lines)


def add_aliases(module: ModuleType) -> None:
    """Gives the module the texts after aliases of types that it has from another one, where pdoc does not look."""
    known = walk_tree(module).var_docstrings
    for part in [part for name, part in sys.modules.items() if name.startswith("iterand._")]:
        known |= {name: text for name, text in walk_tree(part).var_docstrings.items() if name in module.__all__}


def main() -> None:
    """Renders all public modules."""
    if len(sys.argv) != 2 or sys.argv[1].startswith("-"):
        sys.exit("usage: make_api.py FOLDER")
    for name in MODULES:
        module = importlib.import_module(name)
        for public in module.__all__:  # some are imported when they are first used; pdoc looks for all of them here
            setattr(module, public, getattr(module, public))
    for name in MODULES:
        add_aliases(sys.modules[name])
    pdoc.render.configure(docformat="markdown", show_source=False, footer_text="iterand")
    pdoc.render.env.filters["to_markdown"] = markdown
    # An alias that is a string, so that it costs no import, is shown by its name.
    warnings.filterwarnings("ignore", "Error parsing type annotation RecipeLike")
    pdoc.pdoc(*MODULES, output_directory=Path(sys.argv[1]))


if __name__ == "__main__":
    main()
