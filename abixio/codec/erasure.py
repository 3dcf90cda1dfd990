"""Shards from data and lost shards from those that are left: the code of `abixio.codec.matrix` applied to buffers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from abixio._gf256 import multiply
from abixio.codec.matrix import check, decoding_matrix, parity_matrix
from abixio.message import Buffer

WritableBuffer = bytearray | memoryview


def encode(data: Buffer, k: int, m: int) -> list[bytes]:
    """k + m shards of ceil(len(data) / k) bytes: the data cut in k pieces, the end padded with zeros, and m of parity.

    Copies the data: the stripe pipeline calls `parity_into` on slices of its buffer instead.
    """
    check(k, m)
    whole = bytes(data)
    size = -(-len(whole) // k)
    whole = whole.ljust(k * size, b"\0")
    pieces = [whole[i * size : (i + 1) * size] for i in range(k)]
    parity = [bytearray(size) for _ in range(m)]
    parity_into(pieces, parity)
    return pieces + [bytes(shard) for shard in parity]


def parity_into(sources: Sequence[Buffer], outputs: Sequence[WritableBuffer]) -> None:
    """Write the parity of k = len(sources) data shards into m = len(outputs) buffers; all of one length, in bytes.

    No output may overlap a source or another output; what it held does not matter. One pass over the data, GIL dropped.
    ValueError for shapes that do not fit.
    """
    multiply(parity_matrix(len(sources), len(outputs)), sources, outputs)


def reconstruct(shards: Sequence[Buffer | None], k: int, m: int) -> list[bytes]:
    """All k + m shards, the Nones filled in. ValueError when fewer than k are there or their lengths differ."""
    present = _present(shards, k, m)
    first = shards[present[0]]
    assert first is not None
    made = {i: bytearray(len(first)) for i, shard in enumerate(shards) if shard is None}
    reconstruct_into(shards, k, m, made)
    return [bytes(made[i]) if shard is None else bytes(shard) for i, shard in enumerate(shards)]


def reconstruct_into(shards: Sequence[Buffer | None], k: int, m: int, outputs: Mapping[int, WritableBuffer]) -> None:
    """Write the shards named in `outputs` into its buffers, made of the first k shards that are not None.

    Only what is named is computed, so a read that needs one lost data shard pays for one. A named shard must be missing
    (None); others may be missing too. Buffers as in `parity_into`.
    """
    present = _present(shards, k, m)
    wanted = tuple(outputs)
    for index in wanted:
        if not 0 <= index < k + m or shards[index] is not None:
            raise ValueError(f"shard {index} is not a missing one")
    sources = [shard for shard in (shards[i] for i in present) if shard is not None]
    multiply(decoding_matrix(k, m, present, wanted), sources, list(outputs.values()))


def _present(shards: Sequence[Buffer | None], k: int, m: int) -> tuple[int, ...]:
    """The first k shards that are there."""
    check(k, m)
    if len(shards) != k + m:
        raise ValueError(f"{len(shards)} shards, not {k} + {m}")
    present = [i for i, shard in enumerate(shards) if shard is not None]
    if len(present) < k:
        raise ValueError(f"{len(present)} shards are there, {k} are needed")
    return tuple(present[:k])
