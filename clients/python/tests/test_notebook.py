"""Jupyter's own kernel and converter show streams, batches and descriptions."""

from __future__ import annotations

from typing import Any

import pytest

import iterand

pytestmark = pytest.mark.integrations

CELLS = [
    "import iterand\niterand.describe('up', length=128)",
    "stream = iterand.stream('up', length=128, batch_size=64, provenance=True)\nstream",
    "batch = stream.next_batch()\nbatch",
    "stream",
    "iterand.picture(batch.tokens[:8])",
    "iterand.explain('up', 12345, length=128)",
    "stream.close()\nprint(batch.first_index, stream.next_index)",
]


@pytest.fixture(scope="module")
def notebook() -> Any:
    """A notebook that Jupyter's kernel has run."""
    nbclient = pytest.importorskip("nbclient")
    v4 = pytest.importorskip("nbformat").v4
    book = v4.new_notebook(cells=[v4.new_code_cell(source) for source in CELLS])
    nbclient.NotebookClient(book, kernel_name="python3", timeout=120).execute()
    return book


def shown(notebook: Any, cell: int) -> str:
    (output,) = notebook.cells[cell].outputs
    return str(output["data"]["text/html"])


def test_every_cell_shows_its_picture(notebook: Any) -> None:
    rows = iterand.read("up", range(64), length=128, server=False)
    for cell, tokens in ((0, rows[:16]), (1, rows[:16]), (2, rows), (3, rows[:16]), (4, rows[:8])):
        assert iterand.picture(tokens)._repr_html_() in shown(notebook, cell)
    assert "of the next rows" in shown(notebook, 1)
    assert "of the latest rows" in shown(notebook, 3)
    for step in iterand.explain("up", 12345, length=128).steps:
        assert step.family in shown(notebook, 5)


def test_showing_moves_nothing(notebook: Any) -> None:
    (output,) = notebook.cells[6].outputs
    assert output["text"] == "0 64\n"


def test_the_converted_notebook_keeps_the_pictures(notebook: Any) -> None:
    nbconvert = pytest.importorskip("nbconvert")
    page, _ = nbconvert.HTMLExporter().from_notebook_node(notebook)
    assert page.count('src="data:image/png;base64,') == 5
