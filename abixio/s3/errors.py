"""Every S3 error this server can give, and the one place where any other error becomes one of them.

Codes, statuses and messages are those of Amazon S3, because clients switch on the code and people search the web for
the message. Handlers raise `S3Error`; errors of the layers below are turned by `from_exception`, once, at the edge.
"""

from __future__ import annotations

from collections.abc import Sequence
from email.utils import formatdate
from typing import Final

from abixio import errors
from abixio.config import MAX_OBJECT, MIN_PART
from abixio.message import Response
from abixio.s3.xml import Fragment, document, readable, text

HOST_ID: Final = "abixio"
"""Amazon names the node that answered; one server has nothing to tell apart, and clients only log it."""

CODES: Final[dict[str, tuple[int, str]]] = {
    # ---- 400: the request is wrong -----------------------------------------------------------------------------------
    "AccessControlListNotSupported": (400, "The bucket does not allow ACLs"),
    "AuthorizationHeaderMalformed": (400, "The authorization header that you provided is not valid."),
    "AuthorizationQueryParametersError": (400, "The authorization query parameters that you provided are not valid."),
    "BadDigest": (400, "The Content-MD5 you specified did not match what we received."),
    "BadRequest": (400, "An error occurred when parsing the HTTP request."),
    "EntityTooLarge": (400, "Your proposed upload exceeds the maximum allowed size"),
    "EntityTooSmall": (400, "Your proposed upload is smaller than the minimum allowed size"),
    "IdempotencyParameterMismatch": (
        400, "Parameters on this idempotent request are inconsistent with parameters used in previous request(s)."
    ),
    "IllegalLocationConstraintException": (
        400, "The unspecified location constraint is incompatible for the region specific endpoint this request was sent to."
    ),
    "IllegalVersioningConfigurationException": (
        400, "The Versioning element must be specified"
    ),
    "IncompleteBody": (400, "You did not provide the number of bytes specified by the Content-Length HTTP header."),
    "InvalidArgument": (400, "Invalid Argument"),
    "InvalidBucketAclWithBlockPublicAccessError": (
        400, "Bucket cannot have public ACLs set with BlockPublicAccess enabled"
    ),
    "InvalidBucketAclWithObjectOwnership": (
        400, "Bucket cannot have ACLs set with ObjectOwnership's BucketOwnerEnforced setting"
    ),
    "InvalidBucketName": (400, "The specified bucket is not valid."),
    "InvalidDigest": (400, "The Content-MD5 you specified was invalid."),
    "InvalidEncryptionAlgorithmError": (400, "The Encryption request you specified is not valid. Supported value: AES256."),
    "InvalidLocationConstraint": (400, "The specified location-constraint is not valid"),
    "InvalidPart": (
        400, "One or more of the specified parts could not be found.  The part may not have been uploaded, "
        "or the specified entity tag may not match the part's entity tag."
    ),
    "InvalidPartOrder": (400, "The list of parts was not in ascending order. Parts must be ordered by part number."),
    "InvalidPolicyDocument": (400, "The content of the form does not meet the conditions specified in the policy document."),
    "InvalidRedirectLocation": (
        400, "The website redirect location must have a prefix of 'http://' or 'https://' or '/'."
    ),
    "InvalidRequest": (400, "Invalid Request"),
    "InvalidStorageClass": (400, "The storage class you specified is not valid"),
    "InvalidTag": (400, "The tag provided was not a valid tag."),
    "InvalidToken": (400, "The provided token is malformed or otherwise invalid."),
    "InvalidWriteOffset": (400, "The write offset value that you specified does not match the current object size."),
    "InvalidURI": (400, "Couldn't parse the specified URI."),
    "KMS.NotFoundException": (
        400, "The request was rejected because the specified entity or resource could not be found."
    ),
    "KeyTooLongError": (400, "Your key is too long"),
    "MalformedACLError": (400, "The XML you provided was not well-formed or did not validate against our published schema"),
    "MalformedPOSTRequest": (400, "The body of your POST request is not well-formed multipart/form-data."),
    "MalformedTrailerError": (
        400, "The request contained trailing data that was not well-formed or did not conform to our published schema."
    ),
    "MalformedXML": (400, "The XML you provided was not well-formed or did not validate against our published schema"),
    "MaxMessageLengthExceeded": (400, "Your request was too large."),
    "MaxPostPreDataLengthExceededError": (400, "Your POST request fields preceding the upload file were too large."),
    "MetadataTooLarge": (400, "Your metadata headers exceed the maximum allowed metadata size"),
    "MissingRequestBodyError": (400, "Request body is empty."),
    "MissingSecurityHeader": (400, "Your request was missing a required header"),
    "RequestHeaderSectionTooLarge": (400, "Your request header section exceeds the maximum allowed request header section size"),
    "RequestTimeout": (
        400, "Your socket connection to the server was not read from or written to within the timeout period. "
        "Idle connections will be closed."
    ),
    "TooManyParts": (
        400, "You have attempted to add more parts than the maximum of 10000 that are allowed for this object. You can use the "
        "CopyObject operation to copy this object to another and then add more data to the newly copied object."
    ),
    "TooManyConfigurations": (
        400, "You are attempting to create a new configuration but have already reached the 1,000-configuration limit."
    ),
    "UnexpectedContent": (400, "This request does not support content"),
    "UnresolvableGrantByEmailAddress": (400, "The email address you provided does not match any account on record."),
    "XAmzContentSHA256Mismatch": (400, "The provided 'x-amz-content-sha256' header does not match what was computed."),
    # ---- 403: who are you --------------------------------------------------------------------------------------------
    "AccessDenied": (403, "Access Denied"),
    "AccessForbidden": (403, "CORSResponse: CORS is not enabled for this bucket."),
    "InvalidAccessKeyId": (403, "The AWS Access Key Id you provided does not exist in our records."),
    "InvalidChunkSizeError": (403, "Only the last chunk is allowed to have a size less than 8192 bytes"),
    "InvalidObjectState": (403, "The operation is not valid for the object's storage class"),
    "RequestTimeTooSkewed": (403, "The difference between the request time and the current time is too large."),
    "SignatureDoesNotMatch": (
        403, "The request signature we calculated does not match the signature you provided. Check your key and signing method."
    ),
    # ---- 404 and 405: not there, not for this ------------------------------------------------------------------------
    "MetadataConfigurationNotFound": (404, "The metadata configuration was not found"),
    "NoSuchBucket": (404, "The specified bucket does not exist"),
    "NoSuchBucketPolicy": (404, "The bucket policy does not exist"),
    "NoSuchCORSConfiguration": (404, "The CORS configuration does not exist"),
    "NoSuchConfiguration": (404, "The specified configuration does not exist."),
    "NoSuchKey": (404, "The specified key does not exist."),
    "NoSuchLifecycleConfiguration": (404, "The lifecycle configuration does not exist"),
    "NoSuchPublicAccessBlockConfiguration": (404, "The public access block configuration was not found"),
    "NoSuchObjectLockConfiguration": (404, "The specified object does not have a ObjectLock configuration"),
    "NoSuchTagSet": (404, "The TagSet does not exist"),
    "NoSuchUpload": (
        404, "The specified upload does not exist. The upload ID may be invalid, "
        "or the upload may have been aborted or completed."
    ),
    "NoSuchVersion": (404, "The specified version does not exist."),
    "NoSuchWebsiteConfiguration": (404, "The specified bucket does not have a website configuration"),
    "OwnershipControlsNotFoundError": (404, "The bucket ownership controls were not found"),
    "ObjectLockConfigurationNotFoundError": (404, "Object Lock configuration does not exist for this bucket"),
    "ReplicationConfigurationNotFoundError": (404, "The replication configuration was not found"),
    "ServerSideEncryptionConfigurationNotFoundError": (404, "The server side encryption configuration was not found"),
    "MethodNotAllowed": (405, "The specified method is not allowed against this resource."),
    # ---- 409 to 416: not now, not like this --------------------------------------------------------------------------
    "BucketAlreadyExists": (
        409, "The requested bucket name is not available. The bucket namespace is shared by all users of the system. "
        "Please select a different name and try again."
    ),
    "BucketAlreadyOwnedByYou": (409, "Your previous request to create the named bucket succeeded and you already own it."),
    "BucketNotEmpty": (409, "The bucket you tried to delete is not empty"),
    "ConditionalRequestConflict": (
        409, "The conditional request cannot succeed due to a conflicting operation against this resource."
    ),
    "InvalidBucketState": (409, "The request is not valid with the current state of the bucket."),
    "MissingContentLength": (411, "You must provide the Content-Length HTTP header."),
    "PreconditionFailed": (412, "At least one of the pre-conditions you specified did not hold"),
    "InvalidPartNumber": (416, "The requested partnumber is not satisfiable"),
    "InvalidRange": (416, "The requested range is not satisfiable"),
    # ---- 5xx: our side -----------------------------------------------------------------------------------------------
    "InternalError": (500, "We encountered an internal error. Please try again."),
    "NotImplemented": (501, "A header you provided implies functionality that is not implemented"),
    "ServiceUnavailable": (503, "Please reduce your request rate."),
    "SlowDown": (503, "Please reduce your request rate."),
    "InsufficientStorage": (507, "There is not enough room left on the storage to do what you asked."),
}
"""Code -> status and message. `InsufficientStorage` is the only one that Amazon does not have."""

