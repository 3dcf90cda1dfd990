"""A small S3 in memory: buckets, objects, conditions, ranges, copies, uploads and listings, as Amazon documents them.

The model test asks a server and this the same questions. Each method answers with a `Told`: the status, the code of the
error, and whatever else of the answer must agree.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from hashlib import md5
from typing import Any, NamedTuple

MIB = 1 << 20
LEAST_PART = 5 * MIB


class Told(NamedTuple):
    """An answer."""

    status: int
    code: str = ""
    more: Any = None


@dataclass(frozen=True)
class Obj:
    """An object."""

    body: bytes
    etag: str
    meta: Mapping[str, str]
    kind: str
    """Its Content-Type."""
    ftt: int
    upload: int = -1
    """The model's number of the upload that it was made from."""
    sizes: tuple[int, ...] = ()
    """Of its parts, by number in `numbers`."""
    numbers: tuple[int, ...] = ()


@dataclass
class Version:
    """One version of a key; without an object it is a delete marker."""

    obj: Obj | None
    id: str = ""
    """`null`, or what the server called it: empty until that is known."""


@dataclass
class Upload:
    """An open upload."""

    number: int
    key: str
    meta: Mapping[str, str]
    kind: str
    ftt: int
    parts: dict[int, tuple[bytes, str]] = field(default_factory=dict)
    """Number -> body and ETag."""


class Check(NamedTuple):
    """The conditional headers of one request; ETags without quotes."""

    match: str | None = None
    none_match: str | None = None
    modified_since: int | None = None
    """-1: long ago; +1: in the time of the object or later."""
    unmodified_since: int | None = None

    def failed(self, current: Obj) -> str:
        """The first condition that does not hold, by RFC 9110 13.2.2."""
        if self.match is not None:
            if self.match not in ("*", current.etag):
                return "match"
        elif self.unmodified_since == -1:
            return "unmodified since"
        if self.none_match is not None:
            if self.none_match in ("*", current.etag):
                return "none match"
        elif self.modified_since == 1:
            return "modified since"
        return ""

    def for_write(self, current: Obj | None) -> Told | None:
        """What a PUT is refused with."""
        if current is None:
            return Told(404, "NoSuchKey") if self.match is not None else None
        return Told(412, "PreconditionFailed") if self._replace(modified_since=None).failed(current) else None


@dataclass
class Bucket:
    ftt: int
    objects: dict[str, Obj] = field(default_factory=dict)
    uploads: dict[int, Upload] = field(default_factory=dict)
    versioning: str = ""
    history: dict[str, list[Version]] = field(default_factory=dict)
    """All versions of each key, newest first; `objects` are those that are current."""

    def add(self, key: str, made: Obj | None) -> None:
        """A new version, which in a bucket without versioning takes the place of what was there."""
        old = self.history.get(key, [])
        if self.versioning == "Enabled":
            self.history[key] = [Version(made), *old]
        elif self.versioning == "Suspended":
            self.history[key] = [Version(made, "null"), *(version for version in old if version.id != "null")]
        else:
            self.history[key] = [] if made is None else [Version(made, "null")]
        self.settle(key)

    def settle(self, key: str) -> None:
        """What is current."""
        newest = self.history[key][0].obj if self.history[key] else None
        if newest is None:
            self.objects.pop(key, None)
        else:
            self.objects[key] = newest
        if not self.history[key]:
            del self.history[key]


class Page(NamedTuple):
    """Of a listing."""

    keys: list[str]
    prefixes: list[str]
    truncated: bool


NO_BUCKET = Told(404, "NoSuchBucket")
NO_KEY = Told(404, "NoSuchKey")
NO_UPLOAD = Told(404, "NoSuchUpload")
FAILED = Told(412, "PreconditionFailed")


