"""Hugging Face datasets: a stream as an IterableDataset, with a state that resumes at once."""

import itertools

from datasets.distributed import split_dataset_by_node

from iterand.hf import iterable_dataset

if __name__ == "__main__":
    dataset = iterable_dataset("up", length=128)
    examples = iter(dataset)
    for _ in range(100):
        next(examples)
    state = dataset.state_dict()
    expected = next(examples)["input_ids"]

    resumed = iterable_dataset("up", length=128)
    resumed.load_state_dict(state)
    assert (next(iter(resumed))["input_ids"] == expected).all()

    text = dataset.map(lambda example: {"text": bytes(example["input_ids"].tolist()).hex()})
    print(next(iter(text))["text"][:40])

    ranks = [split_dataset_by_node(dataset, rank=rank, world_size=2) for rank in range(2)]
    print([len(list(itertools.islice(rank, 10))) for rank in ranks])
