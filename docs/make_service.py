"""Writes docs/service.md: the calls, messages and error reasons of the gRPC service, with their comments.

    python docs/make_service.py [--check]

Needs what docs/make_parameters.py needs. --check writes nothing and fails if the page differs from the schema.
"""

from collections.abc import Iterator

from google.protobuf.descriptor import Descriptor, EnumDescriptor, FieldDescriptor, FileDescriptor
from make_parameters import ROOT, Schema, sentence, write_or_check

PAGE = ROOT / "docs/service.md"
FILES = ("noise_service", "errors")
HEAD = """# The service

The gRPC interface of a server, as `proto/iterand/v1/` states it. `python docs/make_service.py` writes this page, and
`./check` compares it with the schema. [parameters.md](parameters.md) has the fields of a `Recipe`,
[design/wire.md](design/wire.md) the form of a batch on the wire.

[Python](../clients/python/README.md), [C++](cpp.md) and the [command line](commands.md) have every call. For other
languages, generate a client from the files.
"""


def escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("<", "\\<")


def paragraphs(schema: Schema, name: str) -> Iterator[str]:
    """A comment as Markdown: its lines, with indented ones as code."""
    lines = schema.lines[name]
    if lines:
        yield from (line if line.startswith("    ") else escaped(line) for line in lines)
        yield ""


def type_name(field: FieldDescriptor) -> str:
    """A field's type as the schema writes it, with a link to a message or enum of this page."""
    below = field.message_type or field.enum_type
    if below is None:
        name = next(
            key[5:].lower()
            for key, number in vars(FieldDescriptor).items()
            if key.startswith("TYPE_") and number == field.type
        )
    elif field.message_type is not None and field.message_type.GetOptions().map_entry:
        key, value = (type_name(part) for part in field.message_type.fields)
        return f"map of {key} to {value}"
    elif below.name == "Recipe":
        name = "[Recipe](parameters.md#recipe)"
    elif below.file.package != "iterand.v1":
        name = below.full_name
    else:
        outer = below.containing_type or below
        name = f"[{below.name}](#{outer.name.lower()})"
    if field.is_repeated:
        return f"list of {name}"
    one_of = field.containing_oneof  # an optional scalar is alone in one
    optional = field.message_type is None and one_of is not None and len(one_of.fields) == 1
    return f"optional {name}" if optional else name


def fields(schema: Schema, message: Descriptor) -> Iterator[str]:
    yield "| field | number | type | meaning |"
    yield "| --- | --- | --- | --- |"
    for field in message.fields:
        meaning = sentence(escaped(schema.comments[field.full_name]))
        one_of = field.containing_oneof
        if one_of is not None and len(one_of.fields) > 1:
            meaning = f"One of `{one_of.name}`. {meaning}".strip()
        yield f"| `{field.name}` | {field.number} | {type_name(field)} | {meaning} |"
    yield ""


def values(schema: Schema, enum: EnumDescriptor) -> Iterator[str]:
    yield f"| {enum.name} | number | meaning |"
    yield "| --- | --- | --- |"
    for value in enum.values:
        meaning = sentence(escaped(schema.comments[f"{enum.full_name}.{value.name}"]))
        yield f"| `{value.name}` | {value.number} | {meaning} |"
    yield ""


def section(schema: Schema, file: FileDescriptor) -> Iterator[str]:
    """The services, messages and enums of a file."""
    for service in file.services_by_name.values():
        yield from (f"## {service.name}", "", *paragraphs(schema, service.full_name))
        for method in service.methods:
            request, answer = (
                f"[{message.name}](#{message.name.lower()})" for message in (method.input_type, method.output_type)
            )
            yield from (f"### {method.name}", "")
            yield from (f"{request} -> {'stream of ' if method.server_streaming else ''}{answer}", "")
            yield from paragraphs(schema, method.full_name)
    for message in file.message_types_by_name.values():
        yield from (f"## {message.name}", "", *paragraphs(schema, message.full_name), *fields(schema, message))
        for enum in message.enum_types:
            yield from (*paragraphs(schema, enum.full_name), *values(schema, enum))
    for enum in file.enum_types_by_name.values():
        yield from (f"## {enum.name}", "", *paragraphs(schema, enum.full_name), *values(schema, enum))


def page(schema: Schema) -> str:
    lines = [HEAD]
    for name in FILES:
        file = schema.pool.FindFileByName(f"iterand/v1/{name}.proto")
        if name == "errors":
            lines += ["# Errors", "", *paragraphs(schema, file.name)]
        lines += section(schema, file)
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    write_or_check(PAGE, page(Schema(FILES)), __doc__)
