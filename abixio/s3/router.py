"""Which operation of S3 a request is: from its method, whether its path names a bucket or a key, and the sub-resource in
its query. Every sub-resource of S3 is known here, also those that are not served yet, so that `PUT key?tagging` can never
be taken for PutObject."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final

from abixio.s3.errors import S3Error

Table = Mapping[str, Mapping[str, str]]
"""Sub-resource -> method -> operation; the sub-resource "" is the plain path."""

SERVICE: Final[Table] = {
    "": {"GET": "ListBuckets"},
    "max-directory-buckets": {"GET": "ListDirectoryBuckets"},
}

BUCKET: Final[Table] = {
    "": {"GET": "ListObjects", "HEAD": "HeadBucket", "PUT": "CreateBucket", "DELETE": "DeleteBucket", "POST": "PostObject"},
    "abac": {"GET": "GetBucketAbac", "PUT": "PutBucketAbac"},
    "accelerate": {"GET": "GetBucketAccelerateConfiguration", "PUT": "PutBucketAccelerateConfiguration"},
    "acl": {"GET": "GetBucketAcl", "PUT": "PutBucketAcl"},
    "analytics": {"GET": "GetBucketAnalyticsConfiguration", "PUT": "PutBucketAnalyticsConfiguration",
                  "DELETE": "DeleteBucketAnalyticsConfiguration"},
    "cors": {"GET": "GetBucketCors", "PUT": "PutBucketCors", "DELETE": "DeleteBucketCors"},
    "delete": {"POST": "DeleteObjects"},
    "encryption": {"GET": "GetBucketEncryption", "PUT": "PutBucketEncryption", "DELETE": "DeleteBucketEncryption"},
    "intelligent-tiering": {"GET": "GetBucketIntelligentTieringConfiguration", "PUT": "PutBucketIntelligentTieringConfiguration",
                            "DELETE": "DeleteBucketIntelligentTieringConfiguration"},
    "inventory": {"GET": "GetBucketInventoryConfiguration", "PUT": "PutBucketInventoryConfiguration",
                  "DELETE": "DeleteBucketInventoryConfiguration"},
    "lifecycle": {"GET": "GetBucketLifecycleConfiguration", "PUT": "PutBucketLifecycleConfiguration",
                  "DELETE": "DeleteBucketLifecycle"},
    "location": {"GET": "GetBucketLocation"},
    "logging": {"GET": "GetBucketLogging", "PUT": "PutBucketLogging"},
    "metadataAnnotationTable": {"PUT": "UpdateBucketMetadataAnnotationTableConfiguration"},
    "metadataConfiguration": {"GET": "GetBucketMetadataConfiguration", "POST": "CreateBucketMetadataConfiguration",
                              "DELETE": "DeleteBucketMetadataConfiguration"},
    "metadataInventoryTable": {"PUT": "UpdateBucketMetadataInventoryTableConfiguration"},
    "metadataJournalTable": {"PUT": "UpdateBucketMetadataJournalTableConfiguration"},
    "metadataTable": {"GET": "GetBucketMetadataTableConfiguration", "POST": "CreateBucketMetadataTableConfiguration",
                      "DELETE": "DeleteBucketMetadataTableConfiguration"},
    "metrics": {"GET": "GetBucketMetricsConfiguration", "PUT": "PutBucketMetricsConfiguration",
                "DELETE": "DeleteBucketMetricsConfiguration"},
    "notification": {"GET": "GetBucketNotificationConfiguration", "PUT": "PutBucketNotificationConfiguration"},
    "object-lock": {"GET": "GetObjectLockConfiguration", "PUT": "PutObjectLockConfiguration"},
    "ownershipControls": {"GET": "GetBucketOwnershipControls", "PUT": "PutBucketOwnershipControls",
                          "DELETE": "DeleteBucketOwnershipControls"},
    "policy": {"GET": "GetBucketPolicy", "PUT": "PutBucketPolicy", "DELETE": "DeleteBucketPolicy"},
    "policyStatus": {"GET": "GetBucketPolicyStatus"},
    "publicAccessBlock": {"GET": "GetPublicAccessBlock", "PUT": "PutPublicAccessBlock", "DELETE": "DeletePublicAccessBlock"},
    "replication": {"GET": "GetBucketReplication", "PUT": "PutBucketReplication", "DELETE": "DeleteBucketReplication"},
    "requestPayment": {"GET": "GetBucketRequestPayment", "PUT": "PutBucketRequestPayment"},
    "session": {"GET": "CreateSession"},
    "tagging": {"GET": "GetBucketTagging", "PUT": "PutBucketTagging", "DELETE": "DeleteBucketTagging"},
    "uploads": {"GET": "ListMultipartUploads"},
    "versioning": {"GET": "GetBucketVersioning", "PUT": "PutBucketVersioning"},
    "versions": {"GET": "ListObjectVersions"},
    "website": {"GET": "GetBucketWebsite", "PUT": "PutBucketWebsite", "DELETE": "DeleteBucketWebsite"},
}

OBJECT: Final[Table] = {
    "": {"GET": "GetObject", "HEAD": "HeadObject", "PUT": "PutObject", "DELETE": "DeleteObject"},
    "acl": {"GET": "GetObjectAcl", "PUT": "PutObjectAcl"},
    "annotation": {"GET": "GetObjectAnnotation", "PUT": "PutObjectAnnotation", "DELETE": "DeleteObjectAnnotation"},
    "attributes": {"GET": "GetObjectAttributes"},
    "encryption": {"PUT": "UpdateObjectEncryption"},
    "legal-hold": {"GET": "GetObjectLegalHold", "PUT": "PutObjectLegalHold"},
    "renameObject": {"PUT": "RenameObject"},
    "restore": {"POST": "RestoreObject"},
    "retention": {"GET": "GetObjectRetention", "PUT": "PutObjectRetention"},
    "select": {"POST": "SelectObjectContent"},
    "tagging": {"GET": "GetObjectTagging", "PUT": "PutObjectTagging", "DELETE": "DeleteObjectTagging"},
    "torrent": {"GET": "GetObjectTorrent"},
    "uploadId": {"GET": "ListParts", "PUT": "UploadPart", "POST": "CompleteMultipartUpload", "DELETE": "AbortMultipartUpload"},
    "uploads": {"POST": "CreateMultipartUpload"},
}

_LISTS: Final[Mapping[str, str]] = {
    "GetBucketAnalyticsConfiguration": "ListBucketAnalyticsConfigurations",
    "GetBucketIntelligentTieringConfiguration": "ListBucketIntelligentTieringConfigurations",
    "GetBucketInventoryConfiguration": "ListBucketInventoryConfigurations",
    "GetBucketMetricsConfiguration": "ListBucketMetricsConfigurations",
}
"""What these become without an `id`."""
_PLAIN: Final = OBJECT[""]
_KNOWN: Final = (BUCKET.keys() | OBJECT.keys()) - {""}
SUB_RESOURCES: Final = _KNOWN | {"partNumber", "versionId"}
"""All parameters that decide which operation on which thing a request is."""
_LAMBDA_PATH: Final = "WriteGetObjectResponse"


def route(method: str, bucket: str, key: str, query: Collection[str], copies: bool) -> str:
    """The name of the operation, as in the S3 API. `query`: the names in the query string; `copies`: the request has an
    x-amz-copy-source header. MethodNotAllowed or InvalidArgument when S3 has no such operation."""
    if not bucket:
        return _pick(SERVICE, method, [name for name in query if name in SERVICE])
    if bucket == _LAMBDA_PATH and method == "POST":
        return _LAMBDA_PATH
    found = [] if _KNOWN.isdisjoint(query) else [name for name in query if name in _KNOWN]
    if key and not found and not copies and method in _PLAIN and "partNumber" not in query:
        return _PLAIN[method]
    if copies and method != "PUT" and (method != "POST" or "uploadId" in found):
        raise S3Error("InvalidArgument", "You can only specify a copy source header for copy requests.",
                      ArgumentName="x-amz-copy-source")
    if not key:
        operation = _pick(BUCKET, method, found)
        if operation == "ListObjects" and "list-type" in query:
            return "ListObjectsV2"
        return operation if "id" in query else _LISTS.get(operation, operation)
    if len(found) == 1 and method not in OBJECT.get(found[0], {}) and method in BUCKET.get(found[0], {}):
        raise S3Error("InvalidRequest", f"Key is not expected for the {method} method ?{found[0]} subresource")
    operation = _pick(OBJECT, method, found)
    if operation == "UploadPart" and "partNumber" not in query:
        raise S3Error("MethodNotAllowed", headers=[("Allow", "DELETE, POST, GET")], Method=method, ResourceType="UPLOAD")
    if operation == "PutObject" and "partNumber" in query:
        raise S3Error("InvalidArgument", "This operation does not accept partNumber without uploadId", ArgumentName="partNumber",
                      ArgumentValue="partNumber")
    if copies:
        return {"PutObject": "CopyObject", "UploadPart": "UploadPartCopy"}.get(operation, operation)
    return operation


def _pick(table: Table, method: str, found: list[str]) -> str:
    if len(found) > 1:
        names = ", ".join(sorted(found))
        raise S3Error("InvalidArgument", f"Conflicting query string parameters: {names}", ArgumentName="ResourceType",
                      ArgumentValue=found[0])
    methods = table.get(found[0] if found else "", {})
    operation = methods.get(method)
    if operation is None:
        raise S3Error("MethodNotAllowed", headers=[("Allow", ", ".join(methods))], Method=method,
                      ResourceType=(found[0] if found else "OBJECT").upper())
    return operation
