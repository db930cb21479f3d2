"""The study harness: definitions pinned by published figures, and a small study from end to end."""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import json
import math
import random
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from conftest import binary

torch = pytest.importorskip("torch")

from iterand.study import (  # noqa: E402
    cli,
    compressors,
    config,
    data,
    evalsets,
    finetune,
    labels,
    markov,
    pretrain,
    report,
    structure,
    sweep,
    tasks,
    training,
    zeroshot,
)
from iterand.study.model import Transformer, parameter_groups  # noqa: E402
from iterand.study.training import Trainer, token_bits  # noqa: E402

EXAMPLES = Path(__file__).resolve().parents[1] / "examples"
STUDIES = EXAMPLES.parent / "studies"


@pytest.fixture(autouse=True, scope="module")
def _one_thread() -> None:
    torch.set_num_threads(1)  # threads of so small a model cost more than they give, above all on a busy machine


@pytest.mark.parametrize("name", [name for name, each in evalsets.LANGUAGES.items() if each.published_markov])
def test_markov_figures_pin_the_languages_down(name: str) -> None:
    rows = evalsets.windows(evalsets.text_of(name), 512, 10_000)
    assert markov.baseline(rows).best == pytest.approx(evalsets.LANGUAGES[name].published_markov, abs=0.05)


def test_markov_counts_equal_plain_counting() -> None:
    rng = np.random.default_rng(0)
    rows = rng.integers(97, 100, (5, 40), dtype=np.uint8)
    for position in (0, 3, 39):
        totals, hits = markov.context_counts(rows, position)
        for place, row in enumerate(rows):
            text = row.tobytes()
            for order in markov.ORDERS:
                if order > position:
                    assert totals[order, place] == hits[order, place] == 0
                    continue
                context = text[position - order : position]
                ends = [at for at in range(order, position) if text[at - order : at] == context]
                assert hits[order, place] == sum(text[at] == text[position] for at in ends)
                assert totals[order, place] == len(ends) + (order > 0)


def test_languages_are_what_they_say() -> None:
    rng = random.Random(1)
    for _ in range(50):
        digits = evalsets.champ(rng)
        assert digits.endswith("|")
        first = int(digits[:6], 16) if len(digits) == 256 * 6 + 1 else None
        if first is not None:
            assert digits[6:12] == f"{first + 1:06x}"
        brackets = evalsets.dyck(rng)[:-1]
        depths = np.cumsum([1 if bracket == "(" else -1 for bracket in brackets])
        assert depths[-1] == 0
        assert (depths[:-1] > 0).all()
        words = evalsets.bits(rng)[:-1]
        left, right, xor, both, either, equal = (int(words[at : at + 5], 2) for at in range(0, 30, 5))
        assert (xor, both, either, equal) == (left ^ right, left & right, left | right, 31 ^ left ^ right)
        word = evalsets.bitsrep(rng)
        assert word[:3] == word[3:6] == word[6:]
        flip = evalsets.bitsflip(rng)
        assert flip == flip[::-1]
        expression = evalsets.toy2(rng)[:-1].replace("^", "**")
        compile(expression, "expression", "eval")
    assert evalsets.ndfa(rng)[0] == "s"
    rows = evalsets.rep(3, 20, 4)
    assert (rows[:, 3:] == rows[:, :-3]).all()
    assert evalsets.text_of("bits", 1).tobytes() != evalsets.text_of("bits", 2).tobytes()


def test_tasks_have_answers_that_the_window_shows() -> None:
    for name in tasks.TASKS:
        tokens, mask = tasks.make(name, 8, 64)
        assert tokens.shape == mask.shape == (8, 64)
        assert mask.any(axis=1).all()
        assert not mask[:, :32].any()
        again, _ = tasks.make(name, 8, 64)
        np.testing.assert_array_equal(tokens, again)
    tokens, mask = tasks.make("recall", 4, 64)
    for row, answers in zip(tokens, mask, strict=True):
        for place in np.flatnonzero(answers):
            earlier = np.flatnonzero(row[: place - 1] == row[place - 1])
            assert row[earlier[0] + 1] == row[place]


