"""Texts as byte pairs, and finetuning on them."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
from study_helpers import small, with_text

from iterand_study import checks, config, data, finetune, labels, pretrain


def test_byte_pairs_are_those_of_the_training_part(tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"the cat sat on the mat. " * 80 + b"zebra " * 80)
    text = data.Text.read(file, [0.8, 0.1], 260)
    length = len(file.read_bytes())
    assert max(part.max() for part in (text.train, text.validation, text.test)) < 260
    assert len(text.train) < 0.8 * length  # pairs of it are tokens
    assert len(text.test) == length - int(length * 0.9)  # of these words the training part has no pair


def test_finetuning_on_byte_pairs(address: str, tmp_path: Path) -> None:
    file = tmp_path / "text"
    file.write_bytes(b"".join(f"{number * number} is the square of {number}. ".encode() for number in range(2000)))
    each = with_text(address, file, model=small(vocab_size=300))
    stage = dataclasses.replace(each.finetune[0], vocabulary=300, starts=["scratch", "fresh"])
    each = dataclasses.replace(each, finetune=[stage])
    pretrain.run(each, address, tmp_path / "out")
    found = finetune.run(each, stage, tmp_path / "out" / "model.pt", tmp_path / "out", None)
    assert found["starts"]["fresh"]["elsewhere"]["sets"].keys() == set(each.evaluation.sets)
    assert found["starts"]["scratch"]["trained"]["vocabulary"] == 300
    assert labels.scratch_settings(found)["vocabulary"] == 300
    assert "vocabulary" not in labels.scratch_settings({**found, "stage": {**found["stage"], "vocabulary": 0}})
    with pytest.raises(
        config.ConfigError, match=r"finetune\[0\].vocabulary is 301; it must be 0, for bytes, or from 257"
    ):
        checks.check(dataclasses.replace(each, finetune=[dataclasses.replace(stage, vocabulary=301)]))
