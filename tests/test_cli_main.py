"""The command line: what it takes, and that it refuses the rest in one line, with status 2, before it writes anything."""

from __future__ import annotations

import json
import socket
from pathlib import Path

import pytest

import abixio.app
from abixio import logs
from abixio.cli import main
from abixio.config import GIB, MIB, Config
from tests.certificates import make_certificate


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty directory to start in, no settings from outside, and pytest's own log handlers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda level, as_json: None)
    for name in ("ACCESS_KEY", "SECRET_KEY", "HOST", "PORT", "VOLUMES", "DURABILITY", "FTT"):
        monkeypatch.delenv(f"ABIXIO_{name}", raising=False)


@pytest.fixture
def served(monkeypatch: pytest.MonkeyPatch) -> list[Config]:
    """Settings that the server would have been run with."""
    found: list[Config] = []
    monkeypatch.setattr(abixio.app, "run", lambda config: found.append(config) or 0)
    return found


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that the command line answers with."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("abixio: ")
    assert err.count("\n") == 1
    assert list(Path.cwd().glob("**/volume.json")) == []
    return err


# ---- what it takes ---------------------------------------------------------------------------------------------------
def test_without_anything_it_serves_the_defaults(served: list[Config]) -> None:
    assert main([]) == 0
    assert served == [Config()]


def test_every_flag_reaches_the_server(served: list[Config]) -> None:
    arguments = (
        "--host ::1 --port 0 --volumes a,b{1...2} --volumes c --durability page-cache --etag md5 --region eu-x --ftt 2 "
        "--domain s3.example.com,S3.local. --domain x --strict-region "
        "--trusted-proxies 10.0.0.0/8,::1 --trusted-proxies 127.0.0.1 "
        "--memory-budget 1GiB --tls-cert c.pem --tls-key k.pem --log-level debug --log-json "
        "--access-log a.log --scan-rate 1MiB --debug-day 5"
    )
    assert main(arguments.split()) == 0
    assert served == [
        Config(
            volumes=("a", "b1", "b2", "c"), host="::1", port=0, durability="page-cache", etag="md5", region="eu-x", ftt=2,
            domains=("s3.example.com", "s3.local", "x"), strict_region=True,
            trusted_proxies=("10.0.0.0/8", "::1/128", "127.0.0.1/32"), memory_budget=GIB,
            tls_cert="c.pem", tls_key="k.pem", log_level="debug", log_json=True, access_log="a.log",
            scan_rate=MIB, debug_day=5,
        )
    ]


