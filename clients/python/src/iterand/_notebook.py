"""HTML of streams, batches and descriptions, for notebooks. Nothing here changes what it shows.

Names of parts and families, recipes and addresses come from outside: `text` escapes them all.
"""

from __future__ import annotations

import html
import json
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from iterand import errors
from iterand._picture import picture
from iterand._printable import printable, short

if TYPE_CHECKING:
    from iterand._batch import Batch, Tokens
    from iterand._description import Description, StreamInfo
    from iterand._explanation import Explanation, Step
    from iterand._stream import Stream

ROWS = 16  # sequences of a picture beside a description
_MAX_FLOPS = 1e11  # work of a picture whose sequences are made for it: about a second of two cores


def text(value: object) -> str:
    """Text from anywhere, as HTML that shows it and does nothing else."""
    return html.escape(printable(str(value)))


def table(rows: Iterable[Sequence[object]], header: Sequence[str] = ()) -> str:
    """A table of texts. Without a header, the first cell of each row is its heading."""
    cell = '<{0} style="text-align:left;vertical-align:top"{2}>{1}</{0}>'
    lines = []
    if header:
        cells = "".join(cell.format("th", text(name), ' scope="col"') for name in header)
        lines.append(f"<thead><tr>{cells}</tr></thead>")
    for row in rows:
        kinds = [("td", "") if header or column else ("th", ' scope="row"') for column in range(len(row))]
        cells = "".join(cell.format(kind, text(value), scope) for (kind, scope), value in zip(kinds, row, strict=True))
        lines.append(f"<tr>{cells}</tr>")
    return f"<table>{''.join(lines)}</table>"


def _block(title: str, *content: str) -> str:
    return f"<div><p><b>{text(title)}</b></p>{''.join(content)}</div>"


def _caption(words: str) -> str:
    return f"<p>{text(words)}</p>"


def _more(title: str, *content: str) -> str:
    return f"<details><summary>{text(title)}</summary>{''.join(content)}</details>"


def of_stream(stream: Stream) -> str:
    """The stream's name and position, and a picture of its latest rows; of its next ones if it has not begun."""
    name, road = stream._name, stream._road
    state = "closed" if stream._closed else "ended" if stream._finished else "open"
    facts: list[tuple[str, object]] = [
        ("recipe", name),
        ("made by", road.place),
        ("next index", stream.next_index),
        ("state", state),
        ("batch size", stream._batch_size),
    ]
    if stream.world_size > 1:
        facts.append(("reader", f"{stream.rank} of {stream.world_size}"))
    if stream.fingerprint is not None:
        facts.append(("fingerprint", stream.fingerprint.hex()))
    shown, words = stream._latest, "the latest rows"
    if shown is None and state == "open":
        shown, words = _next_rows(stream), "the next rows"
    if shown is None:
        drawn = _caption("No row has been read yet.")
    else:
        drawn = picture(shown)._repr_html_() + _caption(f"{len(shown)} of {words}, one per line")
    return _block("iterand stream", table(facts), drawn)


def _next_rows(stream: Stream) -> Tokens | None:
    """The next rows, read by random access, which moves nothing. None if that would take a server or long."""
    from iterand._embedded import EmbeddedRoad

    road = stream._road
    if not isinstance(road, EmbeddedRoad):
        return None
    first = stream.next_index + stream.rank
    last = min(first + ROWS * stream.world_size, 2**64)
    try:
        info = road.describe(first)
        wanted = range(first, last, stream.world_size)
        return road.read(wanted).tokens if _is_cheap(info, first) else None
    except errors.Error:
        return None


def _is_cheap(info: StreamInfo, first: int) -> bool:
    """Whether rows from `first` on are made within about a second. A pool starts from index 0."""
    cost = info.cost
    flops = cost.flops_per_token * info.length * cost.first_batch_sequences
    return flops <= _MAX_FLOPS and ("pool" not in info.recipe or first == 0)