EMPTY_VERSION: Final = "Version id cannot be the empty string"
KEY_NEEDED: Final = (
    "The object was stored using a form of Server Side Encryption. The correct parameters must be provided to retrieve the "
    "object."
)
WRONG_KEY: Final = (
    "Requests specifying Server Side Encryption with Customer provided keys must provide the correct secret key."
)
KEY_UNKNOWN: Final = "The server's key file lacks the key that this object is encrypted with."
UNAVAILABLE: Final = "Too few volumes answer right now to serve this request safely. Nothing was changed. Please try again."
DATA_LOST: Final = "Too few intact shards of this object can be read right now. Please try again."
UNKNOWN: Final = "The outcome of this write is not known yet; it will be resolved to all or nothing. Please try again."


class S3Error(errors.AbixioError):
    """An error as the client will see it: a code of the table, perhaps another message, and what S3 adds to that code.

    `fields` become elements of the XML in the order given, for example `S3Error("NoSuchKey", Key=key)`; `None` leaves an
    element out. Names that are no identifiers, like X-Amz-Expires, are put into `error.fields`. `headers` go into the response as
    they are: `Allow` of a 405, `Content-Range` of a 416.
    """

    def __init__(
        self, code: str, message: str | None = None, headers: Sequence[tuple[str, str]] = (), **fields: str | int | None
    ) -> None:
        self.code = code
        self.status, standard = CODES[code]
        self.message = standard if message is None else message
        self.headers = list(headers)
        self.fields = fields
        super().__init__(f"{code}: {self.message}")


