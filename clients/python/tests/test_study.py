"""The study harness: definitions pinned by published figures, and a small study from end to end."""

from __future__ import annotations

import collections
import dataclasses
import json
import math
import random
import subprocess
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
    markov,
    pretrain,
    report,
    structure,
    sweep,
    tasks,
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
    assert width == pytest.approx(4.30 / math.sqrt(3), rel=0.01)


def test_configuration_errors_name_the_key(tmp_path: Path) -> None:
    for wrong, told in (
        ({"modell": {}}, "modell"),
        ({"model": {"width": "wide"}}, r"model\.width"),
        ({"pretrain": {"tokens": 1.5}}, r"pretrain\.tokens"),
        ({"finetune": [{"text": "latin"}]}, "latin"),
        ([], "table"),
    ):
        file = tmp_path / "study.json"
        file.write_text(json.dumps(wrong))
        with pytest.raises(config.ConfigError, match=told):
            config.load(file)
    with pytest.raises(config.ConfigError, match=r"variants\.a: pretrain\.token"):
        sweep.variant_study(config.Study(variants={"a": {"pretrain": {"token": 1}}}), "a", 0)


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


def test_interrupted_pretraining_goes_on_exactly(address: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = pretrain.run(study(address), address, tmp_path / "whole")
    assert whole["curve"][-1]["bits"] < whole["curve"][0]["bits"]
    step = Trainer.step

    def breaks(trainer: Trainer, tokens: torch.Tensor) -> float:
        if trainer.done == 12:
            raise KeyboardInterrupt
        return step(trainer, tokens)

    monkeypatch.setattr(Trainer, "step", breaks)
    with pytest.raises(KeyboardInterrupt):
        pretrain.run(study(address), address, tmp_path / "resumed")
    monkeypatch.setattr(Trainer, "step", step)
    resumed = pretrain.run(study(address), address, tmp_path / "resumed")
    assert resumed["curve"] == whole["curve"]
    assert resumed["evaluations"] == whole["evaluations"]
    assert pretrain.run(study(address), None, tmp_path / "whole") == whole  # at once: no server is asked


def test_pretraining_from_a_dump(address: str, tmp_path: Path) -> None:
    command = [
        binary(),
        "dump",
        "--recipe",
        "up",
        "--seed",
        "0",
        "--sequences",
        "320",
        "--length",
        "32",
        "--format",
        "bin",
    ]
    subprocess.run([*command, "--out", str(tmp_path / "dump")], check=True, capture_output=True)
    served = pretrain.run(study(address), address, tmp_path / "served")
    options = dataclasses.replace(study(address).pretrain, dump=str(tmp_path / "dump"))
    dumped = pretrain.run(study(address, pretrain=options), None, tmp_path / "dumped")
    assert dumped["curve"] == served["curve"]


def test_structure_tells_structure_from_noise_and_constants(address: str) -> None:
    options = config.Structure(tokens=30 * 16 * 32, width=32, depth=1, length=32, batch_size=16, learning_rate=0.01)
    found = {
        recipe: structure.run(study(address, structure=options, pretrain=config.Pretrain(recipe=recipe)), address)[
            "structure_bits_per_token"
        ]
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


def test_example_configurations_load() -> None:
    for file in sorted([*EXAMPLES.glob("*.json"), *STUDIES.glob("*.json")]):
        study = config.load(file)
        for name in study.variants:
            sweep.variant_study(study, name, 0)


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