class Model:
    """All buckets of one account."""

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}

    # ---- buckets -----------------------------------------------------------------------------------------------------
    def create_bucket(self, name: str, ftt: int) -> Told:
        """Again, of one's own: a success that changes nothing, as in us-east-1."""
        self.buckets.setdefault(name, Bucket(ftt))
        return Told(200)

    def delete_bucket(self, name: str) -> Told:
        if name not in self.buckets:
            return NO_BUCKET
        if self.buckets[name].history:
            return Told(409, "BucketNotEmpty")
        del self.buckets[name]
        return Told(204)

    def get(self, bucket: str, key: str) -> Obj | None:
        found = self.buckets.get(bucket)
        return None if found is None else found.objects.get(key)

    # ---- objects -----------------------------------------------------------------------------------------------------
    def put(self, bucket: str, key: str, body: bytes, meta: Mapping[str, str], kind: str, ftt: int | None, check: Check) -> Told:
        if bucket not in self.buckets:
            return NO_BUCKET
        refused = check.for_write(self.get(bucket, key))
        if refused:
            return refused
        return self._store(bucket, key, Obj(body, md5(body).hexdigest(), meta, kind, self._ftt(bucket, ftt)))

    def read(self, bucket: str, key: str, check: Check, span: tuple[int | None, int | None] | None) -> Told:
        """`more`: the object and the bytes that are sent. `span`: first and last byte; (None, n): the last n."""
        if bucket not in self.buckets:
            return NO_BUCKET
        found = self.get(bucket, key)
        if found is None:
            return NO_KEY
        failed = check.failed(found)
        if failed in ("none match", "modified since"):
            return Told(304, "", (found, b""))
        if failed:
            return FAILED
        if span is None:
            return Told(200, "", (found, found.body))
        return self._ranged(found, *span)

    @staticmethod
    def _ranged(found: Obj, first: int | None, last: int | None) -> Told:
        size = len(found.body)
        if first is None:
            if not last or not size:
                return Told(416, "InvalidRange")
            return Told(206, "", (found, found.body[-last:]))
        if last is not None and last < first:
            return Told(200, "", (found, found.body))
        if first >= size:
            return Told(416, "InvalidRange")
        return Told(206, "", (found, found.body[first:] if last is None else found.body[first : last + 1]))

    def read_part(self, bucket: str, key: str, number: int) -> Told:
        """By partNumber."""
        if bucket not in self.buckets:
            return NO_BUCKET
        found = self.get(bucket, key)
        if found is None:
            return NO_KEY
        if found.upload < 0:
            if number > 1:
                return Told(416, "InvalidPartNumber")
            return Told(206 if found.body else 200, "", (found, found.body))
        if number not in found.numbers:
            return Told(416, "InvalidPartNumber")
        at = found.numbers.index(number)
        start = sum(found.sizes[:at])
        piece = found.body[start : start + found.sizes[at]]
        return Told(206 if piece else 200, "", (found, piece))

    def delete(self, bucket: str, key: str, match: str | None) -> Told:
        """Deleting what is not there succeeds, unless it has to be there."""
        if bucket not in self.buckets:
            return NO_BUCKET
        found = self.get(bucket, key)
        if found is None and match is not None:
            return Told(404, "NoSuchKey")
        if found is not None and match not in (None, "*", found.etag):
            return FAILED
        self.buckets[bucket].add(key, None)
        return Told(204)

    def delete_many(self, bucket: str, keys: Sequence[str]) -> Told:
        if bucket not in self.buckets:
            return NO_BUCKET
        for key in keys:
            self.buckets[bucket].add(key, None)
        return Told(200, "", sorted(keys))

    def copy(
        self, source: tuple[str, str], target: tuple[str, str], replaced: tuple[Mapping[str, str], str] | None, ftt: int | None,
        source_check: Check, check: Check,
    ) -> Told:
        """`replaced`: metadata and type of the copy with the directive REPLACE."""
        if target[0] not in self.buckets or source[0] not in self.buckets:
            return NO_BUCKET
        found = self.get(*source)
        if found is None:
            return NO_KEY
        if source_check.failed(found):
            return FAILED
        if source == target and replaced is None and (ftt is None or str(ftt) == found.meta.get("ec-ftt")):
            return Told(400, "InvalidRequest")
        refused = check.for_write(self.get(*target))
        if refused:
            return refused
        meta, kind = (found.meta, found.kind) if replaced is None else replaced
        if ftt is not None:
            meta = {**meta, "ec-ftt": str(ftt)}
        level = self._ftt(target[0], int(meta["ec-ftt"]) if "ec-ftt" in meta else None)
        etag = md5(found.body).hexdigest()
        return self._store(*target, Obj(found.body, etag, meta, kind, level))

    def _store(self, bucket: str, key: str, made: Obj) -> Told:
        self.buckets[bucket].add(key, made)
        return Told(200, "", made.etag)

    def _ftt(self, bucket: str, ftt: int | None) -> int:
        return self.buckets[bucket].ftt if ftt is None else ftt

    # ---- uploads -----------------------------------------------------------------------------------------------------
    def upload(self, bucket: str, number: int) -> Upload | None:
        found = self.buckets.get(bucket)
        return None if found is None else found.uploads.get(number)

    def create_upload(self, number: int, bucket: str, key: str, meta: Mapping[str, str], kind: str, ftt: int | None) -> Told:
        if bucket not in self.buckets:
            return NO_BUCKET
        self.buckets[bucket].uploads[number] = Upload(number, key, meta, kind, self._ftt(bucket, ftt))
        return Told(200)

    def put_part(self, bucket: str, upload: int, part: int, body: bytes, etag: str) -> Told:
        """The ETag of a large part is the server's business."""
        if bucket not in self.buckets:
            return NO_BUCKET
        found = self.upload(bucket, upload)
        if found is None:
            return NO_UPLOAD
        found.parts[part] = (body, etag)
        return Told(200)

    def abort(self, bucket: str, upload: int) -> Told:
        if bucket not in self.buckets:
            return NO_BUCKET
        if self.buckets[bucket].uploads.pop(upload, None) is None:
            return NO_UPLOAD
        return Told(204)

    def complete(self, bucket: str, key: str, upload: int, wanted: Sequence[tuple[int, str]], check: Check) -> Told:
        if bucket not in self.buckets:
            return NO_BUCKET
        current = self.get(bucket, key)
        for version in self.buckets[bucket].history.get(key, []):
            if version.obj is not None and version.obj.upload == upload:
                return Told(200, "", version.obj.etag)
        found = self.upload(bucket, upload)
        if found is None:
            return NO_UPLOAD
        refused = self._chosen(found, wanted) or check.for_write(current)
        if refused:
            return refused
        bodies = [found.parts[number][0] for number, _ in wanted]
        digests = b"".join(bytes.fromhex(etag[:32]) for _, etag in wanted)
        made = Obj(
            b"".join(bodies), f"{md5(digests).hexdigest()}-{len(wanted)}", found.meta, found.kind, found.ftt, upload,
            tuple(map(len, bodies)), tuple(number for number, _ in wanted),
        )
        del self.buckets[bucket].uploads[upload]
        return self._store(bucket, key, made)

    @staticmethod
    def _chosen(upload: Upload, wanted: Sequence[tuple[int, str]]) -> Told | None:
        numbers = [number for number, _ in wanted]
        if numbers != sorted(set(numbers)):
            return Told(400, "InvalidPartOrder")
        if any(number not in upload.parts or upload.parts[number][1] != etag for number, etag in wanted):
            return Told(400, "InvalidPart")
        if any(len(upload.parts[number][0]) < LEAST_PART for number in numbers[:-1]):
            return Told(400, "EntityTooSmall")
        return None

    # ---- listings ----------------------------------------------------------------------------------------------------
    def page(self, bucket: str, prefix: str, delimiter: str, after: str, limit: int) -> Page:
        """Keys and common prefixes greater than `after`, in the order of their bytes."""
        entries: list[tuple[bytes, bool]] = []
        for key in sorted(key.encode() for key in self.buckets[bucket].objects):
            if not key.startswith(prefix.encode()):
                continue
            cut = key.find(delimiter.encode(), len(prefix.encode())) if delimiter else -1
            entry = (key, False) if cut < 0 else (key[: cut + len(delimiter.encode())], True)
            covered = entry[1] and after.encode().startswith(entry[0])
            if entry[0] > after.encode() and not covered and entry not in entries[-1:]:
                entries.append(entry)
        shown = entries[:limit]
        return Page(
            [name.decode() for name, common in shown if not common], [name.decode() for name, common in shown if common],
            0 < limit < len(entries),
        )

    def rename(self, bucket: str, key: str, etag: str) -> None:
        """The ETag of a large object is the server's business."""
        found = self.buckets[bucket]
        found.history[key][0].obj = found.objects[key] = replace(found.objects[key], etag=etag)

    # ---- versions ----------------------------------------------------------------------------------------------------
    def set_versioning(self, bucket: str, state: str) -> Told:
        if bucket not in self.buckets:
            return NO_BUCKET
        self.buckets[bucket].versioning = state
        return Told(200)

    def name(self, bucket: str, key: str, id: str) -> None:
        """So is the id of a version."""
        if self.buckets[bucket].versioning:
            newest = self.buckets[bucket].history[key][0]
            assert newest.id in ("", id), (newest.id, id)
            newest.id = id

    def read_version(self, bucket: str, key: str, id: str) -> Told:
        """`more`: the object and all of its bytes."""
        version = self._version(bucket, key, id)
        if version is None:
            return Told(404, "NoSuchVersion")
        if version.obj is None:
            return Told(405, "MethodNotAllowed")
        return Told(200, "", (version.obj, version.obj.body))

    def delete_version(self, bucket: str, key: str, id: str) -> Told:
        version = self._version(bucket, key, id)
        if version is not None:
            self.buckets[bucket].history[key].remove(version)
            self.buckets[bucket].settle(key)
        return Told(204, "", version is not None and version.obj is None)

    def restore(self, bucket: str, key: str, id: str) -> Told:
        """A version copied onto its own key."""
        version = self._version(bucket, key, id)
        if version is None:
            return Told(404, "NoSuchVersion")
        if version.obj is None:
            return Told(400, "InvalidRequest")
        level = self._ftt(bucket, int(version.obj.meta["ec-ftt"]) if "ec-ftt" in version.obj.meta else None)
        found = version.obj
        return self._store(bucket, key, Obj(found.body, md5(found.body).hexdigest(), found.meta, found.kind, level))

    def _version(self, bucket: str, key: str, id: str) -> Version | None:
        history = self.buckets[bucket].history.get(key, [])
        return next((version for version in history if version.id == id), None)

    def versions(self, bucket: str, prefix: str) -> list[tuple[str, str, bool, bool, str]]:
        """(key, id, delete marker?, latest?, ETag) of all of them, in the order of a listing."""
        found = self.buckets[bucket].history
        return [
            (key, version.id, version.obj is None, at == 0, "" if version.obj is None else version.obj.etag)
            for key in sorted(found, key=str.encode) if key.startswith(prefix) for at, version in enumerate(found[key])
        ]
