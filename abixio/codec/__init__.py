"""Erasure and checksum arithmetic over buffers: synchronous, no files, no event loop."""

from abixio._gf256 import kernel
from abixio._md5 import LANES, MD5, update_many
from abixio.codec.erasure import encode, parity_into, reconstruct, reconstruct_into

__all__ = ["LANES", "MD5", "encode", "kernel", "parity_into", "reconstruct", "reconstruct_into", "update_many"]
