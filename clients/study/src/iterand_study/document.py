"""A page of headings, tables, pictures and paragraphs, as Markdown or as one HTML file."""

from __future__ import annotations

import base64
import html
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Heading:
    text: str
    level: int = 2


@dataclass(frozen=True)
class Table:
    header: list[str]
    rows: list[list[str]]


@dataclass(frozen=True)
class Picture:
    file: str
    caption: str


Part = Heading | Table | Picture | str


def markdown(parts: list[Part]) -> str:
    lines: list[str] = []
    for part in parts:
        if isinstance(part, Heading):
            lines += ["#" * part.level + " " + part.text, ""]
        elif isinstance(part, Table):
            first, *rows = [[cell.replace("|", "\\|") for cell in row] for row in (part.header, *part.rows)]
            lines += ["| " + " | ".join(first) + " |", "|" + " --- |" * len(first)]
            lines += ["| " + " | ".join(row) + " |" for row in rows] + [""]
        elif isinstance(part, Picture):
            lines += [f"![{part.caption}]({part.file})", ""]
        else:
            lines += [part, ""]
    return "\n".join(lines).rstrip() + "\n"


_STYLE = """body{font:16px/1.5 system-ui,sans-serif;max-width:70em;margin:2em auto;padding:0 1em;color:#222}
table{border-collapse:collapse;font-size:14px;display:block;overflow-x:auto}
td,th{border:1px solid #ccc;padding:.25em .6em;text-align:right}td:first-child,th:first-child{text-align:left}
img{max-width:100%}"""


def html_page(parts: list[Part], folder: Path, title: str) -> str:
    """The same as one HTML file, pictures and all."""
    body: list[str] = []
    for part in parts:
        if isinstance(part, Heading):
            body.append(f"<h{part.level}>{html.escape(part.text)}</h{part.level}>")
        elif isinstance(part, Table):
            head = "".join(f"<th>{html.escape(cell)}</th>" for cell in part.header)
            rows = "".join("<tr>" + "".join(f"<td>{html.escape(c)}</td>" for c in row) + "</tr>" for row in part.rows)
            body.append(f"<table><tr>{head}</tr>{rows}</table>")
        elif isinstance(part, Picture):
            data = base64.b64encode((folder / part.file).read_bytes()).decode()
            body.append(f'<p><img alt="{html.escape(part.caption)}" src="data:image/png;base64,{data}"></p>')
        else:
            body.append(f"<p>{html.escape(part)}</p>")
    head = f'<meta charset="utf-8"><title>{html.escape(title)}</title><style>{_STYLE}</style>'
    return f'<!doctype html><html lang="en"><head>{head}</head><body>{"".join(body)}</body></html>\n'
