"""Writers for the tests that kill and hurt a server: threads that put, delete, upload in parts and copy, each on keys of its own,
and that tell a ledger before they ask and after they are answered.
"""

from __future__ import annotations

import random
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection, Sequence

from tests.ledger import Ledger, Lost, digest, make_body, whole
from tests.rawclient import Answer, RawClient, Refused, Unknown
from tests.server import ACCESS

KIB, MIB = 1 << 10, 1 << 20
BUCKET = "bucket"
SIZES = (0, 10, 3000, 40 * KIB, 100 * KIB, 300 * KIB, MIB + 17, 4 * MIB + 1)
"""Inline, in files, of one stripe and of two."""
WEIGHTS = (1, 3, 4, 4, 4, 3, 1, 1)
PART = 5 * MIB
"""The least that a part may have unless it is the last."""
UNHURT: Collection[int] = ()
"""Refusals to expect from a server whose volumes are all well: none."""
HURT: Collection[int] = (503, 507)
"""... with volumes that are away, hurt or full: nothing was stored."""


class Surprise(AssertionError):
    """An answer that the circumstances do not explain."""


def connect(port: Callable[[], int], stopping: threading.Event, timeout: float, access: str = ACCESS) -> RawClient | None:
    """A client for the server that runs now, or the next one; None once it is time to stop."""
    while not stopping.is_set():
        client = RawClient(port(), timeout, access)
        try:
            client.connect()
            return client
        except Refused:
            client.close()
            time.sleep(0.02)
    return None


class Writer(threading.Thread):
    """Writes keys of its own until told to stop; a killed server is waited for, or ends it."""

    def __init__(
        self, ledger: Ledger, keys: Sequence[str], seed: float, port: Callable[[], int], *, again: bool = False,
        refusals: Collection[int] = UNHURT, ftts: str = "0123", pause: float = 0.0, timeout: float = 30.0,
        access: str = ACCESS,
    ) -> None:
        super().__init__(name=f"writer of {keys[0]}")
        self.ftts = ftts
        self.counts: Counter[str] = Counter()
        self.sent = 0
        self.error: BaseException | None = None
        self._ledger, self._keys, self._port, self._again = ledger, keys, port, again
        self._random = random.Random(seed)
        self._refusals, self._pause, self._timeout, self._access = refusals, pause, timeout, access
        self._stopping = threading.Event()

    def stop(self) -> None:
        self._stopping.set()

    def run(self) -> None:
        try:
            while (client := connect(self._port, self._stopping, self._timeout, self._access)) is not None:
                try:
                    while not self._stopping.is_set():
                        self._one(client)
                        time.sleep(self._pause)
                except (Unknown, Refused):
                    self.counts["cut"] += 1
                    if not self._again:
                        return
                finally:
                    client.close()
        except BaseException as error:
            self.error = error

    # ---- one write ---------------------------------------------------------------------------------------------------
    def _one(self, client: RawClient) -> None:
        key = self._random.choice(self._keys)
        dice = self._random.random()
        if dice < 0.18:
            self._write(client, "delete", key, None, lambda: client.call("DELETE", BUCKET, key), 204)
        elif dice < 0.28:
            self._copy(client, key)
        elif dice < 0.38:
            self._multipart(client, key)
        else:
            body = make_body(self._random, self._random.choices(SIZES, WEIGHTS)[0])
            headers = self._headers()
            self._write(client, "put", key, body, lambda: client.call("PUT", BUCKET, key, headers=headers, body=body), 200)

    def _headers(self) -> dict[str, str]:
        return {"x-amz-meta-ec-ftt": self._random.choice(self.ftts)}

    def _write(
        self, client: RawClient, what: str, key: str, body: bytes | None, call: Callable[[], Answer], expected: int,
        name: str | None = None, size: int = 0,
    ) -> Answer:
        """One call that changes a key, and what the ledger says of it. `name` and `size`, when the body is not at hand."""
        number = self._ledger.ask(key, name or digest(body))
        try:
            answer = call()
        except Refused:
            self._ledger.answer(key, number, "refused")
            raise
        except Unknown:
            self._ledger.answer(key, number, "unknown")
            raise
        if answer.status == expected and answer.code == "":
            etag = answer.etag or answer.element("ETag").replace("&quot;", "").strip('"')
            self._ledger.answer(key, number, "done", etag, size or len(body or b""))
            self.counts[what] += 1
            self.sent += len(body or b"")
        elif answer.status == 500 and answer.code == "InternalError" and self._refusals:
            self._ledger.answer(key, number, "unknown")
            self.counts["outcome unknown"] += 1
        else:
            self._ledger.answer(key, number, "refused")
            self._check_refusal(what, key, answer, (412,) if what == "copy" else ())
        return answer

    def _check_refusal(self, what: str, key: str, answer: Answer, more: Collection[int] = ()) -> None:
        if answer.status not in {*self._refusals, *more}:
            raise Surprise(f"{what} of {key}: {answer.status} {answer.code} {answer.body[:300]!r}")
        self.counts[f"{what} refused {answer.status}"] += 1

    def _copy(self, client: RawClient, key: str) -> None:
        """Copies an object of anybody's, if it is still what the ledger says."""
        source = self._ledger.source(self._random)
        if source is None or source.key == key:
            return
        headers = self._headers() | {
            "x-amz-copy-source": f"/{BUCKET}/{source.key}", "x-amz-copy-source-if-match": f'"{source.etag}"',
        }
        self._write(client, "copy", key, None, lambda: self._copied(client, key, headers), 200, source.name, source.size)

    def _copied(self, client: RawClient, key: str, headers: dict[str, str]) -> Answer:
        answer = client.call("PUT", BUCKET, key, headers=headers)
        # The source may just have been deleted.
        return answer if answer.code != "NoSuchKey" else answer._replace(status=412)

    def _multipart(self, client: RawClient, key: str) -> None:
        began = client.call("POST", BUCKET, key, {"uploads": ""}, self._headers())
        if began.status != 200:
            self._check_refusal("create upload", key, began)
            return
        upload = began.element("UploadId")
        last = self._random.choices(SIZES, WEIGHTS)[0]
        sizes = [last] if self._random.random() < 0.8 else [PART, last]
        body = make_body(self._random, sum(sizes))
        parts = ""
        for number, part in enumerate([body] if len(sizes) == 1 else [body[:PART], body[PART:]], 1):
            answer = client.call("PUT", BUCKET, key, {"uploadId": upload, "partNumber": str(number)}, body=part)
            if answer.status != 200:
                self._check_refusal("part", key, answer)
                return
            parts += f"<Part><PartNumber>{number}</PartNumber><ETag>{answer.etag}</ETag></Part>"
        if self._random.random() < 0.1:
            answer = client.call("DELETE", BUCKET, key, {"uploadId": upload})
            if answer.status != 204:
                self._check_refusal("abort", key, answer)
            return
        document = f"<CompleteMultipartUpload>{parts}</CompleteMultipartUpload>".encode()
        self._write(client, "multipart", key, body,
                    lambda: client.call("POST", BUCKET, key, {"uploadId": upload}, body=document), 200)


