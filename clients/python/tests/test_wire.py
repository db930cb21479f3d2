"""The batch decoder against protobuf's own."""

from __future__ import annotations

import numpy as np
import pytest

from iterand import ProtocolError
from iterand._wire import decode_batch
from iterand.v1 import noise_service_pb2 as service


def message(kind: str = "<u2", **fields: object) -> service.Batch:
    tokens = np.arange(12, dtype=kind)
    number = {"u1": 1, "<u2": 2, "<u4": 3}[kind]
    plain = {"first_index": 2**63 + 5, "stride": 300, "rows": 3, "length": 4, "dtype": number}
    return service.Batch(**{**plain, "fingerprint": bytes(range(32)), "tokens": tokens.tobytes(), **fields})


@pytest.mark.parametrize("dtype", ["u1", "<u2", "<u4"])
def test_decodes_what_protobuf_writes(dtype: str) -> None:
    batch = decode_batch(message(dtype).SerializeToString())
    assert (batch.first_index, batch.stride, batch.fingerprint) == (2**63 + 5, 300, bytes(range(32)))
    assert batch.next_index == 2**63 + 5 + 3 * 300
    assert batch.tokens.dtype == np.dtype(dtype)
    assert batch.tokens.flags.aligned
    np.testing.assert_array_equal(batch.tokens, np.arange(12).reshape(3, 4))


def test_skips_fields_of_a_newer_server() -> None:
    unknown = b"\xa1\x01" + bytes(8) + b"\xa5\x01" + bytes(4) + b"\xa2\x01\x02hi" + b"\xa0\x01\x96\x01"
    batch = decode_batch(unknown + message().SerializeToString() + unknown)
    np.testing.assert_array_equal(batch.tokens, np.arange(12).reshape(3, 4))


def test_first_batch_of_a_stream_has_index_zero() -> None:
    batch = decode_batch(message(first_index=0, stride=1).SerializeToString())
    assert (batch.first_index, batch.stride) == (0, 1)


def test_mask() -> None:
    marks = [1, 0, 0, 1] * 3
    batch = decode_batch(message(loss_mask=bytes(marks)).SerializeToString())
    assert batch.loss_mask is not None
    np.testing.assert_array_equal(batch.loss_mask, np.array(marks, dtype=bool).reshape(3, 4))
    assert decode_batch(message().SerializeToString()).loss_mask is None


def test_parts() -> None:
    batch = decode_batch(message(parts=bytes([2, 0, 63])).SerializeToString())
    assert batch.parts is not None
    assert batch.parts.tolist() == [2, 0, 63]
    assert batch.parts.flags.writeable
    assert decode_batch(message().SerializeToString()).parts is None


@pytest.mark.parametrize(
    "fields", [{"rows": 4}, {"dtype": 0}, {"dtype": 9}, {"tokens": b"x"}, {"loss_mask": b"x"}, {"parts": b"\0\0"}]
)
def test_refuses_a_batch_that_contradicts_itself(fields: dict[str, object]) -> None:
    with pytest.raises(ProtocolError):
        decode_batch(message(**fields).SerializeToString())


def test_refuses_what_is_cut_off() -> None:
    data = message().SerializeToString()
    for size in range(1, len(data)):
        with pytest.raises(ProtocolError):
            decode_batch(data[:size])
