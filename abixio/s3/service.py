"""The S3 front: a request comes in, is authenticated before anything else, becomes an operation, and is answered."""

from __future__ import annotations

import re
import time
from base64 import b64encode
from collections.abc import Coroutine, Mapping
from functools import partial
from typing import Any, Final

from abixio.codec.digest import Digests
from abixio.config import Config
from abixio.errors import AbixioError
from abixio.message import ID, Answer, Promise, Repeated, Request, Response
from abixio.s3 import (
    acl,
    archive,
    attributes,
    batch,
    bucket_encryption,
    buckets,
    copy,
    cors,
    filed,
    lifecycle,
    listing,
    locking,
    multipart,
    objects,
    ownership,
    posting,
    rename,
    reseal,
    settings,
    tagging,
    unset,
    versioning,
)
from abixio.s3.answered import Answered
from abixio.s3.call import CHECKSUMS, Call, Handler, root_owner
from abixio.s3.documents import Documents
from abixio.s3.envelope import Keys, NoKeys
from abixio.s3.errors import HOST_ID, S3Error, from_exception, response
from abixio.s3.hosts import Hosts
from abixio.s3.names import Target, check_asked_name, check_key, parse_target
from abixio.s3.proxies import Proxies
from abixio.s3.router import route
from abixio.s3.sigv2 import CARRIED, authenticate_url, is_version_2
from abixio.s3.sigv4 import Identity, authenticate
from abixio.s3.sigv4_claim import QUERY_NAMES
from abixio.s3.verified import Verified
from abixio.store.api import StoreAPI

SERVER: Final = ("Server", "abixio")

HANDLERS: Final[Mapping[str, Handler]] = {
    **unset.HANDLERS,
    **settings.HANDLERS,
    **filed.HANDLERS,
    **ownership.HANDLERS,
    "ListBuckets": buckets.list_buckets,
    "CreateBucket": buckets.create_bucket,
    "HeadBucket": buckets.head_bucket,
    "DeleteBucket": buckets.delete_bucket,
    "GetBucketEncryption": bucket_encryption.get_bucket_encryption,
    "PutBucketEncryption": bucket_encryption.put_bucket_encryption,
    "DeleteBucketEncryption": bucket_encryption.delete_bucket_encryption,
    "GetBucketCors": cors.get_bucket_cors,
    "PutBucketCors": cors.put_bucket_cors,
    "DeleteBucketCors": cors.delete_bucket_cors,
    "GetBucketLifecycleConfiguration": lifecycle.get_bucket_lifecycle,
    "PutBucketLifecycleConfiguration": lifecycle.put_bucket_lifecycle,
    "DeleteBucketLifecycle": lifecycle.delete_bucket_lifecycle,
    "GetBucketTagging": tagging.get_bucket_tagging,
    "PutBucketTagging": tagging.put_bucket_tagging,
    "DeleteBucketTagging": tagging.delete_bucket_tagging,
    "GetObjectTagging": tagging.get_object_tagging,
    "PutObjectTagging": tagging.put_object_tagging,
    "DeleteObjectTagging": tagging.delete_object_tagging,
    "GetObjectLockConfiguration": locking.get_object_lock_configuration,
    "PutObjectLockConfiguration": locking.put_object_lock_configuration,
    "GetObjectRetention": locking.get_object_retention,
    "PutObjectRetention": locking.put_object_retention,
    "GetObjectLegalHold": locking.get_object_legal_hold,
    "PutObjectLegalHold": locking.put_object_legal_hold,
    "GetBucketVersioning": versioning.get_bucket_versioning,
    "PutBucketVersioning": versioning.put_bucket_versioning,
    "GetBucketLocation": buckets.get_bucket_location,
    "GetBucketAcl": acl.get_bucket_acl,
    "PutBucketAcl": acl.put_bucket_acl,
    "ListObjects": listing.list_objects,
    "ListObjectsV2": listing.list_objects_v2,
    "ListObjectVersions": listing.list_object_versions,
    "ListMultipartUploads": listing.list_multipart_uploads,
    "GetObject": objects.get_object,
    "HeadObject": objects.head_object,
    "GetObjectAttributes": attributes.get_object_attributes,
    "GetObjectAcl": acl.get_object_acl,
    "PutObjectAcl": acl.put_object_acl,
    "PostObject": posting.no_form,
    "PutObject": objects.put_object,
    "DeleteObject": objects.delete_object,
    "RenameObject": rename.rename_object,
    "RestoreObject": archive.restore_object,
    "UpdateObjectEncryption": reseal.update_object_encryption,
    "DeleteObjects": batch.delete_objects,
    "CopyObject": copy.copy_object,
    "CreateMultipartUpload": multipart.create_multipart_upload,
    "UploadPart": multipart.upload_part,
    "UploadPartCopy": copy.upload_part_copy,
    "CompleteMultipartUpload": multipart.complete_multipart_upload,
    "AbortMultipartUpload": multipart.abort_multipart_upload,
    "ListParts": multipart.list_parts,
}
"""What is served; every other operation that the router knows is answered with NotImplemented."""