# ---- reading ---------------------------------------------------------------------------------------------------------
def read(client: RawClient, ledger: Ledger, key: str) -> tuple[Answer, str | None]:
    """GET a key and hold it against the ledger; an answer other than 200 and 404 says nothing. Lost."""
    before = ledger.before(key)
    answer = client.call("GET", BUCKET, key)
    if answer.status == 200 and not whole(answer.body):
        raise Lost(f"{key!r}: {len(answer.body)} bytes that are no body anybody sent")
    if answer.status in (200, 404):
        found = digest(answer.body) if answer.status == 200 else None
        ledger.saw(key, before, found)
        return answer, found
    return answer, None


def read_range(client: RawClient, ledger: Ledger, key: str, chooser: random.Random) -> Answer:
    """HEAD, then a range of that very version, and the whole of it: the range must be cut from it."""
    head = client.call("HEAD", BUCKET, key)
    size = int(head.headers.get("content-length", "0"))
    if head.status != 200 or not size:
        return head
    first = chooser.randrange(size)
    last = min(size - 1, first + chooser.choice((0, 100, 70_000)))
    same = {"if-match": head.headers["etag"]}
    piece = client.call("GET", BUCKET, key, headers={"range": f"bytes={first}-{last}", **same})
    all_of_it = client.call("GET", BUCKET, key, headers=same)
    if piece.status == 206 and all_of_it.status == 200 and piece.body != all_of_it.body[first : last + 1]:
        raise Lost(f"{key!r}: bytes {first} to {last} are not those of the object")
    return piece


def listed(client: RawClient, page: int = 1000) -> list[str]:
    """All keys, page by page. Surprise."""
    keys: list[str] = []
    after = ""
    while True:
        answer = client.call("GET", BUCKET, query={"list-type": "2", "max-keys": str(page), "start-after": after})
        if answer.status != 200:
            raise Surprise(f"list: {answer.status} {answer.code}")
        found = [part.split(b"</Key>")[0].decode() for part in answer.body.split(b"<Key>")[1:]]
        if found != sorted(found) or (found and found[0] <= after):
            raise Lost(f"a page behind {after!r} is out of order: {found}")
        keys += found
        if answer.element("IsTruncated") != "true":
            return keys
        after = found[-1]


def verify(client: RawClient, ledger: Ledger, keys: Collection[str]) -> int:
    """Those keys hold what they may, in GET and in LIST alike; returns the bytes read. Lost, Surprise. Nobody may write."""
    total, there = 0, set()
    for key in keys:
        answer, found = read(client, ledger, key)
        if answer.status not in (200, 404):
            raise Surprise(f"{key!r}: {answer.status} {answer.code}")
        total += len(answer.body) if found is not None else 0
        if found is not None:
            there.add(key)
    shown = set(listed(client)) & set(keys)
    if shown != there:
        raise Lost(f"listed but not there: {sorted(shown - there)}; there but not listed: {sorted(there - shown)}")
    return total

