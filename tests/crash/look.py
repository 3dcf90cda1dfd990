"""What clients can see of a pool, compared with itself."""

from __future__ import annotations

from hashlib import md5
from typing import Final

from abixio.errors import IsDeleteMarker, NoSuchBucket, NoSuchKey
from abixio.store.store import Store
from abixio.store.types import Bucket, ObjectInfo
from tests.crash.histories import MARKER, shown
from tests.crash.model import Model, Thing, Value
from tests.crash.run import content

OF_BUCKETS: Final = ("object", "m", "tag", "upload", "note", "setting", "history", "versioning")
"""Things that are gone with their bucket, its name in second place."""


async def observe(store: Store, model: Model) -> tuple[dict[Thing, Value], list[str]]:
    """All that clients can see of the things that the model knows, and whatever of it contradicts itself."""
    seen: dict[Thing, Value] = {}
    wrong: list[str] = []
    buckets = {bucket.name: bucket for bucket in await store.buckets()}
    for name in sorted({thing[1] for thing in model.cells if thing[0] == "bucket"} | buckets.keys()):
        seen["bucket", name] = "there" if name in buckets else None
        try:
            await store.bucket(name)
        except NoSuchBucket:
            if name in buckets:
                wrong.append(f"bucket {name} is listed and not there")
        if name in buckets:
            versions = any(thing[0] == "history" and thing[1] == name for thing in model.cells)
            wrong += await (_histories if versions else _objects)(store, name, model, seen)
            wrong += await _uploads(store, name, model, seen)
            await _settings(store, name, model, seen)
        else:
            seen |= {thing: None for thing in model.cells if thing[0] in OF_BUCKETS and thing[1] == name}
    return seen, wrong


async def _objects(store: Store, name: str, model: Model, seen: dict[Thing, Value]) -> list[str]:
    wrong = []
    bucket = await store.bucket(name)
    page = await store.list(bucket, "", "", "", 1000)
    listed = {info.key: info for info in page.items}
    known = {thing[2] for thing in model.cells if thing[0] == "object" and thing[1] == name}
    for key in sorted(listed.keys() | known):
        try:
            reader = await store.open(bucket, key)
        except NoSuchKey:
            seen["object", name, key] = seen["m", name, key] = seen["tag", name, key] = None
            if key in listed:
                wrong.append(f"{key} is listed and not there")
            continue
        try:
            data = b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)])
        finally:
            await reader.aclose()
        value = reader.info.record.meta.get("value") or _recognized(data, model)
        seen["object", name, key] = value
        seen["tag", name, key] = reader.info.record.tags.get("tag")
        layout = reader.info.record.layout
        seen["m", name, key] = None if layout is None else str(layout.m)
        if data != content(value):
            wrong.append(f"{key} has the bytes of something else than {value}")
        if key not in listed:
            wrong.append(f"{key} is there and not listed")
        elif (listed[key].etag, listed[key].size) != (reader.info.etag, len(data)):
            wrong.append(f"{key} is listed as something else than it is")
    return wrong


def _recognized(data: bytes, model: Model) -> str:
    """Which of the values that the model knows these bytes are."""
    values = {v for thing, cell in model.cells.items() if thing[0] == "object" for v in cell.allowed(True) if v and ":" in v}
    values |= model.versions
    return next((value for value in sorted(values) if content(value) == data), "nothing:0")


