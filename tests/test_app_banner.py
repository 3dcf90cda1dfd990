"""The banner: lines that work as they stand, and no secret in them."""

from __future__ import annotations

import ast
import subprocess
from dataclasses import replace
from pathlib import Path

import pytest

from abixio.banner import Facts, banner
from abixio.credentials import generate, keep
from abixio.volume.files import Files
from tests.server import environment

FACTS = Facts("http://127.0.0.1:9000", "us-east-1", 4, 0, 0, 1, "somebody", None)


def block(text: str, title: str) -> str:
    return text[text.index(f"# {title}") :].split("\n\n")[0]


def exports(text: str, **env: str) -> dict[str, str]:
    """What the environment of a program is behind those lines."""
    lines = "\n".join(line for line in block(text, "AWS CLI").splitlines() if not line.startswith(("aws", "echo")))
    command = ["bash", "-euc", lines + "\nenv -0"]
    result = subprocess.run(command, env=environment(**env), capture_output=True, text=True, check=True)
    return dict(entry.split("=", 1) for entry in result.stdout.split("\0") if entry.startswith("AWS_"))


@pytest.mark.parametrize("name", ["plain", "with blank", "quote's", 'double"quote', "dollar$HOME"])
def test_generated_credentials_come_out_of_their_file(tmp_path: Path, name: str) -> None:
    volume = tmp_path / name
    (volume / ".abixio").mkdir(parents=True)
    made = generate()
    keep(Files(), [str(volume)], made)
    text = banner(replace(FACTS, access_key=made.access_key, credentials_file=str(volume / ".abixio/credentials.json")))
    assert made.secret_key not in text
    assert exports(text) == {
        "AWS_ACCESS_KEY_ID": made.access_key, "AWS_SECRET_ACCESS_KEY": made.secret_key, "AWS_DEFAULT_REGION": "us-east-1",
    }


def test_credentials_of_the_environment_stay_there() -> None:
    text = banner(FACTS)
    found = exports(text, ABIXIO_ACCESS_KEY="somebody", ABIXIO_SECRET_KEY='some "thing" $x')
    assert (found["AWS_ACCESS_KEY_ID"], found["AWS_SECRET_ACCESS_KEY"]) == ("somebody", 'some "thing" $x')


def test_the_python_lines_are_python_that_puts_and_gets() -> None:
    lines = block(banner(FACTS), "boto3")
    calls = {node.attr for node in ast.walk(ast.parse(lines)) if isinstance(node, ast.Attribute)}
    assert {"client", "put_object", "get_object"} <= calls


def test_a_certificate_is_offered_but_not_forced() -> None:
    text = banner(replace(FACTS, url="https://127.0.0.1:9000", tls_cert="/etc/own cert.pem"))
    assert "# export AWS_CA_BUNDLE='/etc/own cert.pem'" in text
    assert "AWS_CA_BUNDLE" not in exports(text, ABIXIO_ACCESS_KEY="a", ABIXIO_SECRET_KEY="b")


def test_a_degraded_pool_says_so() -> None:
    assert "4 volumes, 2 missing" in banner(replace(FACTS, missing=2))
    assert "4 volumes, 1 being refilled (`abixio status` says how far); what" in banner(replace(FACTS, filling=1))
    assert "missing" not in banner(FACTS)
    assert "refilled" not in banner(FACTS)
