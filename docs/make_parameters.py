"""Writes docs/parameters.md: every field of a recipe with its default, its range and its comment in the schema.

    python docs/make_parameters.py [--check]

Needs grpcio-tools, which the Python environment of ./check has. --check writes nothing and fails if the page differs
from the schema.
"""

import argparse
import difflib
import re
import sys
import tempfile
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import grpc_tools
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor
from grpc_tools import protoc

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "docs/parameters.md"
PROTOS = ("knobs", "families", "recipe")
HEAD = """# Parameters

Every field of a recipe, as `proto/iterand/v1/` states it. `python docs/make_parameters.py` writes this page, and
`./check` compares it with the schema. [recipes.md](recipes.md) describes the JSON form and how the parts work together,
[families.md](families.md) the families.

An *integer* or *real knob* is a number or a distribution from which each program draws its own. Every number that it
can draw lies within the range. Where the text says "at most", larger draws are lowered, or the recipe is refused with
an error that names the field.
"""


def lower(name: str, prefix: str) -> str:
    """An enum value as recipes write it: `sequence` for RELABEL_SEQUENCE."""
    return name.lower().removeprefix(prefix)


def named(item: Any, path: tuple[int, ...] = (), scope: str = "") -> Iterator[tuple[tuple[int, ...], str]]:
    """The paths (SourceCodeInfo.Location.path) and names of all messages, fields, enums, values, services and calls."""
    parts = {"message_type": 4, "enum_type": 5, "service": 6, "nested_type": 3, "field": 2, "value": 2, "method": 2}
    if isinstance(item, descriptor_pb2.DescriptorProto):
        parts["enum_type"] = 4
    for part, key in parts.items():
        for index, below in enumerate(getattr(item, part, ())):
            yield (*path, key, index), scope + below.name
            yield from named(below, (*path, key, index), f"{scope}{below.name}.")


class Schema:
    """The messages of some files of proto/iterand/v1 with their options and comments."""

    def __init__(self, protos: Iterable[str] = PROTOS) -> None:
        well_known = Path(grpc_tools.__file__).parent / "_proto"
        with tempfile.TemporaryDirectory() as folder:
            out = Path(folder) / "set"
            arguments = [f"-I{ROOT / 'proto'}", f"-I{well_known}", "--include_imports", "--include_source_info"]
            names = [f"iterand/v1/{name}.proto" for name in protos]
            if protoc.main(["protoc", *arguments, f"--descriptor_set_out={out}", *names]) != 0:
                raise RuntimeError("protoc failed")
            self.files = descriptor_pb2.FileDescriptorSet.FromString(out.read_bytes()).file
        self.pool = descriptor_pool.DescriptorPool()
        self.lines: dict[str, list[str]] = {}  # comments by full name; those of a file by its name
        for file in self.files:
            self.pool.Add(file)
            # A file's own comment is that of its statement `syntax`, whose path is 12.
            for path, name in [((12,), ""), *named(file)]:
                full_name = f"{file.package}.{name}" if name else file.name
                at = next((at for at in file.source_code_info.location if tuple(at.path) == path), None)
                text = "" if at is None else f"{at.leading_comments}{at.trailing_comments}"
                self.lines[full_name] = [line.removeprefix(" ").rstrip() for line in text.splitlines()]
        self.comments = {name: " ".join(" ".join(lines).split()) for name, lines in self.lines.items()}
        options = self.pool.FindMessageTypeByName("google.protobuf.FieldOptions")
        self.options = message_factory.GetMessageClass(options)
        self.extension: Any = self.pool.FindExtensionByName("iterand.v1.setting")

    def message(self, name: str) -> Descriptor:
        return self.pool.FindMessageTypeByName(f"iterand.v1.{name}")

    def setting(self, field: FieldDescriptor) -> Any:
        """The option `setting` of a field; None without one."""
        options = self.options.FromString(field.GetOptions().SerializeToString())
        return options.Extensions[self.extension] if options.HasExtension(self.extension) else None

    def names(self, enum: EnumDescriptor) -> Iterator[tuple[str, str]]:
        """The values of an enum that a recipe may have, with their comments."""
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).lower() + "_"
        for value in list(enum.values)[1:]:
            yield lower(value.name, prefix), self.comments[f"{enum.full_name}.{value.name}"]

    def default_of_name(self, enum: EnumDescriptor, name: str) -> str:
        prefix = re.sub(r"(?<!^)(?=[A-Z])", "_", enum.name).lower() + "_"
        return lower(name, prefix)


def number(value: float) -> str:
    """A number as people write it: 16, 0.02, 1e6."""
    if value == int(value) and (abs(value) < 1e6 or value % 10):
        return str(int(value))
    return re.sub(r"e([-+])0*", lambda m: "e" + m[1].replace("+", ""), f"{value:g}")


