"""Operations on buckets: list, create, head, delete, location."""

from __future__ import annotations

from typing import Final

from abixio.config import KIB
from abixio.errors import BucketExists
from abixio.message import Response
from abixio.s3 import acl, grants, locking, ownership, tagging
from abixio.s3.call import Call, iso_date, xml_answer
from abixio.s3.errors import S3Error
from abixio.s3.hosts import REGION
from abixio.s3.listing import decode_token, encode_token
from abixio.s3.metadata import FTT, META, refuse_unsupported
from abixio.s3.names import check_bucket_name
from abixio.s3.versioning import LOCKABLE, SETTING
from abixio.s3.xml import Fragment, Node, document, escape, node, text
from abixio.store.types import Bucket

MAX_CONFIGURATION: Final = 64 * KIB
"""CreateBucketConfiguration holds a region name; 64 KiB is far more than any comment around it."""
MAX_BUCKETS: Final = 10_000
"""One page of ListBuckets, as S3."""
NAMESPACE: Final = "x-amz-bucket-namespace"
"""There is one namespace, for everybody."""
CLASSIC: Final = "us-east-1"
"""S3's first region: its location is the empty string, and creating one's own bucket again succeeds there."""


ALIASES: Final = {"EU": "eu-west-1"}
"""The name that S3's second region had first."""


async def list_buckets(call: Call) -> Response:
    limit = call.integer("max-buckets", MAX_BUCKETS, 1, MAX_BUCKETS)
    prefix = call.query.get("prefix", "")
    region = call.query.get("bucket-region", "")
    after = decode_token(call.query.get("continuation-token", ""))
    found = [
        bucket for bucket in await call.store.buckets()
        if bucket.name.startswith(prefix) and bucket.name > after and region in ("", _region(call, bucket))
    ]
    page = found[:limit]
    more = encode_token(page[-1].name) if len(found) > limit else None
    elements = [
        node("Bucket", text("Name", bucket.name), text("CreationDate", iso_date(bucket.created)),
             text("BucketRegion", _region(call, bucket)), text("BucketArn", _arn(bucket.name)))
        for bucket in page
    ]
    return xml_answer(document(
        "ListAllMyBucketsResult", call.owner.element(), node("Buckets", *elements),
        text("ContinuationToken", more), text("Prefix", prefix or None),
    ))


async def create_bucket(call: Call) -> Response:
    settings = ownership.from_header(call.headers)
    refuse_unsupported(call.headers, grants.HEADERS | {locking.ENABLE})
    settings |= acl.at_creation(call, settings.get(ownership.SETTING, ownership.ENFORCED) != ownership.ENFORCED)
    check_bucket_name(call.bucket_name)
    if call.headers.get(NAMESPACE, "global") != "global":
        raise S3Error("NotImplemented", Header=NAMESPACE)
    if call.headers.get(locking.ENABLE, "").lower() == "true":
        settings |= {LOCKABLE: "", SETTING: "Enabled"}
    ftt = call.headers.get(META + FTT)
    if ftt is not None:
        settings["ftt"] = _fault_tolerance(ftt, call.store.n)
    configuration = await _configuration(call)
    settings |= tagging.at_creation(configuration)
    settings["region"] = _asked_region(call, configuration)
    answer = Response(200, [("Location", _location(call, settings["region"])), ("x-amz-bucket-arn", _arn(call.bucket_name))])
    try:
        await call.store.create_bucket(call.bucket_name, call.owner.id, settings)
    except BucketExists:
        await _check_recreation(call)
    return answer


async def head_bucket(call: Call) -> Response:
    bucket = await call.bucket()
    return Response(200, [
        ("x-amz-bucket-region", _region(call, bucket)), ("x-amz-access-point-alias", "false"),
        ("x-amz-bucket-arn", _arn(bucket.name)), ("Content-Type", "application/xml"), ("Content-Length", "0"),
    ])


async def delete_bucket(call: Call) -> Response:
    bucket = await call.bucket()
    await call.store.delete_bucket(bucket.name)
    return Response(204)


async def get_bucket_location(call: Call) -> Response:
    region = _region(call, await call.bucket())
    return xml_answer(document("LocationConstraint", Fragment("" if region == CLASSIC else escape(region))))


def _location(call: Call, region: str) -> str:
    """Where the new bucket is: S3's first region names it relative to the service, others by its whole address."""
    return "/" + call.bucket_name if region == CLASSIC else call.place.rstrip("/") + "/"


def _asked_region(call: Call, configuration: Node) -> str:
    """The region that the body names. Amazon has an endpoint for each, which creates buckets in its own; and one that serves
    all, which belongs to `us-east-1`. Here a client that signs for a region is taken to be at the endpoint of that one."""
    own, strict, endpoint = call.config.region, call.config.strict_region, call.identity.region
    named = configuration.text("LocationConstraint")
    if named is None:
        if strict and own != CLASSIC:
            raise S3Error("IllegalLocationConstraintException")
        return own
    wanted = ALIASES.get(named.strip(), named.strip())
    if wanted == own or (not strict and wanted == endpoint):
        return wanted
    if not REGION.fullmatch(wanted):
        raise S3Error("InvalidLocationConstraint", LocationConstraint=wanted)
    if not strict and endpoint == CLASSIC:
        return wanted
    raise S3Error(
        "IllegalLocationConstraintException",
        f"The {wanted} location constraint is incompatible for the region specific endpoint this request was sent to.",
    )


async def _configuration(call: Call) -> Node:
    """The document of the request, which may be left out."""
    if call.request.body.length == 0:
        return Node("CreateBucketConfiguration")
    configuration = await call.document("CreateBucketConfiguration", MAX_CONFIGURATION)
    for child in configuration.children:
        if child.name not in ("LocationConstraint", "Tags") and (child.value.strip() or child.children):
            raise S3Error("NotImplemented", f"{child.name} of a bucket is not implemented.")
    return configuration


async def _check_recreation(call: Call) -> None:
    """Creating a bucket again: success where S3's first region says so, if it is one's own; else 409."""
    bucket = await call.store.bucket(call.bucket_name)
    if bucket.owner != call.owner.id:
        raise S3Error("BucketAlreadyExists", BucketName=bucket.name)
    if call.config.region != CLASSIC:
        raise S3Error("BucketAlreadyOwnedByYou", BucketName=bucket.name)


def _fault_tolerance(value: str, n: int) -> str:
    if not (value.isascii() and value.isdigit() and len(value) <= 2 and int(value) < n):
        raise S3Error("InvalidArgument", f"The fault tolerance must be an integer from 0 to {n - 1}.",
                      ArgumentName=META + FTT, ArgumentValue=value)
    return str(int(value))


def _arn(name: str) -> str:
    """The name of a bucket among all things of Amazon's."""
    return f"arn:aws:s3:::{name}"


def _region(call: Call, bucket: Bucket) -> str:
    return bucket.settings.get("region") or call.config.region