AT_ONCE: Final[Mapping[str, frozenset[str]]] = {"GET": frozenset({"GetObject"}), "HEAD": frozenset({"HeadObject"})}
"""Operations, by method, that `objects.read_at_once` may answer."""
WRITTEN_AT_ONCE: Final = {
    "PUT": ("PutObject", objects.put_at_once), "DELETE": ("DeleteObject", objects.delete_at_once),
}
"""The same of writes, with what may answer them."""

_SIGNING: Final = frozenset({
    "x-amz-algorithm", "x-amz-credential", "x-amz-date", "x-amz-expires", "x-amz-signedheaders", "x-amz-signature",
    "x-amz-security-token",
})
_STAYING: Final = frozenset({*QUERY_NAMES, "x-id", "versionId", "partNumber", "uploadId"})
"""Parameters of most signed URLs, as they are usually written: all of them stay where they are."""
_ALGORITHM: Final = "x-amz-sdk-checksum-algorithm"
_OF_NOTHING: Final = {
    "x-amz-checksum-" + name: b64encode(digest).decode() for name, digest in Digests(CHECKSUMS).digests().items()
}
"""What a signer of URLs that does not know the body takes for its checksum."""
_NAME: Final = re.compile(r"[a-z0-9!#$%&'*+.^_`|~-]+")
"""A token of RFC 9110, in lower case."""
_CONTROL: Final = re.compile(r"[\x00-\x08\x0a-\x1f\x7f]")