def knob(value: Any) -> str:
    """A number or a distribution."""
    kind = value.WhichOneof("kind")
    if kind == "fixed":
        return number(value.fixed)
    if kind == "choice":
        return "one of " + ", ".join(number(x) for x in value.choice.values)
    if kind == "geometric":
        geometric = value.geometric
        return f"geometric: start {geometric.start}, proceed {number(geometric.proceed)}, limit {geometric.limit}"
    interval = getattr(value, kind)
    return f"{kind.replace('_', '-')} in [{number(interval.low)}, {number(interval.high)}]"


def default(schema: Schema, field: FieldDescriptor, setting: Any) -> str:
    kind = setting.WhichOneof("default") if setting is not None else None
    if kind in ("integer", "real"):
        return knob(getattr(setting, kind))
    if kind == "number":
        return number(setting.number)
    if kind == "flag":
        return "true" if setting.flag else "false"
    if kind == "name":
        assert field.enum_type is not None
        return f"`{schema.default_of_name(field.enum_type, setting.name)}`"
    if kind == "computed":
        return str(setting.computed)
    return "required" if setting is not None and field.is_repeated and setting.min > 0 else "none"


def type_and_range(schema: Schema, field: FieldDescriptor, setting: Any) -> tuple[str, str]:
    limits = f"{number(setting.min)} to {number(setting.max)}" if setting is not None else ""
    if field.message_type is not None and field.message_type.name in ("Integer", "Real"):
        return f"{field.message_type.name.lower()} knob", limits
    if field.message_type is not None:
        kind, limits = "object", limits and f"{limits} entries"
    elif field.enum_type is not None:
        kind = "name"
        values = ", ".join(f"`{name}`" for name, _ in schema.names(field.enum_type))
        limits = f"{limits} entries: {values}" if field.is_repeated else values
    elif field.type == FieldDescriptor.TYPE_BOOL:
        kind, limits = "flag", ""
    elif field.type == FieldDescriptor.TYPE_STRING:
        kind, limits = "text", limits and f"{limits} entries"
    else:
        kind = "integer" if field.type == FieldDescriptor.TYPE_INT64 else "real"
    return f"list of {kind}s" if field.is_repeated else kind, limits


def sentence(text: str) -> str:
    """A comment with a capital and a full stop."""
    if text and text[0].islower() and not re.match(r"[a-z]+:|[a-z]*_", text):
        text = text[0].upper() + text[1:]
    return text + "." if text and text[-1] not in ".:" else text


def meaning(schema: Schema, field: FieldDescriptor) -> str:
    text = sentence(schema.comments[field.full_name])
    if field.enum_type is not None:
        values = [f"`{name}`: {comment}" for name, comment in schema.names(field.enum_type) if comment]
        text = f"{text} {'; '.join(values)}".strip()
        text = sentence(text)
    return text.replace("|", "\\|")


def table(schema: Schema, fields: Iterable[FieldDescriptor]) -> Iterator[str]:
    """Fields of a message."""
    yield "| field | type | default | range | meaning |"
    yield "| --- | --- | --- | --- | --- |"
    for field in fields:
        setting = schema.setting(field)
        kind, limits = type_and_range(schema, field, setting)
        cells = (f"`{field.name}`", kind, default(schema, field, setting), limits, meaning(schema, field))
        yield "| " + " | ".join(cells) + " |"


def section(schema: Schema, title: str, message: Descriptor) -> Iterator[str]:
    """A message, and the messages that only it has."""
    yield f"## {title}"
    yield ""
    if text := schema.comments[message.full_name]:
        yield text
        yield ""
    if message.fields:
        yield from table(schema, message.fields)
        yield ""
    for field in message.fields:
        below = field.message_type
        if below is not None and below.name not in ("Integer", "Real", "Family", "Recipe"):
            name = f"`{field.name}`" if title == "Recipe" else f"{title}: `{field.name}`"
            yield from section(schema, name, below)


def page(schema: Schema) -> str:
    lines = [HEAD, *section(schema, "Recipe", schema.message("Recipe"))]
    family = schema.message("Family")
    lines += ["## A family", "", "An entry of `families` has one of the objects below, and a `weight`.", ""]
    lines += [*table(schema, [family.fields_by_name["weight"]]), ""]
    for field in family.fields:
        if field.message_type is not None:
            lines += section(schema, f"`{field.name}`", field.message_type)
    return "\n".join(lines).rstrip() + "\n"


def write_or_check(file: Path, text: str, usage: str | None) -> None:
    """Writes the page, or compares it if the program was called with --check."""
    parser = argparse.ArgumentParser(description=usage, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true")
    if not parser.parse_args().check:
        file.write_text(text)
        return
    name = str(file.relative_to(ROOT))
    before = file.read_text() if file.exists() else ""
    if before != text:
        print("\n".join(difflib.unified_diff(before.splitlines(), text.splitlines(), name, "schema", lineterm="")))
        sys.exit(f"{name} differs from the schema: run python {Path(sys.argv[0]).name} in docs/")


if __name__ == "__main__":
    write_or_check(PAGE, page(Schema()), __doc__)