async def _histories(store: Store, name: str, model: Model, seen: dict[Thing, Value]) -> list[str]:
    """Every version of every key, by its id; the newest also without one, and in the list of objects."""
    wrong: list[str] = []
    bucket = await store.bucket(name)
    page = await store.versions(bucket, "", "", ("", None), 1000)
    keys = sorted({info.key for info, _ in page.versions} | {t[2] for t in model.cells if t[0] == "history" and t[1] == name})
    listed = {info.key: info.version for info in (await store.list(bucket, "", "", "", 1000)).items}
    for key in keys:
        own = [(info, latest) for info, latest in page.versions if info.key == key]
        seen["history", name, key] = shown(tuple([await _version(store, bucket, info, model, wrong) for info, _ in own]))
        if [latest for _, latest in own] != [True, *(False for _ in own[1:])][: len(own)]:
            wrong.append(f"{key}: another version than the first is listed as the latest")
        latest_id = own[0][0].version if own and own[0][0].record.kind == "object" else None
        if listed.pop(key, None) != latest_id:
            wrong.append(f"{key} is not listed as its newest version says")
        try:
            now = (await store.head(bucket, key)).version
        except (NoSuchKey, IsDeleteMarker):
            now = None
        if now != latest_id:
            wrong.append(f"{key} is version {now}, and listed with {latest_id} as the latest")
    return [*wrong, *(f"{key} is listed without a version" for key in listed)]


async def _version(store: Store, bucket: Bucket, info: ObjectInfo, model: Model, wrong: list[str]) -> str:
    """As a history calls it."""
    null = "0" if info.version == "null" else ""
    if info.record.kind == "marker":
        return null + MARKER
    reader = await store.open(bucket, info.key, info.version)
    try:
        data = b"".join([bytes(piece) async for piece in reader.stream(0, reader.info.size)])
    finally:
        await reader.aclose()
    value = reader.info.record.meta.get("value") or _recognized(data, model)
    if data != content(value):
        wrong.append(f"{info.key}: version {info.version} has the bytes of something else than {value}")
    if reader.info.record != info.record:
        wrong.append(f"{info.key}: version {info.version} is listed as something else than it is")
    tag = reader.info.record.tags.get("tag") or reader.info.record.lock.get("hold")
    return null + value + (f" {tag}" if tag else "")


async def _settings(store: Store, name: str, model: Model, seen: dict[Thing, Value]) -> None:
    bucket = await store.bucket(name)
    seen["note", name] = bucket.settings.get("note")
    seen["versioning", name] = bucket.settings.get("versioning")
    documents = await store.configs(bucket, "")
    known = {thing[2] for thing in model.cells if thing[0] == "setting" and thing[1] == name}
    seen |= {("setting", name, document): documents.get(document) for document in known | documents.keys()}


async def _uploads(store: Store, name: str, model: Model, seen: dict[Thing, Value]) -> list[str]:
    wrong = []
    bucket = await store.bucket(name)
    uploads, _, _, _ = await store.uploads(bucket, "", "", ("", ""), 1000)
    labels = {id: label for label, id in model.ids.items()}
    nameless = [thing for thing in model.cells if thing[0] == "upload" and thing[1] == name and thing[3] not in model.ids]
    for thing in model.cells:
        if thing[0] == "upload" and thing[1] == name:
            seen[thing] = None
    for upload in uploads:
        label = labels.get(upload.id)
        if label is None:
            fitting = [thing for thing in nameless if thing[2] == upload.key and seen[thing] is None]
            if not fitting:
                wrong.append(f"an upload of {upload.key} is there that nobody began")
                continue
            label = fitting[0][3]
        seen["upload", name, upload.key, label] = "open"
        parts, _ = await store.parts(bucket, upload.key, upload.id, 0, 1000)
        sizes = {part.number: (part.size, part.etag) for part in parts}
        for thing in [thing for thing in model.cells if thing[0] == "part" and thing[1] == label]:
            cell, found = model.cells[thing], sizes.pop(int(thing[2]), None)
            seen[thing] = None if found is None else _part(found, cell.allowed(True))
        wrong += [f"part {number} of {label} is there and nobody put it" for number in sizes]
    return wrong


def _part(found: tuple[int, str], values: set[Value]) -> str:
    for value in values:
        if value is not None and found == (len(content(value)), md5(content(value), usedforsecurity=False).hexdigest()):
            return value
    return f"something of {found[0]} bytes"