def _next_of_copy(window: list[int], backwards: bool) -> int | None:
    """What follows a window of the tasks copy and reverse, where the window alone tells: by its mark, the token that
    splits it into words of which every second repeats the one before."""
    for mark in window:
        *words, begun = "".join(map(chr, window)).split(chr(mark))
        pairs = zip(words[::2], words[1::2], strict=False)
        if len(words) >= 3 and all(again == (word[::-1] if backwards else word) for word, again in pairs):
            if len(words) % 2 == 0:
                return None  # a new word
            whole = words[-1][::-1] if backwards else words[-1]
            return ord(whole[len(begun)]) if len(begun) < len(whole) else mark
    return None


def _next_of_stack(window: list[int]) -> int | None:
    """What follows a window of the task stack that ends in a pop, whose mark is that by which all pops come out."""
    for pop in window:
        stack: list[int] = []
        popped = False
        for token in window:
            if popped and (not stack or stack.pop() != token):
                break
            if not popped and token != pop:
                stack.append(token)
            popped = not popped and token == pop
        else:
            if popped and len(stack) and window.count(pop) > 3:
                return stack[-1]
    return None


def test_a_rule_solves_the_tasks() -> None:
    rules = {
        "copy": lambda window: _next_of_copy(window, backwards=False),
        "reverse": lambda window: _next_of_copy(window, backwards=True),
        "stack": _next_of_stack,
    }
    for name, rule in rules.items():
        tokens, mask = tasks.make(name, 20, 128)
        places = [(row, place) for row, place in zip(*np.nonzero(mask), strict=True)]
        right = [rule(tokens[row, :place].tolist()) == tokens[row, place] for row, place in places]
        assert len(right) > 300
        assert np.mean(right) > 0.99, name


def test_compressors() -> None:
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (4, 512), dtype=np.uint8)
    constant = np.zeros((4, 512), np.uint8)
    for name, bits in compressors.references(noise).items():
        assert 7.8 < bits < 9.5, name
    for name, bits in compressors.references(constant).items():
        assert bits < 0.3, name
    assert sum(compressors.ppm_bits(b"abracadabra" * 20)[110:]) < 20
    ends = (compressors.pitman_yor_bits(b"abracadabra abra" + bytes([byte]))[-1] for byte in range(256))
    assert sum(2**-bits for bits in ends) == pytest.approx(1)
    assert compressors.pitman_yor_bits(b"abracadabra abrac")[-1] < 2.5  # after "abra", c came once of two times


def small(**changes: Any) -> config.Model:
    return dataclasses.replace(config.Model(width=32, depth=1, head_width=16, length=32, base_width=32), **changes)


@pytest.mark.parametrize("changes", [{}, {"tied": True, "smear": True}])
def test_model_looks_only_back(changes: dict[str, bool]) -> None:
    model = Transformer(small(**changes), seed=1)
    with torch.no_grad():
        if model.head is not None:
            model.head.weight.normal_()
        tokens = torch.randint(256, (2, 32), generator=torch.Generator().manual_seed(0))
        changed = tokens.clone()
        changed[:, 20] = (changed[:, 20] + 1) % 256
        one, two = model(tokens), model(changed)
    torch.testing.assert_close(one[:, :20], two[:, :20])
    assert not torch.allclose(one[:, 20:], two[:, 20:])


def test_model_starts_at_chance() -> None:
    rows = np.random.default_rng(0).integers(0, 256, (4, 32), dtype=np.uint8)
    assert token_bits(Transformer(small()), rows).mean() == pytest.approx(8, abs=1e-4)


