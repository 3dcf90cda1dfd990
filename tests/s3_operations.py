"""The table of operations in docs/s3.md, and botocore's model of S3 to compare it with."""

from __future__ import annotations

import re
from pathlib import Path

import botocore
import botocore.session

MODEL = botocore.session.get_session().get_service_model("s3")
_PAGE = (Path(__file__).parents[1] / "docs" / "s3.md").read_text()
LINES = re.findall(r"^\| (\w+) \| (done|partial|not yet) \|", _PAGE, re.MULTILINE)
STATUS = dict(LINES)
"""Operation -> done, partial, not yet."""
_made = re.search(r"botocore (\d+(?:\.\d+)+)", _PAGE)
assert _made is not None
SAME_MODEL = botocore.__version__ == _made[1]
"""Whether the table was made from this very botocore: others know operations that it cannot name."""
SHARED = sorted(set(MODEL.operation_names) & set(STATUS))
SYNONYMS = {
    "GetBucketLifecycle": "GetBucketLifecycleConfiguration",
    "PutBucketLifecycle": "PutBucketLifecycleConfiguration",
    "GetBucketNotification": "GetBucketNotificationConfiguration",
    "PutBucketNotification": "PutBucketNotificationConfiguration",
    "ListObjectAnnotations": "GetObjectAnnotation",
}
"""Operations that differ in no more than a parameter which does not matter before they are there: older name -> newer."""
