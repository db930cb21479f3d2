"""Byte pairs: a text's tokens as users' models have them. Needs the package tokenizers."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from iterand_study import evalsets


def encode(parts: list[evalsets.Bytes], vocabulary: int) -> list[npt.NDArray[Any]]:
    """Parts of a text as tokens (uint32) below `vocabulary`, which the first part determines. Pairs do not reach across
    words. Bytes that are no UTF-8 become the replacement character."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    texts = [part.tobytes().decode("utf-8", "replace") for part in parts]
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(vocab_size=vocabulary, initial_alphabet=alphabet, show_progress=False)
    tokenizer.train_from_iterator(texts[0].splitlines(keepends=True), trainer)
    return [np.array(tokenizer.encode(text).ids, np.uint32) for text in texts]