def test_smeared_keys() -> None:
    """At a logit far below 0 a position is looked for by the key of the one before it."""
    shape = small(smear=True)
    block = Transformer(shape, seed=1).blocks[0]
    rotary = torch.stack((torch.ones(32, 8), torch.zeros(32, 8)))  # no rotation
    x = torch.randn(1, 32, 32, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        block.smear.fill_(-40)
        block.narrow.weight.zero_()
        parts = block.query_key_value(block.norm1(x)).view(32, 3, 2, 16)
        query, key, value = parts.permute(1, 2, 0, 3)
        before = torch.cat((torch.zeros(2, 1, 16), key[:, :-1]), dim=1)
        scores = (query @ before.transpose(1, 2) / 4).masked_fill(torch.ones(32, 32).triu(1) > 0, -math.inf)
        expected = x + block.mix((scores.softmax(-1) @ value).transpose(0, 1).reshape(1, 32, 32))
        torch.testing.assert_close(block(x, rotary), expected)


def test_tied_head_is_the_embedding() -> None:
    model = Transformer(small(tied=True), seed=1)
    assert not any(name.startswith("head") for name, _ in model.named_parameters())
    assert model.training_flops(1) == Transformer(small()).training_flops(1)
    with torch.no_grad():
        tokens = torch.arange(32)[None]
        before = model(tokens)
        model.embedding.weight[200] += 10 * model.embedding.weight[200]
        after = model(tokens)
    torch.testing.assert_close(after[..., :200], before[..., :200])
    torch.testing.assert_close(after[..., 200], 11 * before[..., 200])


def test_training_in_bfloat16_keeps_float32_weights() -> None:
    tokens = torch.randint(256, (8, 32), generator=torch.Generator().manual_seed(0))
    losses = {}
    for precision in ("float32", "bfloat16"):
        model = Transformer(small(), seed=1)
        options = config.Optimizer(learning_rate=0.01, warmup_share=0)
        trainer = Trainer(model, options, 20, torch.device("cpu"), precision=precision)
        losses[precision] = [trainer.step(tokens) for _ in range(20)]
        assert all(weight.dtype == torch.float32 for weight in model.parameters())
    assert losses["bfloat16"] != losses["float32"]
    assert losses["bfloat16"][-1] == pytest.approx(losses["float32"][-1], abs=0.1)
    wrong = Trainer(Transformer(small()), config.Optimizer(), 1, torch.device("cpu"), precision="float8")
    with pytest.raises(config.ConfigError, match="float8"):
        wrong.step(tokens)


def test_width_scaling_keeps_the_size_of_updates() -> None:
    """One step changes the output of a wide model about as much as that of a narrow one."""
    tokens = torch.randint(256, (8, 32), generator=torch.Generator().manual_seed(0))
    changes = []
    for width in (32, 256):
        model = Transformer(small(width=width))
        groups = parameter_groups(model, config.Optimizer())
        assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
        trainer = Trainer(model, config.Optimizer(learning_rate=0.01, warmup_share=0), 10, torch.device("cpu"))
        for _ in range(3):
            trainer.step(tokens)
        with torch.no_grad():
            changes.append(model(tokens).std().item())
    assert 1 / 3 < changes[1] / changes[0] < 3


def test_tokens_to_reach() -> None:
    curve = [{"tokens": float(at), "bits": bits} for at, bits in ((0, 8.0), (10, 4.0), (20, 4.5), (30, 3.0))]
    assert finetune.tokens_to_reach(curve, 8.0) == 0
    assert finetune.tokens_to_reach(curve, 6.0) == 5
    assert finetune.tokens_to_reach(curve, 3.5) == 25
    assert finetune.tokens_to_reach(curve, 2.0) is None


def test_tokens_at_which_a_tracked_curve_comes_up_to_a_level() -> None:
    points = [{"tokens": 10.0 * at, "english": s} for at, s in ((1, -0.1), (2, 0.3), (3, 0.2), (4, 0.6))]
    assert report.reached(points, "english", 0.1) == pytest.approx(15)
    assert report.reached(points, "english", 0.3) == 20
    assert report.reached(points, "english", 0.5) == pytest.approx(37.5)
    assert report.reached(points, "english", 0.7) is None
    assert report.reached([{"tokens": 10.0, "english": 0.5}], "english", 0.25) == 5


def test_comparison() -> None:
    scratch = [{"tokens": 100.0 * at, "bits": 8 - at} for at in range(5)]
    better = [{"tokens": 50.0 * at, "bits": 8 - at} for at in range(5)]
    found = finetune.compare(scratch, better, 1e9)
    assert found["levels"][-1]["saved_share"] == pytest.approx(0.5)
    assert found["levels"][-1]["exchange_flops_per_token"] == pytest.approx(1e9 / 200)
    worse = [{"tokens": 100.0 * at, "bits": 8 - at / 2} for at in range(5)]
    never = finetune.compare(scratch, worse, 1e9)
    assert never["levels"][-1]["tokens"] is None
    assert never["scratch_reaches_its_final_loss_at"] == pytest.approx(200)


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


def test_mean_and_interval() -> None:
    assert math.isnan(report.mean_and_interval([1.0])[1])
    mean, width = report.mean_and_interval([1.0, 2.0, 3.0])
    assert mean == 2
    assert width == pytest.approx(4.303 / math.sqrt(3), rel=1e-3)
    values = [float(at) for at in range(16)]
    assert report.mean_and_interval(values)[1] == pytest.approx(2.1314 * np.std(values, ddof=1) / 4, rel=1e-4)


def test_quantiles_of_student() -> None:
    published = {1: 12.706, 9: 2.262, 10: 2.228, 11: 2.201, 12: 2.179, 20: 2.086, 30: 2.042, 120: 1.980}
    for freedom, quantile in published.items():
        assert report.student(freedom) == pytest.approx(quantile, abs=6e-4), freedom


def test_exchange_rate_is_of_all_seeds() -> None:
    saves: dict[str, Any] = {"exchange_flops_per_token": 2e6}
    assert report.exchange([saves, {"exchange_flops_per_token": 4e6}]) == "3e+06"
    assert report.exchange([saves, {"exchange_flops_per_token": None}]) == "never"  # costs more real tokens
    assert report.exchange([saves, {}]) == "never"  # does not reach the loss


def finetuned(seed: int = 0, stage: dict[str, Any] | None = None, text: str = "0" * 64, **model: Any) -> dict[str, Any]:
    """As much of a finetuning result as its labels need."""
    each = config.Study(seed=seed, model=small(**model))
    whole = config.plain(config.Finetune(text="own", **(stage or {})))
    starts = {kind: {"curve": [{"tokens": 0.0, "bits": 8.0 - seed}]} for kind in ("scratch", "pretrained")}
    return {"config": config.plain(each), "stage": whole, "text_sha256": text, "starts": starts, "name": "own"}


def test_scratch_runs_that_differ_are_told_apart() -> None:
    """By architecture, stage and text; what only pretrained starts depend on makes no difference."""
    found = {
        ("plain", "own"): [finetuned(0), finetuned(1)],
        ("plain again", "own"): [finetuned(0, {"shrink": 0.5}), finetuned(2)],
        ("copies", "own"): [finetuned(0, tied=True, smear=True)],
        ("long", "own"): [finetuned(0, length=64)],
        ("slow", "own"): [finetuned(0, {"learning_rates": [1e-4, 2e-4]})],
        ("other text", "own"): [finetuned(0, text="1" * 64)],
        ("other", "stage"): [finetuned(0, depth=3)],
    }
    arms = labels.arms(found, "own")
    alone = {arm.name: [stage["config"]["seed"] for stage in arm.stages] for arm in arms if arm.kind == "scratch"}
    usual, zeros = "learning_rates 0.001 0.002", "text 00000000"
    assert alone == {
        f"scratch, 32 x 1, length 32, {usual}, {zeros}": [0, 1, 2],
        f"scratch, 32 x 1, tied, smear, length 32, {usual}, {zeros}": [0],
        f"scratch, 32 x 1, length 64, {usual}, {zeros}": [0],
        f"scratch, 32 x 1, length 32, learning_rates 0.0001 0.0002, {zeros}": [0],
        f"scratch, 32 x 1, length 32, {usual}, text 11111111": [0],
    }
    beside = {arm.name: arm.scratch for arm in arms if arm.kind != "scratch"}
    assert beside["plain, pretrained"] == beside["plain again, pretrained"] == next(iter(alone))
    assert beside["copies, pretrained"] == f"scratch, 32 x 1, tied, smear, length 32, {usual}, {zeros}"
    assert len(beside) == 6
    assert labels.arms({("plain", "own"): [finetuned()]}, "own")[0].name == "scratch, 32 x 1"


def test_configuration_errors_name_the_key(tmp_path: Path) -> None:
    file = tmp_path / "study.json"
    for wrong, told in (
        ({"modell": {}}, "modell"),
        ({"structure": {}}, "structure is unknown"),
        ({"model": {"width": "wide"}}, r"model\.width"),
        ({"pretrain": {"tokens": 1.5}}, r"pretrain\.tokens"),
        ({"precision": "float8"}, "precision"),
        ({"evaluation": {"sets": ["dyke"]}}, r"evaluation\.sets.*dyke"),
        ({"evaluation": {"sets": ["rep-0"]}}, r"evaluation\.sets.*rep-0"),
        ({"evaluation": {"tasks": ["copi"]}}, r"evaluation\.tasks.*copi"),
        ({"evaluation": {"track": ["english"]}}, r"evaluation\.track.*english"),
        ({"finetune": [{"text": "latin"}]}, r"finetune\[0\]\.text.*latin"),
        ({"finetune": [{"text": "a", "starts": ["scrath"]}], "evaluation": {"texts": {"a": "a"}}}, "starts.*scrath"),
        ({"finetune": [{"text": "a", "learning_rates": []}], "evaluation": {"texts": {"a": "a"}}}, "learning_rates"),
        ({"variants": {"a": {"pretrain": {"token": 1}}}}, r"variants\.a: pretrain\.token"),
        ({"variants": {"a": {"evaluation": {"tasks": ["copi"]}}}}, r"variants\.a: evaluation\.tasks.*copi"),
        ({"variants": {"a": 5}}, r"variants\.a: 5"),
        ([], "table"),
    ):
        file.write_text(json.dumps(wrong))
        with pytest.raises(config.ConfigError, match=told):
            config.load(file)


def test_paths_are_relative_to_the_configuration(tmp_path: Path) -> None:
    """Those of variants too; a preset's name and a recipe written as JSON text are no paths."""
    file = tmp_path / "study.json"
    table: dict[str, Any] = {
        "pretrain": {"recipe": "recipes/own.json"},
        "evaluation": {"texts": {"english": "english.txt"}},
        "variants": {
            "same": {},
            "other": {"pretrain": {"recipe": "other.json"}, "evaluation": {"texts": {"german": "german.txt"}}},
            "dumped": {"pretrain": {"dump": "dumps/up"}},
            "preset": {"pretrain": {"recipe": "uniform"}},
        },
    }
    file.write_text(json.dumps(table))
    arms = config.arms(config.load(file))
    assert {name: arm.pretrain.recipe for name, arm in arms.items()} == {
        "same": str(tmp_path / "recipes/own.json"),
        "other": str(tmp_path / "other.json"),
        "dumped": str(tmp_path / "recipes/own.json"),
        "preset": "uniform",
    }
    assert arms["same"].evaluation.texts == {"english": str(tmp_path / "english.txt")}
    assert arms["other"].evaluation.texts == {"german": str(tmp_path / "german.txt")}
    assert arms["dumped"].pretrain.dump == str(tmp_path / "dumps/up")


def test_missing_files_are_told_before_anything_runs(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    """Those of the second variant too, before a server is asked or the first trains."""
    file = tmp_path / "study.json"
    for key, changes in (
        ("evaluation.texts.english", {"evaluation": {"texts": {"english": "none.txt"}}}),
        ("pretrain.recipe", {"pretrain": {"recipe": "none.json"}}),
        ("pretrain.dump", {"pretrain": {"dump": "none"}}),
    ):
        file.write_text(json.dumps({"binary": "no-such-binary", "variants": {"first": {}, "second": changes}}))
        assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 1
        told = capsys.readouterr().err
        assert f"{key} is {tmp_path / 'none'}" in told


def test_a_sweep_of_dumps_alone_starts_no_server(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """And one with a variant that is served does, whatever the base says."""
    (tmp_path / "dump").mkdir()
    file = tmp_path / "study.json"
    asked: list[str | None] = []
    monkeypatch.setattr(data, "server", lambda study: contextlib.nullcontext("served"))
    monkeypatch.setattr(sweep, "run", lambda study, address, out: asked.append(address))
    monkeypatch.setattr(report, "write", lambda out, title: None)
    base, dumped, served = {}, {"pretrain": {"dump": "dump"}}, {"pretrain": {"dump": None}}
    for whole in ({**base, "variants": {"a": dumped}}, {**dumped, "variants": {"a": {}, "b": served}}):
        file.write_text(json.dumps(whole))
        assert cli.main(["sweep", str(file), "--out", str(tmp_path / "out")]) == 0
    assert asked == [None, "served"]


def study(address: str, **changes: object) -> config.Study:
    whole = config.Study(
        server=address,
        device="cpu",
        threads=1,
        model=small(),
        pretrain=config.Pretrain(tokens=20 * 16 * 32, batch_size=16, log_every=5, evaluations=2, checkpoints=4),
        evaluation=config.Evaluation(sets=["dyck", "rep-3"], windows=20, tasks=["copy"]),
    )
    return dataclasses.replace(whole, **changes)  # type: ignore[arg-type]


def forbid_training(monkeypatch: pytest.MonkeyPatch) -> None:
    def trains(*_: object) -> None:
        raise AssertionError("trains what is finished")

    monkeypatch.setattr(Trainer, "step", trains)


def interrupt(monkeypatch: pytest.MonkeyPatch, run: Callable[[], object]) -> None:
    """`run`, stopped before its 13th step."""
    step = Trainer.step

    def breaks(trainer: Trainer, tokens: torch.Tensor) -> float:
        if trainer.done == 12:
            raise KeyboardInterrupt
        return step(trainer, tokens)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(Trainer, "step", breaks)
        run()


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


def dump(folder: Path, seed: int = 0) -> None:
    """A dump of the 320 sequences that `study` reads, in place of what is there."""
    shutil.rmtree(folder, ignore_errors=True)
    command = [binary(), "dump", "--recipe", "up", "--seed", str(seed), "--sequences", "320", "--length", "32"]
    subprocess.run([*command, "--format", "bin", "--out", str(folder)], check=True, capture_output=True)


def test_pretraining_from_a_dump(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dump(tmp_path / "dump")
    served = pretrain.run(study(address), address, tmp_path / "served")
    options = dataclasses.replace(study(address).pretrain, dump=str(tmp_path / "dump"))
    dumped = pretrain.run(study(address, pretrain=options), None, tmp_path / "dumped")
    assert dumped["curve"] == served["curve"]
    assert pretrain.synthetic_flops(served) == served["generation_flops"] + served["training_flops"]
    assert dumped["generation_flops"] is None  # a dump does not say what it cost
    assert pretrain.synthetic_flops(dumped) is None
    forbid_training(monkeypatch)
    assert pretrain.run(study(address, pretrain=options), None, tmp_path / "served") == served  # the same stream


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


def with_text(address: str, file: Path, **changes: Any) -> config.Study:
    """A study of one small text, finetuned on."""
    evaluation = dataclasses.replace(study(address).evaluation, texts={"own": str(file)})
    stage = config.Finetune(
        text="own", tokens=8 * 16 * 32, batch_size=16, learning_rates=[0.01], evaluations=2, validation_windows=10
    )
    return study(address, evaluation=evaluation, finetune=[stage], **changes)


def forget_texts() -> None:
    """As in another process."""
    evalsets.read_text.cache_clear()
    evalsets.text_sha256.cache_clear()
    zeroshot._windows.cache_clear()
    zeroshot.baselines.cache_clear()


def test_texts_count_by_content(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A text that is replaced is another; one that is moved is the same."""
    file, moved, out = tmp_path / "text", tmp_path / "moved", tmp_path / "out"

    def results() -> dict[str, Any]:
        return {str(path.relative_to(out)): json.loads(path.read_text()) for path in sorted(out.glob("**/*.json"))}

    file.write_bytes(b"ababab " * 1000)
    sweep.run(with_text(address, file), address, out)
    first = results()
    assert len(first) == 3  # pretraining, finetuning, scratch
    file.write_bytes(b"uvwxyz " * 1000)
    forget_texts()
    sweep.run(with_text(address, file), address, out)
    second = results()
    assert len(second) == 4  # scratch of each text
    changed = [name for name in first if second[name] != first[name]]
    assert changed == ["study/seed-0/finetune-own.json", "study/seed-0/pretrain.json"]
    name = changed[0]
    assert second[name]["starts"]["scratch"]["curve"] != first[name]["starts"]["scratch"]["curve"]
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
    """Also where the weights lie alone, without the result of their pretraining."""
    file, weights = tmp_path / "text", tmp_path / "model.pt"
    file.write_bytes(b"ababab " * 1000)
    each = with_text(address, file)
    stage = dataclasses.replace(each.finetune[0], starts=["pretrained"])
    found = []
    for seed in (1, 2):
        training.save(weights, {"model": Transformer(small(), seed).state_dict(), "shape": config.plain(small())})
        found.append(finetune.run(each, stage, weights, tmp_path / "out", None))
    assert found[0]["starts"]["pretrained"]["curve"] != found[1]["starts"]["pretrained"]["curve"]
    assert found[1]["synthetic_flops"] is None


def test_structure_tells_structure_from_noise(address: str) -> None:
    size = structure.Size(tokens=30 * 16 * 32, width=32, depth=1, length=32, batch_size=16, learning_rate=0.01)
    found = {
        recipe: structure.run(address, recipe, size=size)["structure_bits_per_token"]
        for recipe in ("networks", "uniform")
    }
    assert found["networks"] > 0.1
    assert abs(found["uniform"]) < 0.05


def test_structure_of_several_recipes_in_one_file(address: str, tmp_path: Path) -> None:
    file = tmp_path / "structure.json"
    recipes = ["--recipe", "up", "--recipe", "uniform"]
    assert cli.main(["structure", *recipes, "--tokens", "17e3", "--server", address, "--out", str(file)]) == 0
    found = json.loads(file.read_text())
    assert [(each["recipe"], each["tokens"]) for each in found] == [("up", 16384), ("uniform", 16384)]
    assert len({each["stream"]["fingerprint"] for each in found}) == 2


def test_sweep_and_report(address: str, tmp_path: Path) -> None:
    file, out = str(EXAMPLES / "smoke.json"), tmp_path / "out"
    assert cli.main(["sweep", file, "--out", str(out), "--server", address]) == 0
    page = (out / "report.md").read_text()
    expected = (
        "| noise |",
        "track.png",
        "dyck 0.31",
        "copy 0.95",
        "| up, fresh |",
        "best context-Markov",
        "ppm",
        "Finetuning on python",
        "±",
        "width.png",
    )
    assert [text for text in expected if text not in page] == []
    assert "data:image/png" in (out / "report.html").read_text()
    result = json.loads((out / "up" / "seed-1" / "finetune-python.json").read_text())
    assert set(result["starts"]) == {"scratch", "pretrained", "fresh"}
    assert result["starts"]["scratch"]["final_bits"] < 6
    other = json.loads((out / "noise" / "seed-1" / "finetune-python.json").read_text())
    assert other["starts"]["scratch"] == result["starts"]["scratch"]
    numbers = json.loads((out / "results.json").read_text())
    assert {(run["variant"], run["seed"]) for run in numbers["runs"]} == {
        (variant, seed) for variant in ("up", "noise", "wide") for seed in (0, 1)
    }
    assert sum(entry["variant"] == "scratch" for entry in numbers["finetuning"]) == 4  # two widths, two seeds
    assert str(tmp_path) not in json.dumps(numbers)
    model = str(out / "up" / "seed-0" / "model.pt")
    assert cli.main(["zero-shot", file, "--model", model, "--out", str(tmp_path / "zero.json")]) == 0
    evaluated = json.loads((tmp_path / "zero.json").read_text())
    first = json.loads((out / "up" / "seed-0" / "pretrain.json").read_text())["evaluations"][-1]
    assert evaluated["sets"]["dyck"]["bits_half"] == pytest.approx(first["sets"]["dyck"]["bits_half"], abs=1e-5)


def test_report_of_dumps_and_of_variants_that_differ(address: str, tmp_path: Path) -> None:
    """What a dump cost is left open, scratch of each architecture has a row, and so has each variant's own set."""
    file = tmp_path / "text"
    file.write_bytes(b"ababab " * 1000)
    dump(tmp_path / "dump")
    variants = {
        "served": {},
        "dumped": {"pretrain": {"dump": str(tmp_path / "dump")}, "model": {"tied": True}},
        "other": {"evaluation": {"sets": ["rep-5"], "tasks": ["sum"]}},
    }
    each = with_text(address, file, variants=variants)
    sweep.run(each, address, tmp_path / "out")
    page = report.write(tmp_path / "out", "study").read_text()
    rows = [row.strip("| ").split(" | ") for row in page.splitlines() if row.startswith("|")]
    assert rows[0][-1] == "generation FLOPs"
    assert [(row[0], row[-1]) for row in rows[2:5]] == [("dumped", "-"), ("other", "0"), ("served", "0")]
    assert "not known (-) where a dump was read" in page
    assert [row[-1] for row in rows if row[0] == "dumped, pretrained"] == ["-"]
    assert [row[0] for row in rows if row[0].startswith("scratch")] == ["scratch, 32 x 1, tied", "scratch, 32 x 1"]
    assert "| variant | own | dyck | rep-3 | rep-5 |" in page
    assert "| variant | copy | sum |" in page


def test_report_of_a_folder_that_pretrain_wrote(address: str, tmp_path: Path) -> None:
    pretrain.run(study(address), address, tmp_path / "alone")
    assert cli.main(["report", str(tmp_path / "alone")]) == 0
    assert "| alone | up |" in (tmp_path / "alone" / "report.md").read_text()
    assert list(report.collect(tmp_path)[0]) == ["alone"]  # of several such folders, each is a variant


def test_recipe_files_are_named_without_their_folder(tmp_path: Path) -> None:
    assert labels.recipe_name(str(tmp_path / "own.json")) == "own"
    assert labels.recipe_name("uniform") == "uniform"
    assert labels.recipe_name({"families": []}) == labels.recipe_name('{"families": []}') == "own recipe"


def test_example_configurations_load() -> None:
    for file in sorted([*EXAMPLES.glob("*.json"), *STUDIES.glob("*.json")]):
        config.load(file)


def test_study_starts_a_server_of_its_own(tmp_path: Path) -> None:
    networks = config.Pretrain(recipe="networks", batch_size=16)
    with (
        data.server(config.Study(binary=binary())) as address,
        data.stream(study(address, pretrain=networks), address, 0, 2) as stream,
    ):
        assert len(list(stream)) == 2
        assert stream.info["flops_per_token"] > 0


def test_command_says_what_is_wrong(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert cli.main(["report", str(tmp_path)]) == 1
    assert "pretrain.json" in capsys.readouterr().err
    assert cli.main(["structure", "--recipe", "up", "--binary", "no-such-binary"]) == 1
    assert "no-such-binary" in capsys.readouterr().err
    assert cli.main(["markov", "--windows", "50", "--text", f"this={__file__}"]) == 0
    assert "\nthis " in capsys.readouterr().out