SIMPLE: Final[tuple[tuple[type[Exception], str, str | None], ...]] = (
    (errors.NoSuchBucket, "NoSuchBucket", None),
    (errors.BucketExists, "BucketAlreadyOwnedByYou", None),
    (errors.BucketNotEmpty, "BucketNotEmpty", None),
    (errors.NoSuchKey, "NoSuchKey", None),
    (errors.NoSuchUpload, "NoSuchUpload", None),
    (errors.NoSuchVersion, "NoSuchVersion", None),
    (errors.IsDeleteMarker, "MethodNotAllowed", None),
    (errors.ObjectLocked, "AccessDenied", "Access Denied because object protected by object lock."),
    (errors.InvalidBucketState, "InvalidBucketState", None),
    (errors.KeyNeeded, "InvalidRequest", KEY_NEEDED),
    (errors.WrongKey, "AccessDenied", WRONG_KEY),
    (errors.InvalidWriteOffset, "InvalidWriteOffset", None),
    (errors.TooManyParts, "TooManyParts", None),
    (errors.IdempotencyMismatch, "IdempotencyParameterMismatch", None),
    (errors.ConditionalConflict, "ConditionalRequestConflict", None),
    (errors.InvalidPartOrder, "InvalidPartOrder", None),
    (errors.Overloaded, "SlowDown", None),
    (errors.Unavailable, "ServiceUnavailable", UNAVAILABLE),
    (errors.DataLost, "ServiceUnavailable", DATA_LOST),
    (errors.InsufficientStorage, "InsufficientStorage", None),
    (errors.OutcomeUnknown, "InternalError", UNKNOWN),
    (errors.HeadTooLarge, "RequestHeaderSectionTooLarge", None),
    (errors.RequestTimeout, "RequestTimeout", None),
    (errors.IncompleteBody, "IncompleteBody", None),
    (errors.ClientDisconnected, "RequestTimeout", None),
    (errors.RequestError, "BadRequest", None),
)
"""Errors that need no more than a code; subclasses stand before their bases."""


