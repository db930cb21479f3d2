"""The published leaderboards: configurations, records, pages and the tables of docs/results.md agree."""

from __future__ import annotations

from pathlib import Path

from iterand_study import config_file, leaderboard, leaderboard_run, record

CONFIGS = Path(__file__).resolve().parents[1] / "configs"


def test_every_configuration_of_a_leaderboard_is_well_formed() -> None:
    found = {file.name: config_file.load(file) for file in CONFIGS.glob("leaderboard-*.json")}
    assert len(found["leaderboard-1.json"].variants) == 18
    for study in found.values():
        stages = leaderboard.Stages.of(study)
        assert stages.choosing[:2] == [stage.name or stage.text for stage in study.finetune[:2]]
        assert not {"prose", "python"} & set(stages.choosing)


def test_the_pages_of_docs_are_those_of_the_records() -> None:
    pages = list((CONFIGS.parents[2] / "docs" / "results").glob("leaderboard-*.md"))
    assert pages
    for page in pages:
        file = CONFIGS / f"{page.stem}.json"
        found = record.read(CONFIGS.parent / "records" / file.name)
        assert page.read_text() == leaderboard_run.page(config_file.load(file), file.name, found), page.name


def test_the_tables_of_the_results_are_those_of_their_pages() -> None:
    """Arm by arm, the numbers of seeds and the gains, in rung 1 also those on the texts held out; the names differ."""
    docs = CONFIGS.parents[2] / "docs"

    def tables(page: Path) -> list[list[list[str]]]:
        found = [part.split("\n\n")[0].splitlines()[2:] for part in page.read_text().split("| arm | seeds |")[1:]]
        return [[[cell.strip() for cell in line.split("|")[2:]] for line in table] for table in found]

    published = tables(docs / "results.md")
    assert [len(table) for table in published] == [18, 4]
    for rung, (table, columns) in enumerate(zip(published, (3, 2), strict=True), 1):
        page = tables(docs / "results" / f"leaderboard-{rung}.md")[0]
        assert [cells[:columns] for cells in table] == [cells[:columns] for cells in page]
