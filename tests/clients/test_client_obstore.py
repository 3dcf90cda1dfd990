"""obstore: Rust's object_store crate, on which deltalake, polars and DataFusion build too."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from tests.clients.conftest import Store
from tests.clients.kit import BIG, ODD, PART, SMALL, TREE, credentials, fetch, library
from tests.server import Server


@pytest.fixture
def connect(server: Server, store: Store) -> Any:
    """Makes its view of the test's bucket, with more settings."""
    keys = credentials(server)

    def make(**more: Any) -> Any:
        return library("obstore.store").S3Store(
            store.bucket, endpoint=server.url, region="us-east-1", client_options={"allow_http": True},
            access_key_id=keys["AWS_ACCESS_KEY_ID"], secret_access_key=keys["AWS_SECRET_ACCESS_KEY"], **more,
        )

    return make


@pytest.fixture
def remote(connect: Any) -> Any:
    return connect()


def test_put(remote: Any, store: Store) -> None:
    remote.put("k", SMALL, attributes={"Content-Type": "text/x-test", "colour": "green"})
    head = store.s3.head_object(Bucket=store.bucket, Key="k")
    assert (head["ContentType"], head["Metadata"]) == ("text/x-test", {"colour": "green"})
    assert store.get("k") == SMALL


def test_put_under_a_condition(remote: Any, store: Store) -> None:
    exceptions = library("obstore.exceptions")
    first = remote.put("k", SMALL, mode="create")
    with pytest.raises(exceptions.AlreadyExistsError):
        remote.put("k", b"other", mode="create")
    remote.put("k", b"second", mode={"e_tag": first["e_tag"]})
    with pytest.raises(exceptions.PreconditionError):
        remote.put("k", b"third", mode={"e_tag": first["e_tag"]})
    assert store.get("k") == b"second"


@pytest.mark.parametrize("algorithm", [None, "SHA256"])
def test_put_with_a_checksum(connect: Any, store: Store, algorithm: str | None) -> None:
    remote = connect(config={"checksum_algorithm": algorithm} if algorithm else {})
    remote.put("k", SMALL)
    remote.put("big", BIG, chunk_size=PART)
    assert (store.get("k"), store.get("big")) == (SMALL, BIG)


def test_get(remote: Any, store: Store) -> None:
    store.put("k", BIG)
    assert bytes(remote.get("k").bytes()) == BIG


def test_range_one_many_and_the_end(remote: Any, store: Store) -> None:
    store.put("k", BIG)
    assert bytes(remote.get_range("k", start=5, end=11)) == BIG[5:11]
    assert list(map(bytes, remote.get_ranges("k", starts=[5, PART], ends=[11, PART + 3]))) == [BIG[5:11], BIG[PART : PART + 3]]
    assert bytes(remote.get("k", options={"range": {"suffix": 7}}).bytes()) == BIG[-7:]


def test_list_with_a_delimiter(remote: Any, store: Store) -> None:
    store.put_tree()
    found = remote.list_with_delimiter()
    assert ([item["path"] for item in found["objects"]], found["common_prefixes"]) == (["a", "z"], ["dir"])
    assert [item["path"] for item in remote.list().collect()] == list(TREE)


def test_multipart(remote: Any, store: Store) -> None:
    remote.put("k", BIG, chunk_size=PART)
    assert (store.parts("k"), store.get("k")) == (3, BIG)


def test_copy_and_rename(remote: Any, store: Store) -> None:
    store.put("from", BIG)
    remote.copy("from", "to")
    remote.rename("to", "moved")
    assert (store.get("moved"), store.listed()) == (BIG, ["from", "moved"])


def test_copy_that_must_not_replace(connect: Any, store: Store) -> None:
    remote = connect(config={"copy_if_not_exists": "multipart"})
    store.put("from")
    remote.copy("from", "to", overwrite=False)
    store.put("from", b"other")
    with pytest.raises(library("obstore.exceptions").AlreadyExistsError):
        remote.copy("from", "to", overwrite=False)
    assert store.get("to") == SMALL


def test_delete_of_many(remote: Any, store: Store) -> None:
    store.put_tree()
    remote.delete(list(TREE[1:]))
    assert store.listed() == ["a"]


def test_presigned_put_and_get(remote: Any, store: Store) -> None:
    sign = library("obstore").sign
    fetch(sign(remote, "PUT", ODD["escapes"], timedelta(minutes=1)), SMALL)
    assert store.get(ODD["escapes"]) == SMALL
    assert fetch(sign(remote, "GET", ODD["escapes"], timedelta(minutes=1))) == SMALL


@pytest.mark.parametrize("name", ["escapes", "printable"])
def test_odd_keys(remote: Any, store: Store, name: str) -> None:
    # Its paths have no empty, `.` or `..` segment; it writes such keys in an encoding of its own.
    key = ODD[name].replace("//", "/")
    remote.put(key, SMALL)
    assert [item["path"] for item in remote.list().collect()] == store.listed() == [key]
    assert bytes(remote.get(key).bytes()) == SMALL
    remote.copy(key, "copy")
    remote.delete([key])
    assert store.listed() == ["copy"]
