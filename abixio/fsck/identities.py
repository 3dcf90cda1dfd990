"""A volume.json that is gone or damaged, written anew from what the other members say: they name its slot and its id."""

from __future__ import annotations

from collections.abc import Collection

from abixio.codec.checksum import block_seed, check_blocks
from abixio.errors import CatalogCorrupt, VolumeError
from abixio.fsck.volumes import Damaged, Volumes
from abixio.store.record import unpack
from abixio.volume import identity, names, shardfile
from abixio.volume.catalog_check import Examiner
from abixio.volume.files import Files, volume_error
from abixio.volume.lock import VolumeLock


def restore_identities(volumes: Volumes) -> tuple[list[str], list[str]]:
    """Write what can be proven; what was done, and what could not be."""
    done, left = [], []
    for damaged in volumes.damaged:
        slot = _slot_of(volumes, damaged)
        if slot is None:
            left.append(f"{damaged.path}: neither its catalog nor a shard file proves which of the missing slots it was")
            continue
        lock = VolumeLock(volumes.files, damaged.path)
        try:
            identity.write(volumes.files, damaged.path, volumes.plan.identity_of(slot, volumes.plan.identity.epoch))
        finally:
            lock.release()
        done.append(f"{damaged.path}: volume.json is written anew: slot {slot}")
    return done, left


def _slot_of(volumes: Volumes, damaged: Damaged) -> int | None:
    """The missing slot that the directory held: by the id in its catalog, or by a shard that checks out there only."""
    try:
        own = _volume_of(volumes.files, damaged.path)
        for slot in volumes.missing:
            member = volumes.plan.identity.member(slot)
            if member is not None and member.volume == own:
                return slot
        # A catalog that names another volume was copied here, or the slot was given away: not to be guessed.
        return _slot_by_shards(volumes.files, damaged.path, volumes.missing) if own is None else None
    except OSError as error:
        raise volume_error(error, damaged.path) from error


def _volume_of(files: Files, path: str) -> str | None:
    catalog = names.catalog(path)
    if not files.exists(catalog):
        return None
    try:
        examiner = Examiner(catalog, files.exists(names.wal(path)))
    except VolumeError:
        return None
    try:
        return examiner.meta().get("volume")
    except VolumeError:
        return None
    finally:
        examiner.close()


def _slot_by_shards(files: Files, path: str, missing: Collection[int]) -> int | None:
    for directory in range(256):
        folder = names.shard_files(path, directory)
        for name in files.names(folder) if files.exists(folder) else []:
            write_id = names.write_id(name, directory)
            slot = None if write_id is None else _proven(files, path, write_id, missing)
            if slot is not None:
                return slot
    return None


def _proven(files: Files, path: str, write_id: bytes, missing: Collection[int]) -> int | None:
    """The slot that the checksum of the shard's first block was seeded with."""
    try:
        shard = shardfile.open_shard(files, names.shard(path, write_id), write_id)
    except VolumeError:
        return None
    try:
        numbers = [part.number for part in unpack(shard.record).parts if part.write_id == write_id]
        if not numbers or not len(shard.checksums):
            return None
        shard.populate(0, min(len(shard.view), shardfile.BLOCK))
        for slot in missing:
            if check_blocks(shard.view, shard.checksums, block_seed(write_id, numbers[0], slot), 0, 1) is None:
                return slot
        return None
    except (VolumeError, CatalogCorrupt):
        return None
    finally:
        shard.close()