class S3Service:
    """Application over a store."""

    def __init__(self, store: StoreAPI, credentials: Mapping[str, str], config: Config, keys: Keys | None = None) -> None:
        self._store = store
        self._credentials = credentials
        self._config = config
        self._region = config.region if config.strict_region else None
        self._documents = Documents()
        self._keys = keys or NoKeys()
        self._hosts = Hosts(config.domains, config.region)
        self._proxies = Proxies(config.trusted_proxies) if config.trusted_proxies else None
        self._verified = Verified()
        self._answered = Answered()
        self._owners = {access_key: root_owner(access_key) for access_key in credentials}

    def __call__(self, request: Request) -> Answer | Promise | Coroutine[Any, Any, Response]:
        """Authenticated here and now; answered here and now too, where nothing has to be waited for."""
        target: Target | None = None
        identity: Identity | None = None
        in_url = "authorization" not in request.headers  # or it is not signed
        try:
            if self._proxies is not None:
                self._proxies.apply(request)
            elif in_url and (again := self._repeated(request)) is not None:
                return again
            good = self._verified.find(request, time.time()) if in_url else None
            if good is not None:
                target, identity = good.target, good.identity
            else:
                target = parse_target(request.target, self._hosts.bucket(request.headers.get("host", "")))
                if request.method != "OPTIONS" and not posting.is_form(request, target):
                    identity = self._first(request, target)
            if identity is not None and target.key and "origin" not in request.headers:
                made: Answer | Promise | None = None
                if request.method in AT_ONCE:
                    made = self._at_once(request, target, identity)
                elif request.method in WRITTEN_AT_ONCE:
                    made = self._write_at_once(request, target, identity)
                if made is not None:
                    return made
        except AbixioError as error:
            refusal = self._refusal(error, request, target)
            return self._for_pages(request, target, refusal) if "origin" in request.headers else refusal
        return self._go_on(request, target, identity)

    async def _go_on(self, request: Request, target: Target, identity: Identity | None) -> Response:
        """What has to be waited for. Without an identity it is a preflight or a form."""
        try:
            if request.method == "OPTIONS":
                return self._signed(request, await cors.preflight(self._store, request, target))
            answer = await (self._post(request, target) if identity is None else self._answer(request, target, identity))
            self._signed(request, answer)
        except AbixioError as error:
            answer = self._refusal(error, request, target)
        return await self._for_pages(request, target, answer)

    async def _for_pages(self, request: Request, target: Target | None, answer: Response) -> Response:
        """With what a page of another origin has to be told."""
        if "origin" in request.headers and target is not None and request.method != "OPTIONS":
            answer.headers += await cors.answer_headers(self._store, request, target.bucket)
        return answer

    @staticmethod
    def _signed(request: Request, answer: Response) -> Response:
        """With what every good answer says of itself."""
        answer.headers += [(ID, request.id), ("x-amz-id-2", HOST_ID), SERVER]
        return answer

    def refuse(self, error: Exception, request_id: str) -> Response:
        """What the transport answers when it could not read a request, or a handler failed."""
        answer = response(from_exception(error), request_id)
        answer.headers.append(SERVER)
        return answer

    def _first(self, request: Request, target: Target) -> Identity:
        """The caller of a request that was not seen before."""
        before, params = len(request.headers), target.params
        identity = self._identify(request, target)
        # What was moved from the URL into the headers would not be there the next time. In a URL of version 2, a parameter
        # of version 4 is anybody's.
        version_4 = params.get("X-Amz-SignedHeaders") == "host" and not is_version_2(params)
        if version_4 and len(request.headers) == before:
            self._verified.keep(request, target, identity)
        return identity

    def _repeated(self, request: Request) -> Repeated | None:
        """The answer to a presigned GET or HEAD that was answered before, if nothing has changed since."""
        good = self._verified.plain(request)
        return None if good is None else good.again(request.id)

    def _at_once(self, request: Request, target: Target, identity: Identity) -> Answer | None:
        """The answer, if it can be told without a wait."""
        given = self._answered.find(request, identity)
        if given is not None:
            again = given.again(request.id, self._store.at_hand(target.bucket, target.key, request.method == "GET"))
            if again is not None:
                return again
        if _operation(request, target) not in AT_ONCE[request.method]:
            return None
        made = objects.read_at_once(self._call(request, target, identity))
        if made is None:
            return None
        answer = self._signed(request, made.response)
        given = self._answered.keep(request, identity, answer, made.source)
        good = self._verified.plain(request)
        if good is not None:
            good.given, good.ask = given, partial(self._store.at_hand, target.bucket, target.key, request.method == "GET")
        return answer

    def _write_at_once(self, request: Request, target: Target, identity: Identity) -> Promise | None:
        """The answer, if nothing has to be waited for but a commit."""
        operation, write = WRITTEN_AT_ONCE[request.method]
        if _operation(request, target) != operation:
            return None

        def end(answer: Response) -> Response:
            return self._signed(request, answer)

        return write(self._call(request, target, identity), end, lambda error: self._refusal(error, request, target))

    async def _answer(self, request: Request, target: Target, identity: Identity) -> Response:
        operation = _operation(request, target)
        handler = HANDLERS.get(operation)
        if handler is None:
            raise S3Error("NotImplemented", f"{operation} is not implemented.")
        return await handler(self._call(request, target, identity))

    async def _post(self, request: Request, target: Target) -> Response:
        """A form, which a policy inside it signs."""
        check_asked_name(target.bucket)
        post = await posting.read_post(request, target.bucket, self._credentials, self._region, time.time())
        return await posting.post_object(self._call(request, target, post.identity), post)

    def _call(self, request: Request, target: Target, identity: Identity) -> Call:
        return Call(
            request, target.bucket, target.key, target.params, identity, self._owners[identity.access_key],
            self._store, self._config, self._documents, self._keys,
        )

    def _identify(self, request: Request, target: Target) -> Identity:
        """Who sent it. From here on the request has all that was signed as headers, wherever it came."""
        if "authorization" not in request.headers and is_version_2(target.params):
            identity = authenticate_url(request, target, self._credentials, time.time())
            for name in CARRIED:
                if name in target.params:
                    _carry(request, name, target.params[name])
        else:
            identity = authenticate(request, target, self._credentials, self._region, time.time())
        if "X-Amz-Signature" in target.params or "Signature" in target.params:
            _unhoist(request, target)
        return identity

    def _refusal(self, error: AbixioError, request: Request, target: Target | None) -> Response:
        found = from_exception(error)
        if target is not None:
            _name_what(found, target)
        answer = response(found, request.id, target.resource if target else "", request.method == "HEAD")
        answer.headers.append(SERVER)
        return answer


