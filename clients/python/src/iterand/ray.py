"""Streams for Ray Data: sequences made by the tasks of a Ray cluster.

    dataset = iterand.ray.read("up", length=512, count=10_000_000)
    dataset.write_parquet("noise/")  # or dataset.iter_batches(...), or a Ray Train job

Nothing is made before the data set is consumed. Each read task makes a range of whole segments with the engine of its
own process, from (recipe, seed, index) alone. So a task that Ray repeats, on any machine, gives the same rows.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from iterand import _extras, api, errors
from iterand._batch import Batch
from iterand._requests import RecipeLike, check_range, check_spec, recipe_text

try:
    import pyarrow as pa
    import ray
    from ray.data import Datasource, ReadTask
    from ray.data.block import BlockMetadata
except ImportError as error:
    raise _extras.missing("iterand.ray", "ray[data]", "ray", error) from error

if TYPE_CHECKING:
    from iterand._description import StreamInfo

__all__ = ["StreamDatasource", "read"]

# Bytes of a block where Ray sets no limit.
_BLOCK_BYTES = 128 << 20


def read(
    recipe: RecipeLike = "up",
    *,
    count: int,
    seed: int = 0,
    length: int | None = None,
    start: int = 0,
    loss_mask: bool = False,
    expected_fingerprint: bytes | None = None,
    num_cpus: float = 1,
    **options: Any,
) -> ray.data.Dataset:
    """The sequences `start` to `start + count - 1` of a stream, as a `ray.data.Dataset` with the columns

        index      int64: the sequence's index in the stream
        tokens     a tensor of `length` tokens, of uint8, uint16 or uint32, whichever fits the vocabulary
        loss_mask  a tensor of `length` numbers of uint8, 1 where a token is to be predicted and else 0; if the stream
                   has loss masks

    Rows may come in any order, as of every Ray data set, unless its options preserve it: `index` says which is which.
    Parquet files have the tensors as fixed-size lists.

    num_cpus: cores that Ray reserves for each read task, and that the task uses.
    options: further ones of `ray.data.read_datasource`, such as `concurrency` and `override_num_blocks`.
    The other arguments are those of `iterand.stream`. Errors: as `iterand.stream`; of a task, FingerprintMismatch if
    the machines have different engine versions.

    >>> import iterand.ray
    >>> iterand.ray.read("up", length=128, count=1000).count()
    1000
    """
    if isinstance(num_cpus, bool) or not isinstance(num_cpus, int | float) or not num_cpus > 0:
        raise errors.InvalidArgument(f"num_cpus is {num_cpus!r}; it must be a number above 0")
    source = StreamDatasource(
        recipe,
        count=count,
        seed=seed,
        length=length,
        start=start,
        loss_mask=loss_mask,
        expected_fingerprint=expected_fingerprint,
        threads=max(1, int(num_cpus)),
    )
    dataset: ray.data.Dataset = ray.data.read_datasource(source, num_cpus=num_cpus, **options)
    return dataset


class StreamDatasource(Datasource):
    """A range of a stream as a `ray.data.Datasource`. The arguments are those of `read`.

    threads: cores that each read task uses.

    >>> from iterand.ray import StreamDatasource
    >>> source = StreamDatasource("up", length=128, count=1_000_000)
    >>> len(source.get_read_tasks(parallelism=4)), source.estimate_inmemory_data_size()
    (4, 136000000)
    """

    def __init__(
        self,
        recipe: RecipeLike = "up",
        *,
        count: int,
        seed: int = 0,
        length: int | None = None,
        start: int = 0,
        loss_mask: bool = False,
        expected_fingerprint: bytes | None = None,
        threads: int = 1,
    ) -> None:
        super().__init__()
        check_spec(seed, length, expected_fingerprint, loss_mask)
        check_range("count", count, 0, 2**63)
        check_range("start", start, 0, 2**63)
        check_range("threads", threads, 1, 4096)
        if start + count > 2**63:
            raise errors.InvalidArgument(
                f"start is {start} and count {count}: the last index would be {start + count - 1}; it must be below "
                "2^63, which the column `index` holds"
            )
        preset, text = recipe_text(recipe)
        self._stream: dict[str, Any] = {
            "recipe": preset if text is None else text,
            "seed": int(seed),
            "length": None if length is None else int(length),
            "loss_mask": bool(loss_mask),
            "server": False,
        }
        with api.stream(**self._stream, expected_fingerprint=expected_fingerprint, count=0) as stream:
            self._stream["expected_fingerprint"] = stream.fingerprint
        info = api.describe(
            **{name: self._stream[name] for name in ("recipe", "seed", "length", "loss_mask", "server")}
        )
        assert info.stream is not None
        self._info: StreamInfo = info.stream
        self._start, self._end = int(start), int(start) + int(count)
        self._threads = int(threads)

    def get_name(self) -> str:
        return "Iterand"

    def estimate_inmemory_data_size(self) -> int:
        return (self._end - self._start) * self._row_bytes

    @property
    def _row_bytes(self) -> int:
        masks = self._info.length if self._info.recipe.get("loss_mask") else 0
        return 8 + self._info.length * np.dtype(self._info.dtype).itemsize + masks

    def get_read_tasks(
        self, parallelism: int, per_task_row_limit: int | None = None, data_context: Any = None, **_: Any
    ) -> list[ReadTask]:
        """Up to `parallelism` tasks, which share the segments evenly."""
        most = None if data_context is None else data_context.target_max_block_size
        rows = max(1, (most or _BLOCK_BYTES) // self._row_bytes)
        schema = _table(self._none(), 0).schema
        tasks = []
        for first, end in self._ranges(max(1, parallelism)):
            size = (end - first) * self._row_bytes
            metadata = BlockMetadata(num_rows=end - first, size_bytes=size, input_files=None, exec_stats=None)
            make = _Range(self._stream, first, end - first, min(rows, end - first), self._threads)
            tasks.append(ReadTask(make, metadata, schema=schema, per_task_row_limit=per_task_row_limit))
        return tasks

    def _ranges(self, parallelism: int) -> Iterator[tuple[int, int]]:
        """Ranges of indices that part only between stripes, so that no two tasks make the same segment."""
        recipe = self._info.recipe
        if recipe.get("pool", {}).get("endless", False):
            parallelism = 1  # to reach an index of a pool, all before it are made
        stripe = self._info.lanes * int(recipe["segment_sequences"])
        first, last = self._start // stripe, -(-self._end // stripe)
        parts = min(parallelism, last - first)
        for part in range(parts):
            low = first + (last - first) * part // parts
            high = first + (last - first) * (part + 1) // parts
            yield max(self._start, low * stripe), min(self._end, high * stripe)

    def _none(self) -> Batch:
        with api.stream(**self._stream, count=0) as stream:
            return stream.read_batch([])


class _Range:
    """What a read task does: makes `count` sequences from `first` on, in tables of up to `rows`."""

    def __init__(self, stream: dict[str, Any], first: int, count: int, rows: int, threads: int) -> None:
        self._stream = stream
        self._first, self._count, self._rows = first, count, rows
        self._threads = threads

    def __call__(self) -> Iterator[pa.Table]:
        api.set_threads(self._threads)
        with api.stream(**self._stream, start=self._first, count=self._count, batch_size=self._rows) as stream:
            for batch in stream.batches():
                yield _table(batch, batch.first_index)


def _table(batch: Batch, first: int) -> pa.Table:
    columns = {
        "index": pa.array(np.arange(first, first + batch.rows, dtype=np.int64)),
        "tokens": _tensors(batch.tokens),
    }
    if batch.loss_mask is not None:
        columns["loss_mask"] = _tensors(batch.loss_mask.view(np.uint8))  # Arrow has no tensors of booleans
    return pa.table(columns)


def _tensors(rows: npt.NDArray[Any]) -> pa.Array:
    """One tensor per row."""
    kind = pa.fixed_shape_tensor(pa.from_numpy_dtype(rows.dtype), [rows.shape[1]])
    lists = pa.FixedSizeListArray.from_arrays(pa.array(rows.reshape(-1)), rows.shape[1])
    return pa.ExtensionArray.from_storage(kind, lists)
