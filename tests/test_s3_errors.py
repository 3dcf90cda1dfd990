"""S3 errors, and what becomes of all other errors."""

from __future__ import annotations

import ast
import inspect
from pathlib import Path
from xml.etree import ElementTree

import pytest

import abixio.s3
from abixio import errors
from abixio.message import Response
from abixio.s3.errors import CODES, SIMPLE, S3Error, from_exception, response


def fields(answer: Response) -> dict[str, str]:
    assert isinstance(answer.body, bytes)
    root = ElementTree.fromstring(answer.body)
    assert root.tag == "Error"
    return {child.tag: child.text or "" for child in root}


def test_an_error_is_a_document_with_code_message_fields_and_ids() -> None:
    answer = response(S3Error("NoSuchKey", Key="a<b"), "0123456789ABCDEF", "/bucket/a%3Cb")
    assert answer.status == 404
    assert dict(answer.headers) == {
        "x-amz-request-id": "0123456789ABCDEF", "x-amz-id-2": "abixio", "Content-Type": "application/xml"
    }
    assert fields(answer) == {
        "Code": "NoSuchKey", "Message": "The specified key does not exist.", "Key": "a<b", "Resource": "/bucket/a%3Cb",
        "RequestId": "0123456789ABCDEF", "HostId": "abixio",
    }
    assert not answer.close


def test_the_message_can_be_another_and_empty_fields_stay_out() -> None:
    answer = fields(response(S3Error("InvalidArgument", "No.", ArgumentName="x", ArgumentValue=None), "1"))
    assert answer == {"Code": "InvalidArgument", "Message": "No.", "ArgumentName": "x", "RequestId": "1", "HostId": "abixio"}


def test_the_answer_to_head_has_no_body() -> None:
    answer = response(S3Error("NoSuchKey"), "1", head=True)
    assert answer.body == b""
    assert "Content-Type" not in dict(answer.headers)
    assert dict(answer.headers)["x-amz-request-id"] == "1"


def test_extra_headers_are_sent() -> None:
    error = S3Error("MethodNotAllowed", headers=[("Allow", "GET")])
    assert ("Allow", "GET") in response(error, "1").headers


@pytest.mark.parametrize(
    ("error", "code", "status"),
    [
        (errors.NoSuchBucket(), "NoSuchBucket", 404),
        (errors.BucketExists(), "BucketAlreadyOwnedByYou", 409),
        (errors.BucketNotEmpty(), "BucketNotEmpty", 409),
        (errors.NoSuchKey(), "NoSuchKey", 404),
        (errors.NoSuchUpload(), "NoSuchUpload", 404),
        (errors.InvalidFaultTolerance("ftt must be 0..3"), "InvalidArgument", 400),
        (errors.InvalidPart(), "InvalidPart", 400),
        (errors.InvalidPartOrder(), "InvalidPartOrder", 400),
        (errors.PartTooSmall(), "EntityTooSmall", 400),
        (errors.EntityTooLarge(), "EntityTooLarge", 400),
        (errors.PreconditionFailed("If-None-Match"), "PreconditionFailed", 412),
        (errors.DigestMismatch("crc32"), "BadDigest", 400),
        (errors.Unavailable(), "ServiceUnavailable", 503),
        (errors.Overloaded(), "SlowDown", 503),
        (errors.DataLost(), "ServiceUnavailable", 503),
        (errors.OutcomeUnknown(), "InternalError", 500),
        (errors.InsufficientStorage(), "InsufficientStorage", 507),
        (errors.BadRequest(), "BadRequest", 400),
        (errors.HeadTooLarge(), "RequestHeaderSectionTooLarge", 400),
        (errors.RequestTimeout(), "RequestTimeout", 400),
        (errors.IncompleteBody(), "IncompleteBody", 400),
        (errors.VolumeUnusable("/secret/path"), "InternalError", 500),
        (ValueError("secret"), "InternalError", 500),
        (KeyError(), "InternalError", 500),
    ],
)
def test_every_error_has_its_code(error: Exception, code: str, status: int) -> None:
    found = from_exception(error)
    assert (found.code, found.status) == (code, status)
    assert "secret" not in repr((found.message, found.fields))


def test_every_client_and_request_error_has_a_code_of_its_own() -> None:
    """One that is added to `abixio.errors` and forgotten here would be an InternalError."""
    for _, kind in inspect.getmembers(errors, inspect.isclass):
        if issubclass(kind, (errors.ClientError, errors.RequestError)) and kind is not errors.ClientError:
            assert from_exception(kind()).code != "InternalError", kind


def test_an_s3_error_stays_what_it_is() -> None:
    error = S3Error("NoSuchKey")
    assert from_exception(error) is error


def test_a_failed_condition_is_named() -> None:
    assert fields(response(from_exception(errors.PreconditionFailed("If-Match")), "1"))["Condition"] == "If-Match"


def test_an_unusable_part_is_named() -> None:
    assert from_exception(errors.InvalidPart("3", "abc")).fields == {
        "MinSizeAllowed": None, "PartNumber": "3", "ETag": "abc",
    }
    assert from_exception(errors.PartTooSmall("1", "abc", "17")).fields == {
        "MinSizeAllowed": 5 << 20, "PartNumber": "1", "ETag": "abc", "ProposedSize": "17",
    }


def test_a_wrong_checksum_is_named() -> None:
    assert from_exception(errors.DigestMismatch("crc64nvme")).message == (
        "The CRC64NVME you specified did not match the calculated checksum."
    )
    assert from_exception(errors.DigestMismatch()).message == CODES["BadDigest"][1]


@pytest.mark.parametrize("error", [errors.BadRequest(), errors.HeadTooLarge(), errors.RequestTimeout(), errors.IncompleteBody()])
def test_the_connection_is_closed_when_the_next_request_cannot_be_found(error: Exception) -> None:
    assert response(from_exception(error), "1").close


def test_statuses_are_those_of_errors_and_messages_are_sentences() -> None:
    for code, (status, message) in CODES.items():
        assert 400 <= status < 600, code
        assert message, code
    assert {code for _, code, _ in SIMPLE} <= CODES.keys()


def test_every_code_that_a_handler_raises_is_in_the_table() -> None:
    assert abixio.s3.__file__ is not None
    for module in Path(abixio.s3.__file__).parent.glob("*.py"):
        for found in ast.walk(ast.parse(module.read_text())):
            if isinstance(found, ast.Call) and isinstance(found.func, ast.Name) and found.func.id == "S3Error" and found.args:
                code = found.args[0]
                if isinstance(code, ast.Constant):
                    assert code.value in CODES, f"{module.name}:{found.lineno}"
