"""A running server and a small S3 in memory are asked the same, with faults in between, and must agree: in statuses, codes,
bytes, metadata, listings.

One of the four volumes of an example is its weak one: it is taken away and brought back, and bits are flipped in its shard
files. Objects that can lose a volume must not show it; the others must say 503 and nothing else, while it is away.
"""

from __future__ import annotations

import itertools
import os
import random
import re
from bisect import bisect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from hashlib import md5
from typing import Any, ClassVar, NamedTuple, TypeVar
from urllib.parse import unquote_plus

import pytest
from hypothesis import HealthCheck, Phase, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule, run_state_machine_as_test

from tests.conftest import MakeServer
from tests.damage import flip, shard_files
from tests.kills import scan
from tests.model_draws import (
    KIB,
    LARGE,
    MIB,
    Ask,
    asks,
    buckets,
    deletion,
    described,
    ftts,
    keys,
    kinds,
    listed,
    metas,
    nothing,
    numbers,
    quoted,
    seeds,
    sizes,
    spans,
    spoilt,
    tag,
    tags,
    text,
    with_ftt,
    writes,
)
from tests.rawclient import Answer, RawClient
from tests.s3_model import Check, Model, Obj, Told
from tests.server import Server, bring_back, remove

RESTARTS, PAUSE = 2, 30
"""Of the server in one example at most, and calls between them at least."""
FLIPS = 4
"""Bits flipped between two scans."""
EXPECTED = (
    "killed", "volume taken away", "volume returned", "bit flipped", "a_scan", "GET 200 ", "GET 206 ", "GET 304 ", "PUT 200 ",
    "PUT 412 PreconditionFailed", "set_versioning", "read_version", "delete_version", "restore", "list_versions",
    "HEAD 405 ", "DELETE 204 ", "POST 200 ", "put_part", "complete", "copy", "list_objects",
)
"""A run in which one of these never happened has shown little."""
SHORT = (6, 120)
"""Examples and calls in each that every test run makes: under half a minute."""
LONG = (int(os.environ.get("ABIXIO_TEST_EXAMPLES", "300")), 200)
"""An hour."""
MD5_UP_TO = MIB
"""Bodies of which the ETag is an MD5 for sure; above, it depends on the size of stripes."""


class Step(NamedTuple):
    """Something that an example can do."""

    weight: int
    call: Callable[..., None]
    when: Callable[[Machine], object]
    arguments: Mapping[str, st.SearchStrategy[Any]]


STEPS: list[Step] = []
VERSION = re.compile(
    rb"<(Version|DeleteMarker)><Key>([^<]*)</Key><VersionId>([^<]*)</VersionId><IsLatest>(\w+)</IsLatest>"
    rb"(?:(?!</?Version>|</?DeleteMarker>).)*?(?:<ETag>&quot;([^<]*)&quot;</ETag>.*?)?</\1>"
)


def has_uploads(machine: Machine) -> object:
    return machine.uploads


C = TypeVar("C", bound=Callable[..., None])


def step(
    weight: int, when: Callable[[Machine], object] = lambda machine: True, **arguments: st.SearchStrategy[Any]
) -> Callable[[C], C]:
    """As hypothesis' own `rule`, but with a weight: a restart takes as long as a hundred calls, and of rules that are all alike
    most examples do little but what is left out of others."""
    def take(call: C) -> C:
        STEPS.append(Step(weight, call, when, arguments))
        return call

    return take


