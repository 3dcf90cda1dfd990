"""Address, certificate and key: what is checked before the server starts."""

import socket
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from abixio.endpoint import check_address, tls_context, url
from abixio.errors import StartupError
from tests.certificates import make_certificate


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", "http://127.0.0.1:80"),
        ("0.0.0.0", "http://127.0.0.1:80"),
        ("::", "http://[::1]:80"),
        ("::1", "http://[::1]:80"),
        ("localhost", "http://localhost:80"),
    ],
)
def test_the_url_is_one_that_a_client_on_this_machine_can_use(host: str, expected: str) -> None:
    assert url(host, 80, secure=False) == expected


def test_the_url_of_a_tls_server_says_https() -> None:
    assert url("127.0.0.1", 9000, secure=True) == "https://127.0.0.1:9000"


def test_a_port_in_use_is_refused() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(StartupError, match="in use"):
            check_address("127.0.0.1", taken.getsockname()[1])


def test_a_port_that_was_just_closed_is_free() -> None:
    with socket.socket() as listening:
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as every server sets it
        listening.bind(("127.0.0.1", 0))
        listening.listen()
        port = listening.getsockname()[1]
        client = socket.create_connection(("127.0.0.1", port))
        accepted, _ = listening.accept()
        accepted.close()  # the side that closes first stays in TIME_WAIT
        client.close()
    check_address("127.0.0.1", port)


@pytest.mark.parametrize("host", ["203.0.113.7", "a" * 64])
def test_an_address_that_is_not_ours_is_refused(host: str) -> None:
    with pytest.raises(StartupError, match=host[:20]):
        check_address(host, 0)


def test_certificate_and_key_go_together(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    assert tls_context(str(cert), str(key)) is not None
    assert tls_context(None, None) is None
    for half in ((str(cert), None), (None, str(key))):
        with pytest.raises(StartupError, match="both or none"):
            tls_context(*half)


def test_a_certificate_that_is_missing_or_none_is_refused(tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    with pytest.raises(StartupError, match="nowhere"):
        tls_context(str(tmp_path / "nowhere.pem"), str(key))
    with pytest.raises(StartupError, match="not a PEM"):
        tls_context(str(key), str(cert))


def test_a_key_of_another_certificate_is_refused(tmp_path: Path) -> None:
    cert, _ = make_certificate(tmp_path)
    (tmp_path / "other").mkdir()
    _, other = make_certificate(tmp_path / "other")
    with pytest.raises(StartupError, match="not a PEM"):
        tls_context(str(cert), str(other))


def test_an_encrypted_key_is_refused_without_asking_for_its_passphrase(tmp_path: Path) -> None:
    cert, _ = make_certificate(tmp_path)
    locked = tmp_path / "locked.pem"
    locked.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.BestAvailableEncryption(b"word")
        )
    )
    with pytest.raises(StartupError, match="unencrypted"):
        tls_context(str(cert), str(locked))
