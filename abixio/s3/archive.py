"""RestoreObject. Storage classes change nothing here, so no object is ever archived, and of most classes S3 itself says that
there is nothing to restore. Of the archive classes it would promise a copy that is not there: all can be read as they are."""

from __future__ import annotations

from typing import Final

from abixio.message import Response
from abixio.s3.call import Call
from abixio.s3.errors import S3Error
from abixio.s3.metadata import storage_class

ARCHIVES: Final = frozenset({"GLACIER", "DEEP_ARCHIVE", "INTELLIGENT_TIERING"})
"""Classes of which S3 restores objects."""


async def restore_object(call: Call) -> Response:
    """InvalidObjectState, or NotImplemented."""
    info = await call.store.head(await call.bucket(), call.key, call.version)
    if storage_class(info) in ARCHIVES:
        raise S3Error("NotImplemented", "No object is archived here: it can be read as it is.")
    raise S3Error("InvalidObjectState", "Restore is not allowed for the object's current storage class")
