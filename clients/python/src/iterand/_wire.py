"""Reads a serialised `iterand.v1.Batch` without parsing it into a message.

Nearly all bytes of a batch are tokens, and protobuf's Python runtime would copy them twice. Walking over the handful of
fields before them costs a few microseconds. The arrays are the one copy, so that they may be written to.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from google.protobuf.message import DecodeError

from iterand._batch import Batch, LossMask, Parts, Provenance
from iterand.errors import ProtocolError
from iterand.v1 import noise_service_pb2

_DTYPES: dict[int, np.dtype[Any]] = {1: np.dtype("u1"), 2: np.dtype("<u2"), 3: np.dtype("<u4")}


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at  # as protobuf reads one that is too large
        shift += 7
    raise ProtocolError("batch has a number of more than 10 bytes")


def decode_batch(data: bytes) -> Batch:
    """The batch in a serialised message. Errors: ProtocolError if it is not one."""
    fields = [0] * 16  # by field number; proto3 leaves out zeros
    fingerprint = b""
    tokens_at = tokens_size = mask_at = mask_size = parts_at = parts_size = 0
    provenance: list[Provenance] = []
    at, end = 0, len(data)
    try:
        while at < end:
            tag, at = _varint(data, at)
            number, kind = tag >> 3, tag & 7
            if not 0 < number < 2**29:
                raise ProtocolError(f"batch has the field number {number}, which protobuf does not allow")
            if kind == 0:
                value, at = _varint(data, at)
                if number < 16:
                    fields[number] = value
            elif kind == 2:
                size, at = _varint(data, at)
                if at + size > end:
                    raise ProtocolError(f"batch is cut off: field {number} ends {at + size - end} bytes beyond it")
                if number == 15:
                    tokens_at, tokens_size = at, size
                elif number == 14:
                    mask_at, mask_size = at, size
                elif number == 8:
                    parts_at, parts_size = at, size
                elif number == 6:
                    fingerprint = data[at : at + size]
                elif number == 7:
                    row = noise_service_pb2.Provenance.FromString(data[at : at + size])
                    provenance.append(
                        Provenance(row.lane, row.segment, row.round, row.row, row.family, row.depth, row.part)
                    )
                at += size
            elif kind in (1, 5):
                at += 8 if kind == 1 else 4
                if at > end:
                    raise ProtocolError(f"batch is cut off: field {number} ends {at - end} bytes beyond it")
            else:
                raise ProtocolError(f"batch has a field of unknown wire type {kind}")
    except IndexError:
        raise ProtocolError("batch is cut off") from None
    except DecodeError as error:
        raise ProtocolError(f"batch has a provenance that cannot be read: {error}") from error
    first_index, stride, rows, length, dtype_number = fields[1:6]
    if max(rows, length) >= 2**32:
        raise ProtocolError(f"batch says {rows} x {length} tokens, which is too many")
    dtype = _DTYPES.get(dtype_number)
    if dtype is None:
        raise ProtocolError(f"batch has the unknown dtype {dtype_number}; this client may be older than the server")
    if rows * length * dtype.itemsize != tokens_size:
        raise ProtocolError(f"batch says {rows} x {length} tokens of {dtype}, but holds {tokens_size} bytes")
    # The payload's one copy: what gRPC delivered may not be written to, and wide tokens may start at an odd byte.
    flat = np.empty(rows * length, dtype)
    flat.view(np.uint8)[:] = np.frombuffer(data, np.uint8, tokens_size, tokens_at)
    loss_mask: LossMask | None = None
    if mask_size:
        if mask_size != rows * length:
            raise ProtocolError(f"batch says {rows} x {length} tokens, but its loss_mask has {mask_size} bytes")
        if np.frombuffer(data, np.uint8, mask_size, mask_at).max() > 1:
            raise ProtocolError("batch has a loss_mask with bytes other than 0 and 1")
        loss_mask = np.frombuffer(data, np.bool_, mask_size, mask_at).reshape(rows, length).copy()
    parts: Parts | None = None
    if parts_size:
        if parts_size != rows:
            raise ProtocolError(f"batch says {rows} rows, but has {parts_size} parts")
        parts = np.frombuffer(data, np.uint8, parts_size, parts_at).copy()
    tokens = flat.reshape(rows, length)
    return Batch(tokens, first_index, stride or 1, fingerprint, tuple(provenance), loss_mask, parts)
