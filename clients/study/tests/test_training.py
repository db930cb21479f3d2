"""Pretraining, finetuning and sweeps: small ones from end to end, interrupted and measured again."""

from __future__ import annotations

import collections
import dataclasses
import hashlib
import json
import random
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from study_helpers import dump, forbid_training, forget_texts, interrupt, small, study, with_text

from iterand_study import (
    cli,
    config,
    data,
    evalsets,
    files,
    finetune,
    pretrain,
    record,
    report,
    sweep,
    tasks,
    training,
    zeroshot,
)
from iterand_study.model import Transformer
from iterand_study.training import Trainer


def test_text_batches_cover_the_text_once_an_epoch(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(bytes(range(200)) * 5)
    text = data.Text.read(file, [0.8, 0.1])
    assert (len(text.train), len(text.validation), len(text.test)) == (800, 100, 100)
    batches = torch.cat(list(text.batches(16, 7, 7, seed=3)))
    assert torch.equal(batches, torch.cat(list(text.batches(16, 7, 7, seed=3))))
    counts = collections.Counter(tuple(row.tolist()) for row in batches)
    assert len(batches) == 49
    assert max(counts.values()) <= 4  # the text repeats itself every 200 bytes


@pytest.mark.parametrize("dropout", [0.0, 0.2])
def test_interrupted_pretraining_goes_on_exactly(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dropout: float
) -> None:
    each = study(address, model=small(dropout=dropout))
    torch.manual_seed(1)  # what is drawn depends on the study alone, not on what ran before it
    whole = pretrain.run(each, address, tmp_path / "whole")
    assert whole["curve"][-1]["bits"] < whole["curve"][0]["bits"]
    interrupt(monkeypatch, lambda: pretrain.run(each, address, tmp_path / "resumed"))
    torch.manual_seed(2)
    resumed = pretrain.run(each, address, tmp_path / "resumed")
    assert resumed["curve"] == whole["curve"]
    assert resumed["evaluations"] == whole["evaluations"]
    forbid_training(monkeypatch)
    assert pretrain.run(each, address, tmp_path / "whole") == whole


def test_a_new_evaluation_is_measured_and_not_trained(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """What is measured in the same way stays, on the way too; how often something is printed makes no difference."""
    each = study(address)
    before = pretrain.run(each, address, tmp_path / "out")
    forbid_training(monkeypatch)
    rarely = dataclasses.replace(each, pretrain=dataclasses.replace(each.pretrain, log_every=7, checkpoints=1))
    assert pretrain.run(rarely, address, tmp_path / "out") == before
    capsys.readouterr()
    wider = dataclasses.replace(each, evaluation=dataclasses.replace(each.evaluation, sets=["dyck", "rep-3", "rep-5"]))
    after = pretrain.run(wider, address, tmp_path / "out")
    assert "measures again" in capsys.readouterr().out
    assert after["curve"] == before["curve"]
    assert after["evaluations"][0] == before["evaluations"][0]
    assert list(after["evaluations"][1]["sets"]) == ["dyck", "rep-3", "rep-5"]
    assert after["evaluations"][1]["sets"]["dyck"] == before["evaluations"][1]["sets"]["dyck"]
    assert pretrain.run(wider, address, tmp_path / "out") == after
    with monkeypatch.context() as patch:
        patch.setitem(evalsets.LANGUAGES, "dyck", dataclasses.replace(evalsets.LANGUAGES["dyck"], characters=400_000))
        patch.setattr(evalsets, "language_sha256", evalsets.language_sha256.__wrapped__)
        patch.setattr(evalsets, "text_of", evalsets.text_of.__wrapped__)
        other = pretrain.run(wider, address, tmp_path / "out")  # the same name, but another text
    assert list(other["evaluations"][0]["sets"]) == ["rep-3"]
    fewer = dataclasses.replace(wider, evaluation=dataclasses.replace(wider.evaluation, windows=10))
    assert len(pretrain.run(fewer, address, tmp_path / "out")["evaluations"]) == 1  # on the way: other windows


def test_a_checkpoint_is_kept_or_given_up_aloud(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    each = study(address)
    whole = pretrain.run(each, address, tmp_path / "whole")
    interrupt(monkeypatch, lambda: pretrain.run(each, address, tmp_path / "out"))
    wider = dataclasses.replace(each, evaluation=dataclasses.replace(each.evaluation, sets=["dyck", "rep-3", "rep-5"]))
    capsys.readouterr()
    resumed = pretrain.run(wider, address, tmp_path / "out")
    assert "step 5 " not in capsys.readouterr().out
    assert resumed["curve"] == whole["curve"]
    assert [list(found["sets"]) for found in resumed["evaluations"]] == [["dyck", "rep-3"], ["dyck", "rep-3", "rep-5"]]
    slower = dataclasses.replace(
        each, pretrain=dataclasses.replace(each.pretrain, optimizer=config.Optimizer(learning_rate=1e-3))
    )
    change = "pretrain.optimizer.learning_rate was 0.002, is 0.001"
    interrupt(monkeypatch, lambda: pretrain.run(each, address, tmp_path / "other"))
    capsys.readouterr()
    pretrain.run(slower, address, tmp_path / "other")
    assert f"starts again, {tmp_path}/other/checkpoint.pt is of another run: {change}" in capsys.readouterr().out
    pretrain.run(slower, address, tmp_path / "whole")
    assert f"the result in {tmp_path}/whole is replaced by a new one: {change}" in capsys.readouterr().out


def test_evaluation_is_not_in_the_precision_of_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def lower(*_: object) -> None:
        raise AssertionError("evaluates in lower precision")

    monkeypatch.setattr(torch, "autocast", lower)
    monkeypatch.setattr(training, "precision", lower)
    monkeypatch.setattr(tasks, "precision", lower, raising=False)
    model = Transformer(small())
    found = zeroshot.evaluate(model, config.Evaluation(sets=["rep-3"], tasks=["copy"], windows=2))
    assert found["sets"]["rep-3"]["bits_half"] == pytest.approx(8)


def test_pretraining_from_a_dump(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump(tmp_path / "dump")
    served = pretrain.run(study(address), address, tmp_path / "served")
    options = dataclasses.replace(study(address).pretrain, dump=str(tmp_path / "dump"))
    dumped = pretrain.run(study(address, pretrain=options), None, tmp_path / "dumped")
    assert dumped["curve"] == served["curve"]
    assert record.synthetic_flops(served) == served["generation_flops"] + served["training_flops"]
    assert dumped["generation_flops"] is None  # a dump does not say what it cost
    assert record.synthetic_flops(dumped) is None
    forbid_training(monkeypatch)
    assert pretrain.run(study(address, pretrain=options), None, tmp_path / "served") == served  # the same stream


def test_pretraining_goes_on_from_a_model(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    first = pretrain.run(study(address), address, tmp_path / "first")
    dump(tmp_path / "dump", seed=1)

    def second(start: str) -> config.Study:
        options = dataclasses.replace(study(address).pretrain, dump=str(tmp_path / "dump"), start=start)
        return study(address, pretrain=options)

    model = str(tmp_path / "first" / "model.pt")
    later = pretrain.run(second(model), None, tmp_path / "second")
    assert later["curve"][0]["bits"] < first["curve"][0]["bits"]
    assert later["start"]["tokens"] == first["tokens"]
    assert record.including_start(later, "tokens") == first["tokens"] + later["tokens"]
    assert record.including_start(later, "training_flops") == first["training_flops"] + later["training_flops"]
    assert record.synthetic_flops(later) is None  # a dump does not say what it cost
    third = pretrain.run(second(str(tmp_path / "second" / "model.pt")), None, tmp_path / "third")
    assert third["start"]["tokens"] == first["tokens"] + later["tokens"]

    interrupt(monkeypatch, lambda: pretrain.run(second(model), None, tmp_path / "resumed"))
    assert pretrain.run(second(model), None, tmp_path / "resumed")["curve"] == later["curve"]
    (tmp_path / "copy").mkdir()
    lonely = Path(shutil.copy(model, tmp_path / "copy"))  # without the pretrain.json that says what it was trained on
    unknown = pretrain.run(second(str(lonely)), None, tmp_path / "lonely")
    assert unknown["curve"] == later["curve"]
    assert unknown["start"]["tokens"] is None
    shutil.copy(tmp_path / "second" / "model.pt", lonely)
    assert pretrain.run(second(str(lonely)), None, tmp_path / "lonely")["curve"] == third["curve"]
    assert "is replaced by a new one: start was" in capsys.readouterr().out
    forbid_training(monkeypatch)
    assert pretrain.run(second(model), None, tmp_path / "second") == later
    deeper = dataclasses.replace(second(model), model=small(depth=2))
    with pytest.raises(config.ConfigError, match=r"a model of another shape: model\.depth is 2, there 1"):
        pretrain.run(deeper, None, tmp_path / "deeper")
    file = tmp_path / "study.json"
    file.write_text(
        json.dumps({**config.to_dict(deeper), "variants": {"first": {"pretrain": {"start": None}}, "own": {}}})
    )
    assert cli.main(["sweep", str(file), "--out", str(tmp_path / "sweep")]) == 1
    assert not (tmp_path / "sweep").exists()  # the first has not been trained
    assert "a model of another shape: model.depth is 2, there 1" in capsys.readouterr().err


def test_streams_that_do_not_fit_are_refused(address: str, tmp_path: Path) -> None:
    dump(tmp_path / "dump")
    for source in ({}, {"dump": str(tmp_path / "dump")}):
        each = study(address, model=small(vocab_size=128), pretrain=config.Pretrain(**source))
        with pytest.raises(config.ConfigError, match=r"below 256; model\.vocab_size is 128"):
            pretrain.run(each, address, tmp_path / "out")
    each = study(address, model=small(length=16), pretrain=config.Pretrain(dump=str(tmp_path / "dump")))
    with pytest.raises(config.ConfigError, match="sequences of 32 tokens"):
        pretrain.run(each, None, tmp_path / "out")
    next((tmp_path / "dump").glob("*.json")).write_text("{}")
    with pytest.raises(config.ConfigError, match="lacks file"):
        pretrain.run(each, None, tmp_path / "out")


def test_a_result_with_the_names_of_an_earlier_version_is_not_trained_again(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    each = study(address)
    each = dataclasses.replace(each, pretrain=dataclasses.replace(each.pretrain, recipe="tasks", loss_mask=True))
    pretrain.run(each, address, tmp_path)
    file = tmp_path / "pretrain.json"
    result = json.loads(file.read_text())
    result["config"]["pretrain"]["mask"] = result["config"]["pretrain"].pop("loss_mask")
    result["stream"]["shard"] = {"rank": 0, "world": 1}
    file.write_text(json.dumps(result))
    forbid_training(monkeypatch)
    assert pretrain.run(each, address, tmp_path) == result


def test_a_loss_mask_leaves_out_what_cannot_be_predicted(address: str, tmp_path: Path) -> None:
    """From a server, from a dump, and where the recipe asks for it itself; without, the random words count too."""
    recipe = {"families": [{"tasks": {"kinds": ["IDENTITY"], "items": {"fixed": 4}, "symbols": {"fixed": 16}}}]}
    file = tmp_path / "recipe.json"

    def pretrained(name: str, **options: object) -> dict[str, Any]:
        each = study(address)
        return pretrain.run(
            dataclasses.replace(each, pretrain=dataclasses.replace(each.pretrain, **options)), address, tmp_path / name
        )

    unmasked = pretrained("unmasked", recipe=recipe)
    masked = pretrained("masked", recipe=recipe, loss_mask=True)
    assert masked["stream"]["fingerprint"] != unmasked["stream"]["fingerprint"]
    assert (unmasked["stream"]["masked"], masked["stream"]["masked"]) == (False, True)
    assert masked["curve"] != unmasked["curve"]
    file.write_text(json.dumps({**recipe, "loss_mask": True}))
    assert pretrained("by recipe", recipe=str(file))["curve"] == masked["curve"]
    dump(tmp_path / "dump", 0, str(file))
    dumped = pretrained("dumped", dump=str(tmp_path / "dump"))
    assert dumped["curve"] == masked["curve"]
    assert dumped["stream"]["masked"] is True
    for marks in (tmp_path / "dump").glob("*.loss_mask.*"):
        marks.rename(tmp_path / marks.name)
    assert pretrained("dumped", dump=str(tmp_path / "dump"))["curve"] == unmasked["curve"]  # trains again
    for marks in tmp_path.glob("*.loss_mask.*"):
        marks.rename(tmp_path / "dump" / marks.name)
    dump(tmp_path / "without", 0, "up")
    with pytest.raises(config.ConfigError, match=r"pretrain.loss_mask is true, but .*without has no loss masks"):
        pretrained("no masks", dump=str(tmp_path / "without"), loss_mask=True)
    sidecar = next((tmp_path / "dump").glob("*.loss_mask.json"))
    info = json.loads(sidecar.read_text())
    for key, other in (("shape", [160, 32]), ("fingerprint", "0" * 64), ("start", 320)):
        sidecar.write_text(json.dumps({**info, key: other}))
        with pytest.raises(config.ConfigError, match=f"masks of other tokens: their {key} is "):
            pretrained("others", dump=str(tmp_path / "dump"))


@pytest.mark.parametrize("source", ["dump", "recipe"])
def test_what_another_stream_left_is_not_taken(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, source: str
) -> None:
    """Neither as a checkpoint nor as a result, though the configuration names the same dump or recipe file."""
    where = tmp_path / ("dump" if source == "dump" else "recipe.json")

    def replace(seed: int) -> None:
        if source == "dump":
            dump(where, seed)
        else:
            where.write_text(json.dumps({"families": [{"weight": 1, ("markov", "uniform")[seed]: {}}]}))

    each = study(address, pretrain=dataclasses.replace(study(address).pretrain, **{source: str(where)}))
    replace(0)
    first = pretrain.run(each, address, tmp_path / "whole")
    interrupt(monkeypatch, lambda: pretrain.run(each, address, tmp_path / "resumed"))
    replace(1)
    with pytest.raises(config.ConfigError, match=r"checkpoint\.pt is of another stream.*remove the checkpoint"):
        pretrain.run(each, address, tmp_path / "resumed")
    second = pretrain.run(each, address, tmp_path / "whole")
    assert second["stream"]["fingerprint"] != first["stream"]["fingerprint"]
    assert second["curve"] != first["curve"]
    replace(0)
    assert pretrain.run(each, address, tmp_path / "resumed")["curve"] == first["curve"]


def test_texts_count_by_content(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is replaced is another; one that is moved is the same."""
    file, moved, out = tmp_path / "text", tmp_path / "moved", tmp_path / "out"

    def results() -> dict[str, Any]:
        """All except the configurations, which contain paths."""
        files = {str(path.relative_to(out)): json.loads(path.read_text()) for path in out.glob("**/*.json")}
        return {name: {**found, "config": None} for name, found in files.items()}

    file.write_bytes(b"ababab " * 1000)
    sweep.run(with_text(address, file), address, out)
    first = results()
    assert len(first) == 5  # pretraining, a stage, three starts
    file.write_bytes(b"uvwxyz " * 1000)
    forget_texts()
    sweep.run(with_text(address, file), address, out)
    second = results()
    assert len(second) == 6  # scratch of each text
    stage = "study/seed-0/finetune-own.json"
    assert second[stage]["text_sha256"] != first[stage]["text_sha256"]
    for start in ("scratch", "pretrained"):
        assert second[stage]["starts"][start]["curve"] != first[stage]["starts"][start]["curve"]
    before, after = (found["study/seed-0/pretrain.json"] for found in (first, second))
    assert after["curve"] == before["curve"]  # no text is seen there
    assert after["evaluations"][-1]["sets"]["own"] != before["evaluations"][-1]["sets"]["own"]
    file.rename(moved)
    forget_texts()
    forbid_training(monkeypatch)
    sweep.run(with_text(address, moved), address, out)
    assert results() == second


def test_finetuning_repeats_and_is_tested_elsewhere(address: str, tmp_path: Path) -> None:
    """With dropout too, whatever ran before; the text itself is not elsewhere."""
    file = tmp_path / "text"
    file.write_bytes(bytes(random.Random(0).choices(b"abcde ", k=5000)))
    each = with_text(address, file, model=small(dropout=0.2))
    stage = dataclasses.replace(each.finetune[0], starts=["scratch"])
    found = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        found.append(finetune.run(each, stage, None, tmp_path / str(seed), 0.0)["starts"]["scratch"])
    assert found[0]["curve"] == found[1]["curve"]
    assert set(found[0]["elsewhere"]["sets"]) == {"dyck", "rep-3"}


def test_finetuning_another_model_is_another_result(address: str, tmp_path: Path) -> None:
    """Also where the weights are alone, without the result of their pretraining."""
    file, weights = tmp_path / "text", tmp_path / "model.pt"
    file.write_bytes(b"ababab " * 1000)
    each = with_text(address, file)
    stage = dataclasses.replace(each.finetune[0], starts=["pretrained"])
    found = []
    for seed in (1, 2):
        files.save(weights, {"model": Transformer(small(), seed).state_dict(), "shape": config.to_dict(small())})
        found.append(finetune.run(each, stage, weights, tmp_path / "out", None))
    assert found[0]["starts"]["pretrained"]["curve"] != found[1]["starts"]["pretrained"]["curve"]
    assert found[1]["synthetic_flops"] is None


def test_an_interrupted_stage_goes_on_with_the_next_rate(
    address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """And a new set is measured with the weights that were kept; those of the worse rate are not."""
    file, out = tmp_path / "text", tmp_path / "out"
    file.write_bytes(bytes(random.Random(0).choices(b"abcde ", k=5000)))
    each = with_text(address, file)
    stage = dataclasses.replace(each.finetune[0], starts=["scratch"], learning_rates=[0.01, 0.001])
    whole = finetune.run(each, stage, None, tmp_path / "whole", 0.0)["starts"]["scratch"]
    train, rates = finetune._train, []

    def breaks(model: Any, study: Any, stage: Any, rate: float, text: Any, device: Any) -> Any:
        rates.append(rate)
        if len(rates) == 2:
            raise KeyboardInterrupt
        return train(model, study, stage, rate, text, device)

    monkeypatch.setattr(finetune, "_train", breaks)
    with pytest.raises(KeyboardInterrupt):
        finetune.run(each, stage, None, out, 0.0)
    resumed = finetune.run(each, stage, None, out, 0.0)["starts"]["scratch"]
    assert rates == [0.01, 0.001, 0.001]
    assert {key: resumed[key] for key in ("curve", "tried", "elsewhere", "test_bits")} == {
        key: whole[key] for key in ("curve", "tried", "elsewhere", "test_bits")
    }
    assert [path.name for path in out.glob("finetune-own/*.pt")] == ["scratch-0.01.pt"]
    wider = dataclasses.replace(each, evaluation=dataclasses.replace(each.evaluation, sets=["dyck", "rep-3", "rep-5"]))
    found = finetune.run(wider, stage, None, out, 0.0)["starts"]["scratch"]
    assert list(found["elsewhere"]["sets"]) == ["dyck", "rep-3", "rep-5"]
    assert len(rates) == 3
    capsys.readouterr()
    finetune.run(each, dataclasses.replace(stage, batch_size=8), None, out, 0.0)
    assert "own from scratch at 0.01 trains again: batch_size was 16, is 8" in capsys.readouterr().out


def test_a_sweep_trains_nothing_twice(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Variants that differ in finetuning alone share their pretraining; stages that differ in name and shrink alone,
    their scratch runs."""
    file = tmp_path / "text"
    file.write_bytes(b"ababab " * 1000)
    each = with_text(address, file)
    (stage,) = config.to_dict(each)["finetune"]
    halved = {**stage, "name": "half", "shrink": 0.5}
    each = dataclasses.replace(
        each, variants={"plain": {}, "shrunk": {"finetune": [{**stage, "starts": ["fresh"]}, halved]}}
    )
    steps: list[int] = []
    step = Trainer.step
    monkeypatch.setattr(Trainer, "step", lambda trainer, *batch: steps.append(1) or step(trainer, *batch))
    sweep.run(each, address, tmp_path / "out")
    assert len(steps) == 20 + 8 * (3 + 1 + 2)  # pretraining once, scratch once, each other start once
    weights = [path.read_bytes() for path in sorted(tmp_path.glob("out/*/seed-0/model.pt"))]
    assert len(weights) == 2
    assert weights[0] == weights[1]
    found = [json.loads(path.read_text()) for path in sorted(tmp_path.glob("out/*/seed-0/finetune-*.json"))]
    assert [each["name"] for each in found] == ["own", "half", "own"]
    assert found[0]["starts"]["scratch"] == found[1]["starts"]["scratch"]


def test_variants_of_a_sweep_go_on_from_one_another(address: str, tmp_path: Path) -> None:
    later = {"pretrain": {"start": "first", "recipe": "uniform", "stream_seed": 7}}
    each = study(address, variants={"first": {}, "second": later}, seeds=[0, 2])
    sweep.run(each, address, tmp_path / "out")

    def result(name: str, seed: int) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((tmp_path / "out" / name / f"seed-{seed}" / "pretrain.json").read_text())
        return found

    for seed in each.seeds:
        assert result("second", seed)["stream"]["seed"] == 7 + seed
        weights = (tmp_path / "out" / "first" / f"seed-{seed}" / "model.pt").read_bytes()
        assert result("second", seed)["start"]["sha256"] == hashlib.sha256(weights).hexdigest()
    found = record.from_folder(tmp_path / "out")
    runs = found["runs"]
    paid = {(run["variant"], run["seed"]): record.synthetic_flops(run) for run in runs}
    assert paid["second", 0] == 2 * runs[0]["training_flops"] + runs[0]["generation_flops"]  # `uniform` costs none
    next(run for run in runs if run["variant"] == "second" and run["seed"] == 2)["start"]["tokens"] = None
    text = report.write(found, tmp_path / "report", "Stages").read_text()
    first, second = (result("second", seed)["start"]["sha256"][:8] for seed in each.seeds)
    seen = f"{runs[0]['tokens']:,}".replace(",", " ")
    assert f"{first}, after {seen} tokens / {second}, after unknown tokens" in text
    assert "random" in text