def from_exception(error: BaseException) -> S3Error:
    """The S3Error for anything that a handler or the wire raised. What is not expected here is an InternalError without
    any detail: its text may hold what no client should see."""
    if isinstance(error, S3Error):
        return error
    argument = str(error.args[0]) if error.args else None
    match error:
        case errors.PreconditionFailed():
            return S3Error("PreconditionFailed", Condition=argument)
        case errors.DigestMismatch():
            return S3Error("BadDigest", argument and digest_message(argument))
        case errors.InvalidFaultTolerance():
            return S3Error("InvalidArgument", argument, ArgumentName="x-amz-meta-ec-ftt")
        case errors.NoSuchVersion(args=(key, version)):
            return S3Error("NoSuchVersion", Key=str(key), VersionId=str(version))
        case errors.InvalidVersionId():
            return S3Error("InvalidArgument", "Invalid version id specified" if argument else EMPTY_VERSION,
                           ArgumentName="versionId", ArgumentValue=argument)
        case errors.IsDeleteMarker(args=(key, version, named, modified)):
            return _delete_marker(str(key), str(version), bool(named), int(modified))
        case errors.CannotAppend():
            return S3Error("InvalidRequest", f"Nothing can be appended to {argument}.")
        case errors.CannotRename():
            return S3Error("InvalidRequest", f"There is no renaming {argument}.")
        case errors.KeyUnknown():
            return S3Error("KMS.NotFoundException", f"Key '{argument}' does not exist") if argument else _key_unknown()
        case errors.InvalidPart():
            return _about_part("InvalidPart", error)
        case errors.PartTooSmall():
            return _about_part("EntityTooSmall", error, MIN_PART)
        case errors.EntityTooLarge():
            return S3Error("EntityTooLarge", MaxSizeAllowed=MAX_OBJECT)
        case _:
            for kind, code, message in SIMPLE:
                if isinstance(error, kind):
                    return S3Error(code, message)
    return S3Error("InternalError")


def _delete_marker(key: str, version: str, named: bool, modified: int) -> S3Error:
    """404 when the marker is what is current, 405 when it was asked for by its id."""
    headers = [("x-amz-delete-marker", "true"), ("x-amz-version-id", version)]
    if not named:
        return S3Error("NoSuchKey", headers=headers, Key=key)
    headers += [("Allow", "DELETE"), ("Last-Modified", formatdate(modified // 1000, usegmt=True))]
    return S3Error("MethodNotAllowed", headers=headers, ResourceType="DeleteMarker")


def _key_unknown() -> S3Error:
    return S3Error("InternalError", KEY_UNKNOWN)


def of_copy_source(error: errors.IsDeleteMarker) -> S3Error:
    """A delete marker cannot be copied; only one that is asked for by its id is called one."""
    key, _, named, _ = error.args
    if not named:
        return S3Error("NoSuchKey", Key=str(key))
    return S3Error("InvalidRequest", "The source of a copy request may not specifically refer to a delete marker by version id.")


def _about_part(code: str, error: errors.ClientError, least: int | None = None) -> S3Error:
    """With what the store says of the part."""
    found = S3Error(code, MinSizeAllowed=least)
    found.fields.update(zip(("PartNumber", "ETag", "ProposedSize"), map(str, error.args), strict=False))
    return found


def digest_message(algorithm: str) -> str:
    """What S3 says when a body does not match an x-amz-checksum-*; a wrong Content-MD5 has the message of the table."""
    return f"The {algorithm.upper()} you specified did not match the calculated checksum."


CLOSING: Final = frozenset({"BadRequest", "RequestHeaderSectionTooLarge", "RequestTimeout", "IncompleteBody"})
"""After these nobody knows where the next request begins."""


def response(error: S3Error, request_id: str, resource: str = "", head: bool = False) -> Response:
    """The answer that tells the client of `error`. `resource` is the path of the request; `head` leaves the body out."""
    headers = [("x-amz-request-id", request_id), ("x-amz-id-2", HOST_ID), *error.headers]
    close = error.code in CLOSING
    if head:
        return Response(error.status, headers, b"", close)
    headers.append(("Content-Type", "application/xml"))
    return Response(error.status, headers, body(error, request_id, resource), close)


def body(error: S3Error, request_id: str, resource: str) -> bytes:
    """The error document. It has no namespace, as that of S3."""
    details = [text(name, readable(value) if isinstance(value, str) else value) for name, value in error.fields.items()]
    if resource and "Resource" not in error.fields:
        details.append(text("Resource", readable(resource)))
    return document("Error", *headline(error), *details, text("RequestId", request_id), text("HostId", HOST_ID), namespace="")


def headline(error: S3Error) -> tuple[Fragment, Fragment]:
    """Code and message as elements: also what one failed key in the answer of DeleteObjects says."""
    return text("Code", error.code), text("Message", readable(error.message))