class Machine(RuleBasedStateMachine):
    """The server is made once and serves all examples; each has buckets of its own."""

    server: ClassVar[Server]
    examples: ClassVar[Iterator[int]]
    seen: ClassVar[Counter[str]]
    """What happened, in all examples."""

    def __init__(self) -> None:
        super().__init__()
        self.model = Model()
        self.prefix = f"m{next(self.examples)}-"
        self.uploads: list[tuple[str, str, str]] = []
        """Bucket, key and the server's id of every upload that was opened."""
        self.weak = 0
        self.away = self.killed = False
        self.wide: set[tuple[str, str]] = set()
        """Keys with rows that, for a while, need all volumes for a write."""
        self.client = RawClient(self.server.port)
        self.calls = self.restarts = self.flips = 0

    @initialize(weak=st.integers(0, 3))
    def begin(self, weak: int) -> None:
        self.weak = weak

    def teardown(self) -> None:
        """Everything of this example goes, so that the next one can have another weak volume."""
        try:
            if self.away:
                self._swap_volume()
            for bucket in list(self.model.buckets):
                self._call("POST", bucket, "", {"delete": ""}, *deletion(self._every_version(bucket) or ["none"]))
                assert self._call("DELETE", bucket).status == 204
        finally:
            self.client.close()

    @rule(data=st.data())
    def go(self, data: st.DataObject) -> None:
        # What is drawn may depend on nothing that a server decides. And not the number itself: small ones are drawn most.
        at = data.draw(seeds) % ENDS[-1]
        chosen = STEPS[bisect(ENDS, at)]
        arguments = {name: data.draw(strategy) for name, strategy in chosen.arguments.items()}
        if chosen.when(self):
            note(f"{chosen.call.__name__} {arguments}")
            self.seen[chosen.call.__name__] += 1
            chosen.call(self, **arguments)

    def _quiet(self) -> bool:
        """A restart takes as long as a hundred calls."""
        return self.restarts < RESTARTS and self.calls > self.restarts * PAUSE

    # ---- asking ------------------------------------------------------------------------------------------------------
    def _call(
        self, method: str, bucket: str = "", key: str = "", query: Mapping[str, str] | None = None,
        headers: Mapping[str, str] | None = None, body: bytes = b"",
    ) -> Answer:
        answer = self.client.call(method, self.prefix + bucket if bucket else "", key, query, headers, body)
        self.calls += 1
        self.seen[f"{method} {answer.status} {answer.code}"] += 1
        return answer

    def _agree(self, answer: Answer, told: Told, head: bool = False) -> None:
        code = "" if head else told.code
        assert (answer.status, answer.code) == (told.status, code), (answer.status, answer.code, answer.body[:300], told)

    def _in_doubt(self, answer: Answer, *keys: tuple[str, str]) -> bool:
        """A write that needs all volumes, and a crash right behind it: with one of them away nobody can tell whether it was
        answered, and who asks is told so. `keys`: those that were read, or a bucket and "" for all of it."""
        touched = any((name, key) in self.wide or (not key and any(name == wide[0] for wide in self.wide)) for name, key in keys)
        return answer.status == 503 and self.away and self.killed and touched

    def _refused(self, answer: Answer, *keys: tuple[str, str]) -> bool:
        """A write that may be refused just because the weak volume is away, and is."""
        if answer.status == 503 and self.away and any(key in self.wide for key in keys):
            assert answer.code == "ServiceUnavailable"
            return True
        return False

    def _blocked(self, bucket: str, key: str) -> bool:
        """Reading this object needs the volume that is away."""
        found = self.model.get(bucket, key)
        return self.away and found is not None and found.ftt == 0

    def _widen(self, bucket: str, key: str, ftt: int | None) -> None:
        """FTT 0 has shards, and FTT 3 wants rows, on all four volumes."""
        level = self.model.buckets[bucket].ftt if ftt is None and bucket in self.model.buckets else ftt
        if level in (0, 3):
            self.wide.add((bucket, key))

    # ---- buckets -----------------------------------------------------------------------------------------------------
    @initialize()
    def make_buckets(self) -> None:
        self.create_bucket("x", 1)
        self.create_bucket("y", 2)

    @step(1, bucket=st.sampled_from(("x", "y")), ftt=st.sampled_from((1, 1, 2)))
    def create_bucket(self, bucket: str, ftt: int) -> None:
        self._agree(self._call("PUT", bucket, headers={"x-amz-meta-ec-ftt": str(ftt)}), self.model.create_bucket(bucket, ftt))

    @step(1, bucket=st.sampled_from(("x", "y", "y", "nowhere")))
    def delete_bucket(self, bucket: str) -> None:
        answer = self._call("DELETE", bucket)
        if self._in_doubt(answer, (bucket, "")):
            return
        self._agree(answer, self.model.delete_bucket(bucket))
        for upload in self.uploads:
            if upload[0] == bucket and bucket not in self.model.buckets:
                self.uploads[self.uploads.index(upload)] = ("nowhere", *upload[1:])

    @step(1)
    def list_buckets(self) -> None:
        answer = self._call("GET", query={"prefix": self.prefix})
        assert re.findall(rb"<Name>([^<]*)</Name>", answer.body) == [
            (self.prefix + name).encode() for name in sorted(self.model.buckets)
        ]

    # ---- objects -----------------------------------------------------------------------------------------------------
    @step(17, bucket=buckets, key=keys, size=sizes, seed=seeds, meta=metas, kind=kinds, ftt=ftts, ask=writes)
    def put(
        self, bucket: str, key: str, size: int, seed: int, meta: dict[str, str], kind: str, ftt: int | None, ask: Ask
    ) -> None:
        self._widen(bucket, key, ftt)
        body, meta = random.Random(seed).randbytes(size), with_ftt(meta, ftt)
        check, conditions = self._conditions(bucket, key, ask)
        answer = self._call("PUT", bucket, key, headers=described(meta, kind) | conditions, body=body)
        if not self._refused(answer, (bucket, key)):
            told = self.model.put(bucket, key, body, meta, kind, ftt, check)
            self._agree(answer, told)
            assert told.status != 200 or answer.etag == told.more
            self._named(bucket, key, answer)

    def _likely(self, bucket: str, key: str, chance: int) -> tuple[str, str]:
        """Three times of four something that is there, if anything is."""
        there = [(name, each) for name, held in self.model.buckets.items() for each in held.objects]
        return there[chance // 4 % len(there)] if there and chance % 4 else (bucket, key)

    def _read_all(self) -> None:
        """Every object, whole."""
        for bucket, held in self.model.buckets.items():
            for key in held.objects:
                self._compare(self._call("GET", bucket, key), self.model.read(bucket, key, Check(), None), bucket, key, False)

    @step(16, bucket=buckets, key=keys, chance=seeds, ask=asks, span=spans, head=st.booleans())
    def read(
        self, bucket: str, key: str, chance: int, ask: Ask, span: tuple[int | None, int | None] | None, head: bool
    ) -> None:
        bucket, key = self._likely(bucket, key, chance)
        check, headers = self._conditions(bucket, key, ask)
        if span is not None:
            headers["range"] = f"bytes={'' if span[0] is None else span[0]}-{'' if span[1] is None else span[1]}"
        answer = self._call("HEAD" if head else "GET", bucket, key, headers=headers)
        self._compare(answer, self.model.read(bucket, key, check, span), bucket, key, head)

    @step(3, bucket=buckets, key=keys, chance=seeds, number=st.sampled_from((1, 1, 2, 3)), head=st.booleans())
    def read_part(self, bucket: str, key: str, chance: int, number: int, head: bool) -> None:
        bucket, key = self._likely(bucket, key, chance)
        answer = self._call("HEAD" if head else "GET", bucket, key, {"partNumber": str(number)})
        self._compare(answer, self.model.read_part(bucket, key, number), bucket, key, head)

    def _compare(self, answer: Answer, told: Told, bucket: str, key: str, head: bool) -> None:
        if self._in_doubt(answer, (bucket, key)):
            return
        if self._blocked(bucket, key):
            self._agree(answer, Told(503, "ServiceUnavailable"), head)
            return
        self._agree(answer, told, head)
        if told.status in (200, 206, 304):
            found, piece = told.more
            assert answer.etag == found.etag
            assert head or answer.body == piece, (len(answer.body), len(piece))
            if told.status != 304:
                self._same_headers(answer, found)
                assert int(answer.headers["content-length"]) == len(piece)

    @staticmethod
    def _same_headers(answer: Answer, found: Obj) -> None:
        shown = {name[11:]: value for name, value in answer.headers.items() if name.startswith("x-amz-meta-")}
        assert (shown, answer.headers["content-type"]) == (found.meta, found.kind)

    @step(4, bucket=buckets, key=keys, match=tags)
    def delete(self, bucket: str, key: str, match: str | None) -> None:
        check, headers = self._conditions(bucket, key, nothing._replace(match=match))
        answer = self._call("DELETE", bucket, key, headers=headers)
        if not self._refused(answer, (bucket, key)):
            self._agree(answer, self.model.delete(bucket, key, check.match))
            self._named(bucket, key, answer)

    @step(2, bucket=buckets, chosen=st.sets(keys, min_size=1))
    def delete_many(self, bucket: str, chosen: set[str]) -> None:
        answer = self._call("POST", bucket, "", {"delete": ""}, *deletion(sorted(chosen)))
        failed = {text(key) for key in re.findall(rb"<Error><Key>([^<]*)</Key>", answer.body)} if answer.status == 200 else set()
        assert all(self.away and (bucket, key) in self.wide for key in failed), answer.body
        told = self.model.delete_many(bucket, sorted(chosen - failed))
        self._agree(answer, told)
        if told.status == 200:
            assert sorted(text(key) for key in re.findall(rb"<Deleted><Key>([^<]*)</Key>", answer.body)) == told.more
            made = re.findall(rb"<Deleted><Key>([^<]*)</Key>.*?(?:<DeleteMarkerVersionId>(\w+)<.*?)?</Deleted>", answer.body)
            for key, id in made if self.model.buckets[bucket].versioning else ():
                self.model.name(bucket, text(key), id.decode())

    @step(8, source=buckets, source_key=keys, chance=seeds, bucket=buckets, key=keys, replaces=st.booleans(), meta=metas,
          kind=kinds, ftt=ftts, source_ask=asks, ask=writes)
    def copy(
        self, source: str, source_key: str, chance: int, bucket: str, key: str, replaces: bool, meta: dict[str, str], kind: str,
        ftt: int | None, source_ask: Ask, ask: Ask,
    ) -> None:
        source, source_key = self._likely(source, source_key, chance)
        found = self.model.get(source, source_key)
        self._widen(bucket, key, int(found.meta["ec-ftt"]) if ftt is None and found and "ec-ftt" in found.meta else ftt)
        check, headers = self._conditions(bucket, key, ask)
        source_check, more = self._conditions(source, source_key, source_ask, "x-amz-copy-source-")
        headers |= more | {"x-amz-copy-source": f"/{self.prefix}{source}/{quoted(source_key)}"}
        if replaces:
            headers |= described(meta, kind) | {"x-amz-metadata-directive": "REPLACE"}
        if ftt is not None:
            headers["x-amz-meta-ec-ftt"] = str(ftt)
        answer = self._call("PUT", bucket, key, headers=headers)
        if (answer.status == 503 and self._blocked(source, source_key)) or self._in_doubt(answer, (source, source_key)):
            return
        if self._refused(answer, (bucket, key)):
            return
        told = self.model.copy((source, source_key), (bucket, key), (meta, kind) if replaces else None, ftt, source_check, check)
        self._agree(answer, told)
        if told.status == 200:
            made = self.model.get(bucket, key)
            etag = answer.element("ETag").replace("&quot;", "").strip('"')
            assert made is not None and (etag == made.etag or len(made.body) > MD5_UP_TO)
            self.model.rename(bucket, key, etag)
            self._named(bucket, key, answer)

    # ---- conditions --------------------------------------------------------------------------------------------------
    def _conditions(self, bucket: str, key: str, ask: Ask, prefix: str = "") -> tuple[Check, dict[str, str]]:
        """For the model, and as headers."""
        found = self.model.get(bucket, key)
        etag = found.etag if found else "0" * 32
        real = {None: None, "*": "*", "right": etag, "wrong": "f" * 32}
        check = Check(real[ask.match], real[ask.none_match], ask.modified, ask.unmodified)
        dates = {-1: "Thu, 01 Jan 1998 00:00:00 GMT", 1: "Fri, 01 Jan 2100 00:00:00 GMT"}
        headers = {
            "if-match": tag(check.match), "if-none-match": tag(check.none_match),
            "if-modified-since": dates.get(ask.modified or 0), "if-unmodified-since": dates.get(ask.unmodified or 0),
        }
        return check, {prefix + name: value for name, value in headers.items() if value is not None}

    # ---- uploads -----------------------------------------------------------------------------------------------------
    @step(3, bucket=buckets, key=keys, meta=metas, kind=kinds, ftt=ftts)
    def create_upload(self, bucket: str, key: str, meta: dict[str, str], kind: str, ftt: int | None) -> None:
        meta = with_ftt(meta, ftt)
        answer = self._call("POST", bucket, key, {"uploads": ""}, described(meta, kind))
        told = self.model.create_upload(len(self.uploads), bucket, key, meta, kind, ftt)
        self._agree(answer, told)
        if told.status == 200:
            self.uploads.append((bucket, key, answer.element("UploadId")))
            found = self.model.buckets[bucket].uploads[len(self.uploads) - 1]
            if found.ftt in (0, 3):
                self.wide |= {(bucket, key), ("parts", self.uploads[-1][2])}

    def _chosen(self, number: int) -> tuple[int, str, str, str]:
        """One of the uploads so far, the newest more often than others."""
        at = max(number % (len(self.uploads) * 2), len(self.uploads)) - len(self.uploads)
        return (at, *self.uploads[at])

    @step(5, has_uploads, number=seeds, part=numbers, size=st.sampled_from((1, 50 * KIB, LARGE, LARGE)), seed=seeds)
    def put_part(self, number: int, part: int, size: int, seed: int) -> None:
        at, bucket, key, id = self._chosen(number)
        body = random.Random(seed).randbytes(min(size, 4096)) * (size // 4096 or 1)
        answer = self._call("PUT", bucket, key, {"uploadId": id, "partNumber": str(part)}, body=body)
        if not self._refused(answer, ("parts", id)):
            self._agree(answer, self.model.put_part(bucket, at, part, body, answer.etag))
            assert answer.status != 200 or len(body) > MD5_UP_TO or answer.etag == md5(body).hexdigest()

    @step(3, has_uploads, number=seeds, part=numbers, source=buckets, source_key=keys, whole=st.booleans())
    def copy_part(self, number: int, part: int, source: str, source_key: str, whole: bool) -> None:
        at, bucket, key, id = self._chosen(number)
        found = self.model.get(source, source_key)
        headers = {"x-amz-copy-source": f"/{self.prefix}{source}/{quoted(source_key)}"}
        body = b"" if found is None else found.body
        if not whole and len(body) > 100:
            headers["x-amz-copy-source-range"] = f"bytes=10-{len(body) // 2}"
            body = body[10 : len(body) // 2 + 1]
        answer = self._call("PUT", bucket, key, {"uploadId": id, "partNumber": str(part)}, headers)
        if self._refused(answer, ("parts", id)) or self._in_doubt(answer, (source, source_key)):
            return
        if answer.status == 503 and self._blocked(source, source_key):
            return
        if bucket in self.model.buckets and self.model.upload(bucket, at) is not None and found is None:
            self._agree(answer, Told(404, "NoSuchKey" if source in self.model.buckets else "NoSuchBucket"))
            return
        etag = answer.element("ETag").replace("&quot;", "").strip('"')
        self._agree(answer, self.model.put_part(bucket, at, part, body, etag))

    @step(4, has_uploads, number=seeds, ask=writes, spoil=st.sampled_from(("",) * 4 + ("order", "tag", "more")),
          leave_out=st.booleans())
    def complete(self, number: int, ask: Ask, spoil: str, leave_out: bool) -> None:
        at, bucket, key, id = self._chosen(number)
        found = self.model.upload(bucket, at)
        parts = [(n, etag) for n, (_, etag) in sorted(found.parts.items())] if found else [(1, "0" * 32)]
        parts = spoilt(parts[1:] if leave_out and len(parts) > 1 else parts, spoil)
        if not parts:
            return
        check, headers = self._conditions(bucket, key, ask)
        document = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in parts)
        body = f"<CompleteMultipartUpload>{document}</CompleteMultipartUpload>".encode()
        answer = self._call("POST", bucket, key, {"uploadId": id}, headers, body)
        if not self._refused(answer, (bucket, key), ("parts", id)):
            before = self.model.get(bucket, key)
            told = self.model.complete(bucket, key, at, parts, check)
            self._agree(answer, told)
            if self.model.get(bucket, key) is not before:
                self._named(bucket, key, answer)
            assert told.status != 200 or answer.element("ETag").replace("&quot;", "").strip('"') == told.more

    @step(1, has_uploads, number=seeds)
    def abort(self, number: int) -> None:
        at, bucket, key, id = self._chosen(number)
        self._agree(self._call("DELETE", bucket, key, {"uploadId": id}), self.model.abort(bucket, at))

    @step(2, has_uploads, number=seeds, limit=st.sampled_from((1, 2, 1000)))
    def list_parts(self, number: int, limit: int) -> None:
        at, bucket, key, id = self._chosen(number)
        found, shown, after = self.model.upload(bucket, at), [], "0"
        while True:
            query = {"uploadId": id, "max-parts": str(limit), "part-number-marker": after}
            answer = self._call("GET", bucket, key, query)
            if self._in_doubt(answer, ("parts", id)):
                return
            if found is None:
                self._agree(answer, Told(404, "NoSuchBucket" if bucket not in self.model.buckets else "NoSuchUpload"))
                return
            assert answer.status == 200, answer
            shown += re.findall(rb"<PartNumber>(\d+)</PartNumber>.*?<Size>(\d+)</Size>", answer.body)
            if answer.element("IsTruncated") != "true":
                break
            after = answer.element("NextPartNumberMarker")
        assert [(int(n), int(size)) for n, size in shown] == [(n, len(body)) for n, (body, _) in sorted(found.parts.items())]

    @step(1, bucket=buckets)
    def list_uploads(self, bucket: str) -> None:
        answer = self._call("GET", bucket, query={"uploads": ""})
        if bucket not in self.model.buckets:
            self._agree(answer, Told(404, "NoSuchBucket"))
            return
        uploads = sorted(self.model.buckets[bucket].uploads.values(), key=lambda upload: (upload.key.encode(), upload.number))
        assert re.findall(r"<UploadId>(\w*)</UploadId>", answer.body.decode()) == [self.uploads[u.number][2] for u in uploads]

    # ---- listings ----------------------------------------------------------------------------------------------------
    @step(7, bucket=buckets, version=st.sampled_from((1, 2)), prefix=st.sampled_from(("", "a", "a/", "é", "none")),
          delimiter=st.sampled_from(("", "/", "//", "b", "ü")), after=st.sampled_from(("", "a", "a/", "a/b", "a/b/b", "é", "zz")),
          limit=st.sampled_from((1, 2, 3, 1000, 0)))
    def list_objects(self, bucket: str, version: int, prefix: str, delimiter: str, after: str, limit: int) -> None:
        """All pages from there on."""
        query = {"prefix": prefix, "delimiter": delimiter, "max-keys": str(limit), "encoding-type": "url"}
        query |= {"list-type": "2", "start-after": after} if version == 2 else {"marker": after}
        while True:
            answer = self._call("GET", bucket, query=query)
            if self._in_doubt(answer, (bucket, "")):
                return
            if bucket not in self.model.buckets:
                self._agree(answer, Told(404, "NoSuchBucket"))
                return
            told = self.model.page(bucket, prefix, delimiter, after, limit)
            assert answer.status == 200, answer
            contents = answer.body.split(b"<CommonPrefixes>")[0]
            names = [listed(key) for key in re.findall(rb"<Key>([^<]*)</Key>", contents)]
            prefixes = [listed(name) for name in re.findall(rb"<CommonPrefixes><Prefix>([^<]*)</Prefix>", answer.body)]
            assert (names, prefixes) == (told.keys, told.prefixes), (after, limit)
            assert answer.element("IsTruncated") == ("true" if told.truncated else "false")
            self._same_contents(bucket, contents, names)
            if not told.truncated:
                return
            after = max(told.keys + told.prefixes, key=str.encode)
            if version == 1:
                query["marker"] = after
                assert not delimiter or unquote_plus(answer.element("NextMarker")) == after
            else:
                query["continuation-token"] = answer.element("NextContinuationToken")

    def _same_contents(self, bucket: str, contents: bytes, names: list[str]) -> None:
        shown = re.findall(rb"<ETag>&quot;([^<]*)&quot;</ETag>.*?<Size>(\d+)</Size>", contents)
        objects = self.model.buckets[bucket].objects
        assert [(tag.decode(), int(size)) for tag, size in shown] == [(objects[n].etag, len(objects[n].body)) for n in names]

    # ---- versions ----------------------------------------------------------------------------------------------------
    def _named(self, bucket: str, key: str, answer: Answer) -> None:
        """What an acknowledged write called its version."""
        held = self.model.buckets.get(bucket)
        if answer.status in (200, 204) and held is not None:
            # Of the null version only the answer to a delete says that it is one.
            says = held.versioning == "Enabled" or (held.versioning == "Suspended" and answer.status == 204)
            assert ("x-amz-version-id" in answer.headers) == says, answer.headers
            self.model.name(bucket, key, answer.headers.get("x-amz-version-id", "null" if held.versioning else ""))

    def _every_version(self, bucket: str) -> list[tuple[str, str]]:
        return [(key, id) for key, id, *_ in self.model.versions(bucket, "")]

    def _old(self, chance: int) -> tuple[str, str, str] | None:
        """A version of anything, with its bucket and key."""
        there = [(bucket, *each) for bucket in self.model.buckets for each in self._every_version(bucket)]
        return there[chance % len(there)] if there else None

    def _held_up(self, answer: Answer, bucket: str, key: str) -> bool:
        """Whether an old version may not be read or deleted just because of the volume that is away."""
        return answer.status == 503 and self.away and (bucket, key) in self.wide

    @step(5, bucket=buckets, state=st.sampled_from(("Enabled", "Enabled", "Suspended")))
    def set_versioning(self, bucket: str, state: str) -> None:
        body = f"<VersioningConfiguration><Status>{state}</Status></VersioningConfiguration>".encode()
        answer = self._call("PUT", bucket, query={"versioning": ""}, body=body)
        self._agree(answer, self.model.set_versioning(bucket, state))

    @step(6, chance=seeds, head=st.booleans())
    def read_version(self, chance: int, head: bool) -> None:
        if (old := self._old(chance)) is None:
            return
        bucket, key, id = old
        answer = self._call("HEAD" if head else "GET", bucket, key, {"versionId": id})
        if self._held_up(answer, bucket, key):
            return
        told = self.model.read_version(bucket, key, id)
        self._agree(answer, told, head)
        if told.status == 200:
            found, body = told.more
            assert (answer.etag, answer.headers.get("x-amz-version-id", "null")) == (found.etag, id)
            assert head or answer.body == body
            self._same_headers(answer, found)
        assert ("x-amz-delete-marker" in answer.headers) == (told.status == 405)

    @step(4, chance=seeds, at_once=st.booleans())
    def delete_version(self, chance: int, at_once: bool) -> None:
        if (old := self._old(chance)) is None:
            return
        bucket, key, id = old
        if at_once:
            answer = self._call("POST", bucket, "", {"delete": ""}, *deletion([(key, id)]))
            assert answer.status == 200
            if b"<Error>" in answer.body:
                assert self.away and (bucket, key) in self.wide, answer.body
                return
            assert (b"<DeleteMarker>true" in answer.body) == self.model.delete_version(bucket, key, id).more
            return
        answer = self._call("DELETE", bucket, key, {"versionId": id})
        if not self._held_up(answer, bucket, key):
            told = self.model.delete_version(bucket, key, id)
            self._agree(answer, told)
            assert ("x-amz-delete-marker" in answer.headers) == told.more

    @step(2, chance=seeds)
    def restore(self, chance: int) -> None:
        if (old := self._old(chance)) is None or not self.model.buckets[old[0]].versioning:
            return
        bucket, key, id = old
        answer = self._call("PUT", bucket, key, headers={
            "x-amz-copy-source": f"/{self.prefix}{bucket}/{quoted(key)}?versionId={id}",
        })
        if self._held_up(answer, bucket, key):
            return
        told = self.model.restore(bucket, key, id)
        self._agree(answer, told)
        if told.status == 200:
            self.model.rename(bucket, key, answer.element("ETag").replace("&quot;", "").strip('"'))
            self._named(bucket, key, answer)

    @step(5, bucket=buckets, prefix=st.sampled_from(("", "", "a", "a/")), limit=st.sampled_from((1, 2, 3, 1000)))
    def list_versions(self, bucket: str, prefix: str, limit: int) -> None:
        """All pages."""
        query = {"versions": "", "prefix": prefix, "max-keys": str(limit), "encoding-type": "url"}
        shown: list[tuple[str, str, bool, bool, str]] = []
        while True:
            answer = self._call("GET", bucket, query=query)
            if self._in_doubt(answer, (bucket, "")):
                return
            if bucket not in self.model.buckets:
                self._agree(answer, Told(404, "NoSuchBucket"))
                return
            assert answer.status == 200, answer
            page = VERSION.findall(answer.body)
            assert len(page) <= limit
            shown += [
                (listed(key), id.decode(), kind == b"DeleteMarker", latest == b"true", etag.decode())
                for kind, key, id, latest, etag in page
            ]
            if answer.element("IsTruncated") != "true":
                break
            query |= {"key-marker": unquote_plus(answer.element("NextKeyMarker")),
                      "version-id-marker": answer.element("NextVersionIdMarker")}
        assert shown == self.model.versions(bucket, prefix)

    # ---- faults ------------------------------------------------------------------------------------------------------
    @step(2, _quiet, kill=st.booleans(), fsync=st.booleans())
    def the_server_ends_and_starts(self, kill: bool, fsync: bool) -> None:
        self._restart(kill, fsync)

    @step(2, _quiet)
    def the_weak_volume_goes_or_returns(self) -> None:
        self._swap_volume()

    def _swap_volume(self) -> None:
        def change() -> None:
            volume = self.server.volumes[self.weak]
            self.seen["volume " + ("returned" if self.away else "taken away")] += 1
            bring_back(volume) if self.away else remove(volume)
            self.away = not self.away

        self._restart(False, False, change)

    def _restart(self, kill: bool, fsync: bool, meanwhile: Any = None) -> None:
        self.client.close()
        self.restarts += 1
        self.seen["killed" if kill else "stopped"] += 1
        if kill:
            self.killed = True
            self.server.kill()
        else:
            assert self.server.stop() == 0, self.server.stderr()[-3000:]
        if meanwhile is not None:
            meanwhile()
        plain = self.server.command[: self.server.command.index("--durability")]
        self.server.command = [*plain, "--durability", "fsync" if fsync else "page-cache"]
        self.server.start()
        self.client = RawClient(self.server.port)
        self._read_all()

    @step(3, lambda self: not self.away and self.flips < FLIPS, seed=seeds)
    def a_bit_flips_on_the_weak_volume(self, seed: int) -> None:
        """In a shard file that can be spared."""
        chooser = random.Random(seed)
        files = [file.path for file in shard_files(self.server.volumes[self.weak]) if file.m]
        if files:
            flip(chooser.choice(files), chooser)
            self.flips += 1
            self.seen["bit flipped"] += 1
            self._read_all()

    @step(3, lambda self: not self.away and self.flips)
    def a_scan(self) -> None:
        scan(self.server)
        self.flips = 0


# The heaviest first, for all the examples that begin with zeros.
STEPS.sort(key=lambda step: -step.weight)
ENDS = list(itertools.accumulate(step.weight for step in STEPS))


# ---- the runs --------------------------------------------------------------------------------------------------------
def run(make_server: MakeServer, examples: int, steps: int, *phases: Phase, same: bool) -> None:
    class Run(Machine):
        server = make_server(4, "--durability", "page-cache")
        examples = itertools.count()
        seen: ClassVar[Counter[str]] = Counter()

    run_state_machine_as_test(Run, settings=settings(
        max_examples=examples, stateful_step_count=steps, deadline=None, database=None, derandomize=same, phases=phases,
        suppress_health_check=list(HealthCheck), print_blob=True,
    ))
    print("\n".join(f"{count:6} {what}" for what, count in sorted(Run.seen.items())))
    assert all(Run.seen[what] for what in EXPECTED), Run.seen


@pytest.mark.timeout(280)
def test_the_server_and_the_model_agree(make_server: MakeServer) -> None:
    """The same examples each time, so that a red CI is about what changed. Without shrinking, which takes minutes."""
    run(make_server, *SHORT, Phase.generate, same=True)


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_the_server_and_the_model_agree_at_length(make_server: MakeServer) -> None:
    run(make_server, *LONG, Phase.generate, Phase.shrink, same=False)