def test_every_flag_is_an_environment_variable(served: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    variables = {
        "HOST": "::1", "PORT": "0", "VOLUMES": "a b,c{1...2}", "DURABILITY": "page-cache", "ETAG": "xxh64", "REGION": "eu-x",
        "DOMAIN": "s3.example.com,x", "FTT": "0", "STRICT_REGION": "true", "TRUSTED_PROXIES": "10.0.0.0/8,::1",
        "MEMORY_BUDGET": "1GiB", "TLS_CERT": "c.pem", "TLS_KEY": "k.pem", "LOG_LEVEL": "error", "LOG_JSON": "1",
        "ACCESS_LOG": "-", "SCAN_RATE": "0", "ACCESS_KEY": "somebody", "SECRET_KEY": "something",
    }
    for name, value in variables.items():
        monkeypatch.setenv(f"ABIXIO_{name}", value)
    assert main([]) == 0
    assert served == [
        Config(
            volumes=("a b", "c1", "c2"), host="::1", port=0, durability="page-cache", etag="xxh64", region="eu-x", ftt=0,
            domains=("s3.example.com", "x"), strict_region=True, trusted_proxies=("10.0.0.0/8", "::1/128"), memory_budget=GIB,
            tls_cert="c.pem", tls_key="k.pem", access_key="somebody", secret_key="something",
            log_level="error", log_json=True, access_log="-", scan_rate=0,
        )
    ]


def test_a_flag_beats_its_variable(served: list[Config], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABIXIO_PORT", "1")
    assert main(["--port", "2"]) == 0
    assert served[0].port == 2


def test_help_names_every_flag_with_its_variable(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--help"]) == 0
    text = " ".join(capsys.readouterr().out.split())
    flags = [name for name in Config.__dataclass_fields__ if not name.endswith("_key") or name == "tls_key"]
    for name in flags:
        name = name.removesuffix("s") if name in ("domains", "kms_key_ids") else name
        assert f"--{name.replace('_', '-')} " in text
        assert f"ABIXIO_{name.upper()}" in text


# ---- what it refuses -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["--nonsense"], "--nonsense"),
        (["serve"], "No such command 'serve'; see `abixio --help`"),
        (["--port", "http"], "--port: 'http' is not a whole number from 0 to 65535"),
        (["--port", "65536"], "--port: '65536' is not a whole number from 0 to 65535"),
        (["--port", "-1"], "--port"),
        (["--volumes", "d{4...1}"], "range"),
        (["--volumes", ""], "--volumes"),
        (["--volumes", "d{1...17}"], "more than 16"),
        (["--volumes", "a", "--volumes", "a"], "separate directories"),
        (["--durability", "sometimes"], "--durability"),
        (["--etag", "sha1"], "--etag"),
        (["--region", "EU West"], "--region"),
        (["--region", ""], "--region"),
        (["--domain", "s3.example.com:9000"], "--domain"),
        (["--domain", ""], "--domain"),
        (["--trusted-proxies", "10.0.0.1/8"], "--trusted-proxies"),
        (["--trusted-proxies", "proxy"], "--trusted-proxies"),
        (["--ftt", "-1"], "--ftt: '-1' is not a whole number from 0 on"),
        (["--ftt", "x"], "--ftt"),
        (["--ftt", "1"], "of 1 volume, at most 0 can be lost"),
        (["--ftt", "4", "--volumes", "d{1...4}"], "of 4 volumes, at most 3 can be lost"),
        (["--memory-budget", "lots"], "--memory-budget"),
        (["--memory-budget", "1MiB"], "less than 64MiB"),
        (["--scan-rate", "slow"], "'slow' is not a size such as 512MiB"),
        (["--tls-cert", "c.pem"], "both or none"),
        (["--tls-key", "k.pem"], "both or none"),
        (["--tls-cert", "c.pem", "--tls-key", "k.pem"], "cannot read c.pem"),
        (["--log-level", "loud"], "--log-level"),
        (["--host", "h" * 64], "no such address"),
        (["--host", ""], "--host '': no such address"),
        (["--access-log", ""], "--access-log '': cannot be written"),
        (["--access-log", "."], "--access-log '.': cannot be written: Is a directory"),
        (["--host", "203.0.113.7"], "203.0.113.7"),
        (["volume"], "Missing command; see `abixio volume --help`"),
        (["volume", "replace"], "SLOT"),
        (["volume", "replace", "one"], "one"),
        (["volume", "replace", "1", "--volumes", "d{1...4}"], "start the server to make a pool"),
        (["--port", "1", "volume", "replace", "1"], "--port does nothing before 'volume'"),
    ],
)
def test_a_wrong_value_is_one_line_and_formats_nothing(
    arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert reason in refusal(capsys, *arguments)


def test_a_wrong_variable_is_named(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABIXIO_PORT", "http")
    assert "ABIXIO_PORT" in refusal(capsys)


def test_a_port_in_use_is_refused_before_anything_is_formatted(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        assert f"port {port}: Address already in use" in refusal(capsys, "--port", port)


def test_a_certificate_without_its_key_is_refused_before_anything_is_formatted(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    cert, _ = make_certificate(tmp_path)
    assert "not a PEM" in refusal(capsys, "--port", "0", "--tls-cert", str(cert), "--tls-key", str(cert))


def test_a_foreign_directory_is_refused_before_others_are_formatted(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    (tmp_path / "d4").mkdir()
    (tmp_path / "d4" / "photo").touch()
    assert "d4: holds files" in refusal(capsys, "--port", "0", "--volumes", "d{1...4}")


@pytest.mark.parametrize(
    ("access", "secret", "reason"),
    [
        ("somebody", None, "both or none"),
        (None, "something", "both or none"),
        ("somebody", "", "both or none"),
        ("ab", "something", "ABIXIO_ACCESS_KEY: needs 3"),
        ("somebody", "seven77", "ABIXIO_SECRET_KEY: needs 8"),
        ("some/body", "something", "ABIXIO_ACCESS_KEY: may hold"),
        ("some body", "something", "ABIXIO_ACCESS_KEY: may hold"),
        ("a" * 129, "something", "ABIXIO_ACCESS_KEY"),
        ("somebody", "some\nthing", "ABIXIO_SECRET_KEY: holds a control"),
    ],
)
def test_unusable_credentials_are_refused_and_not_repeated(
    access: str | None, secret: str | None, reason: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in (("ACCESS", access), ("SECRET", secret)):
        if value is not None:
            monkeypatch.setenv(f"ABIXIO_{name}_KEY", value)
    line = refusal(capsys, "--port", "0")
    assert reason in line
    assert not secret or secret.split("\n")[0] not in line


# ---- log lines -------------------------------------------------------------------------------------------------------
def test_a_json_log_line_cannot_be_broken_by_what_it_says(capsys: pytest.CaptureFixture[str]) -> None:
    import logging

    record = logging.LogRecord("abixio.x", logging.WARNING, __file__, 1, "one\n%s", ('{"two": 2}',), None)
    line = logs._Json().format(record)
    assert "\n" not in line
    content = json.loads(line)
    assert content["message"] == 'one\n{"two": 2}'
    assert content["level"] == "warning"
    assert content["time"].endswith("Z")
