"""Erasure and checksum arithmetic over buffers: synchronous, no files, no event loop."""

from abixio._gf256 import kernel
from abixio.codec.erasure import encode, parity_into, reconstruct, reconstruct_into

__all__ = ["encode", "kernel", "parity_into", "reconstruct", "reconstruct_into"]
