"""Every exception that crosses a layer, one line each. An error says whose fault it was; `abixio.s3.errors` turns it
into an S3 code, once, at the edge. No OSError, apsw or parser error leaves the layer it was raised in."""


class AbixioError(Exception):
    """Base of all errors that abixio raises on purpose."""


class StartupError(AbixioError):
    """The server cannot start; the text names the directory or flag and what to do. The process ends with status 2."""


class IdentityDamaged(StartupError):
    """One volume's own description cannot be read or is not whole: a pool can start without that volume."""


# ---- the request on the wire (raised by http and transport) ----------------------------------------------------------
class RequestError(AbixioError):
    """The bytes the client sent are not a request that can be served."""


class BadRequest(RequestError):
    """Malformed head or framing; the connection cannot be used any further."""


class HeadTooLarge(RequestError):
    """The request head is over the limit of bytes or of header lines."""


class UnsupportedExpectation(RequestError):
    """The client expects something other than `100-continue` (417)."""


class RequestTimeout(RequestError):
    """The client was too slow with its head or its body."""


class ClientDisconnected(RequestError):
    """The client went away; nobody will read an answer."""


class IncompleteBody(RequestError):
    """The body ended before its announced length, or its framing is broken."""


# ---- what the caller asked for (raised by store) ---------------------------------------------------------------------
class ClientError(AbixioError):
    """The caller asked for something that is not there, not allowed or not valid."""


class NoSuchBucket(ClientError): ...
class BucketExists(ClientError): ...
class BucketNotEmpty(ClientError): ...
class NoSuchKey(ClientError): ...
class NoSuchUpload(ClientError): ...
class NoSuchVersion(ClientError): ...


class IsDeleteMarker(ClientError):
    """What was asked for is a delete marker: the current version (404) or the one named (405). args: the key, the version id,
    whether the id was asked for, its Last-Modified."""


class InvalidVersionId(ClientError):
    """That is not what a version id looks like."""


class InvalidBucketState(ClientError):
    """The bucket's settings do not allow that."""


class ObjectLocked(ClientError):
    """Retention or a legal hold protects the version."""


class InvalidFaultTolerance(ClientError):
    """FTT is not an integer in 0..N-1."""


class InvalidPart(ClientError):
    """A part named in a completion is not there, or its ETag or checksum is another."""


class InvalidPartOrder(ClientError): ...


class PartTooSmall(ClientError):
    """A part other than the last is under 5 MiB."""


class EntityTooLarge(ClientError): ...


class InvalidWriteOffset(ClientError):
    """Where the client wants to append is not the end of the object; args[0] is the offset."""


class TooManyParts(ClientError):
    """The object has as many parts as an object may have."""


class CannotAppend(ClientError):
    """args[0] is what nothing can be appended to."""


class CannotRename(ClientError):
    """args[0] is what cannot be renamed."""


class IdempotencyMismatch(ClientError):
    """The client's token was used before, for another rename."""


class ConditionalConflict(ClientError):
    """Somebody else changed the key meanwhile; the whole request can be sent again."""


class PreconditionFailed(ClientError):
    """args[0] names the condition that did not hold, as S3 spells the header."""


class KeyNeeded(ClientError):
    """The object is encrypted, and who asks for it gives no key."""


class WrongKey(ClientError):
    """The key is not the one that the object is encrypted with."""


class DigestMismatch(ClientError):
    """The body does not match a digest that the client sent; args[0] is the algorithm."""


# ---- the pool (raised by store) --------------------------------------------------------------------------------------
class Unavailable(AbixioError):
    """Too few volumes answer now; nothing was changed. Try again later (503)."""


class Overloaded(AbixioError):
    """A queue or the memory budget is full (503 SlowDown)."""


class OutcomeUnknown(AbixioError):
    """A write could neither be committed nor taken back on enough volumes; it will be resolved later (500)."""


class DataLost(AbixioError):
    """Fewer than k good shards of an object are readable now: an error, never wrong bytes."""


class KeyUnknown(AbixioError):
    """The key file lacks the key that an object is encrypted with."""


class InsufficientStorage(AbixioError):
    """Too few volumes have room (507)."""


# ---- one volume (raised by volume) -----------------------------------------------------------------------------------
class VolumeError(AbixioError):
    """An operation on one volume failed; its outcome there is unknown unless a subclass says more."""


class VolumeUnusable(VolumeError):
    """The volume is closed, gone or failed a sync: it does not answer until it is opened again."""


class VolumeGone(VolumeUnusable):
    """The volume's directory is not there any more, or is another one; it may be opened again when it returns."""


class WouldBlock(VolumeError):
    """The answer is not in memory, and the caller did not want to wait for the disk."""


class VolumeFull(VolumeError):
    """No room; nothing was changed."""


class Exhausted(VolumeFull):
    """No descriptors or no memory left: ours, and not the disk's."""


class VolumeReadOnly(VolumeError):
    """The volume cannot be written; nothing was changed."""


class NewerExists(VolumeError):
    """The volume refuses a row because it holds a newer one of the same key."""


class ShardMissing(VolumeError):
    """The volume has no shard of that write id."""


class ShardCorrupt(VolumeError):
    """A shard's length, footer, block checksum or sector is not good."""


class CatalogCorrupt(VolumeError):
    """SQLite found the catalog malformed, or it is of an unknown format."""