def _operation(request: Request, target: Target) -> str:
    """What is asked for, of names that may be asked for."""
    if target.bucket:
        check_asked_name(target.bucket)
    operation = route(request.method, target.bucket, target.key, target.params, copy.HEADER in request.headers)
    if target.key:
        check_key(target.key)
    return operation


def _unhoist(request: Request, target: Target) -> None:
    """Signers of URLs may move `x-amz-*` headers into the query, where they are signed too. They mean the same there, but
    no parser of lines has kept line ends out of them, and they may be sent back as headers. Of two that differ in case only,
    whichever came first could be changed by anybody, as with two values of one parameter.

    The checksum of an empty body is no demand: the JavaScript SDK signs it into the URLs of uploads to come."""
    if target.params.keys() <= _STAYING:
        return
    void = {name.lower() for name, value in target.params.items() if value == _OF_NOTHING.get(name.lower())}
    if void:
        void.add(_ALGORITHM)
    moved: set[str] = set()
    for name, value in target.params.items():
        lower = name.lower()
        if not lower.startswith("x-amz-") or lower in _SIGNING or lower in void:
            continue
        if lower in moved:
            raise _no_header(name, value)
        moved.add(lower)
        _carry(request, lower, value)


def _carry(request: Request, name: str, value: str) -> None:
    """A parameter as the header that it stands for, unless that came too."""
    if not _NAME.fullmatch(name) or _CONTROL.search(value):
        raise _no_header(name, value)
    # Header values are held as latin-1, whatever they are.
    request.headers.setdefault(name, value.strip(" \t").encode().decode("latin-1"))


def _no_header(name: str, value: str) -> S3Error:
    return S3Error("InvalidArgument", "This parameter cannot be a header.", ArgumentName=name, ArgumentValue=value)


def _name_what(error: S3Error, target: Target) -> None:
    """Errors of the store do not know the names that the client used; S3 repeats them."""
    match error.code:
        case "NoSuchBucket" | "BucketNotEmpty" | "BucketAlreadyOwnedByYou":
            error.fields.setdefault("BucketName", target.bucket)
        case "NoSuchKey":
            error.fields.setdefault("Key", target.key)
        case "NoSuchUpload" | "InvalidPart" | "InvalidPartOrder":
            error.fields.setdefault("UploadId", target.params.get("uploadId"))
