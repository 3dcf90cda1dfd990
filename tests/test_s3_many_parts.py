"""Ten thousand parts through the service and a real store: uploaded, listed, completed, read, described, copied. The least size
of a part is lowered for it: at that of S3 the object would have 50 GB."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from abixio.config import Config
from abixio.message import finished
from abixio.s3.service import S3Service
from abixio.s3.xml import parse
from tests.s3_harness import ENDPOINT, Answer, Signer, read
from tests.s3_wire import CREDENTIALS, request
from tests.store_local import Disks

PARTS = 10_000
BODIES = [random.Random(number).randbytes(1 + number % 7) for number in range(PARTS)]
WHOLE = b"".join(BODIES)


class Asker(Signer):
    """Signs; the answer is waited for elsewhere."""

    def send(
        self, method: str, target: str, headers: Mapping[str, str] | None = None, body: bytes = b"", length: int | None = -1
    ) -> Answer:
        self.made = request(method, target, {"host": urlsplit(ENDPOINT).netloc} | dict(headers or {}), body)
        return Answer(0, {}, b"")


@pytest.mark.slow
async def test_ten_thousand_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("abixio.store.completion.MIN_PART", 1)
    async with Disks(tmp_path, 4).store() as store:
        service, asker = S3Service(store, CREDENTIALS, Config()), Asker()

        async def ask(method: str, target: str, body: bytes = b"", status: int = 200, **headers: str) -> Answer:
            asker.ask(method, target, {name.replace("_", "-"): value for name, value in headers.items()}, body)
            made = service(asker.made)
            answer = await read(await finished(made))
            assert answer.status == status, answer.body
            return answer

        await ask("PUT", "/b01")
        upload = parse((await ask("POST", "/b01/k?uploads")).body).text("UploadId")
        etags = [
            (await ask("PUT", f"/b01/k?partNumber={number}&uploadId={upload}", body)).headers["etag"]
            for number, body in enumerate(BODIES, 1)
        ]
        await ask("PUT", f"/b01/k?partNumber={PARTS + 1}&uploadId={upload}", b"x", status=400)

        seen, after, more = [], 0, True
        while more:
            page = parse((await ask("GET", f"/b01/k?uploadId={upload}&part-number-marker={after}&max-parts=999")).body)
            seen += [int(part.text("PartNumber") or "") for part in page.all("Part")]
            more, after = page.text("IsTruncated") == "true", int(page.text("NextPartNumberMarker") or "")
        assert seen == list(range(1, PARTS + 1))

        named = "".join(f"<Part><PartNumber>{n}</PartNumber><ETag>{etag}</ETag></Part>" for n, etag in enumerate(etags, 1))
        body = f"<CompleteMultipartUpload>{named}</CompleteMultipartUpload>".encode()
        done = await ask("POST", f"/b01/k?uploadId={upload}", body)
        digest = hashlib.md5(b"".join(hashlib.md5(body).digest() for body in BODIES)).hexdigest()
        assert f"{digest}-{PARTS}".encode() in done.body

        assert (await ask("GET", "/b01/k")).body == WHOLE
        cuts = sorted(random.Random(0).sample(range(len(WHOLE)), 20))
        for first, last in pairwise(cuts):
            assert (await ask("GET", "/b01/k", status=206, range=f"bytes={first}-{last}")).body == WHOLE[first : last + 1]
        for number in (1, 5000, PARTS):
            part = await ask("GET", f"/b01/k?partNumber={number}", status=206)
            assert (part.body, part.headers["x-amz-mp-parts-count"]) == (BODIES[number - 1], str(PARTS))
        attributes = await ask("GET", "/b01/k?attributes", x_amz_object_attributes="ObjectParts", x_amz_part_number_marker="9990")
        parts = parse(attributes.body).find("ObjectParts")
        assert parts is not None
        assert (parts.text("PartsCount"), len(list(parts.all("Part")))) == (str(PARTS), 10)
        await ask("PUT", "/b01/copy", x_amz_copy_source="b01/k")
        assert (await ask("GET", "/b01/copy")).body == WHOLE