def of_batch(batch: Batch) -> str:
    """A picture of the batch's rows, and where they came from."""
    rows, length = batch.tokens.shape
    facts: list[tuple[str, object]] = [
        ("tokens", f"{rows} x {length}, {batch.tokens.dtype}"),
        ("indices", _indices(batch)),
        ("fingerprint", batch.fingerprint.hex()),
    ]
    if batch.loss_mask is not None:
        facts.append(("to be predicted", f"{batch.loss_mask.mean():.1%} of the tokens"))
    content = [table(facts), picture(batch)._repr_html_()] if rows else [table(facts)]
    if batch.provenance:
        mixture = any(origin.part for origin in batch.provenance)
        header = ("index", *(("part",) if mixture else ()), "family", "depth")
        origins = [
            (_index(batch, row), *((origin.part,) if mixture else ()), origin.family, origin.depth)
            for row, origin in enumerate(batch.provenance)
        ]
        content.append(_more("where each row came from", table(origins, header)))
    return _block("iterand batch", *content)


def _index(batch: Batch, row: int) -> object:
    return batch.first_index + row * batch.stride if batch.stride else f"row {row}"


def _indices(batch: Batch) -> str:
    if not batch.stride:
        return "as they were asked for"
    last = batch.first_index + (batch.rows - 1) * batch.stride
    return f"{batch.first_index} to {last}" + (f", every {batch.stride}th" if batch.stride > 1 else "")


def of_info(info: StreamInfo) -> str:
    """What a recipe resolves to, with a picture of its first rows if they are cheap and the same in this process."""
    facts: list[tuple[str, object]] = [
        ("description", info.recipe.get("description", "")),
        ("seed", info.seed),
        ("sequences", f"{info.length} tokens of a vocabulary of {info.vocab_size}, {info.dtype}"),
        ("lanes", info.lanes),
        ("cost", _work(info.cost.flops_per_token)),
        ("fingerprint", info.fingerprint.hex()),
    ]
    content = [table(row for row in facts if row[1] != "")]
    if info.parts:
        parts = [(part.name, f"{part.share:.1%}", _work(part.flops_per_token)) for part in info.parts]
        content.append(table(parts, ("part", "share", "cost")))
    first = _first_rows(info)
    if first is not None:
        content += [picture(first)._repr_html_(), _caption(f"the first {len(first)} sequences, one per line")]
    recipe = json.dumps(info.recipe, indent=2, ensure_ascii=False)
    lines = "\n".join(text(line) for line in recipe.split("\n"))
    content.append(_more("recipe with every default", f"<pre>{lines}</pre>"))
    return _block("iterand recipe", *content)


def _work(flops: float) -> str:
    return f"{short(flops)} FLOP per token" if flops else "integer work only"


def _first_rows(info: StreamInfo) -> Tokens | None:
    """None if they would take long, or this process would make others than those that were described."""
    if not _is_cheap(info, 0):
        return None
    try:
        from iterand._embedded import EmbeddedRoad, open_stream

        opened = open_stream(json.dumps(info.recipe), info.seed, None, False, info.fingerprint)
        return EmbeddedRoad(opened, False).read(range(ROWS)).tokens
    except (errors.Error, ImportError):
        return None


def of_description(description: Description) -> str:
    """What a server answers: the stream, or the presets and families."""
    if description.stream is not None:
        return of_info(description.stream)
    families = [(family.name, family.summary) for family in description.families]
    return _block(
        f"iterand, engine version {description.engine_version}",
        table(description.presets.items(), ("preset", "description")),
        _more("families", table(families, ("family", "description"))),
    )


def of_explanation(explanation: Explanation) -> str:
    """The way from noise to a sequence."""
    facts: list[tuple[str, object]] = [
        ("place", f"lane {explanation.lane}, segment {explanation.segment}, offset {explanation.offset}"),
        ("made by", f"{explanation.family}, in round {explanation.round}, row {explanation.row}"),
        ("depth", explanation.depth),
        ("made again alone", "equal" if explanation.reproduced else "DIFFERENT"),
    ]
    if explanation.part:
        facts.insert(0, ("part", explanation.part))
    steps = [(step.round, step.family, _reads(step), step.program) for step in explanation.steps]
    chain = table(steps, ("round", "family", "reads", "program")) if steps else ""
    return _block(f"iterand sequence {explanation.index}", table(facts), chain)


def _reads(step: Step) -> str:
    return f"{step.input}, {step.prompt_length} tokens of prompt" if step.prompt_length else step.input
