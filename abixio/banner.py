"""What a person sees when the server is ready: the endpoint, and lines to paste.

Lines of a block go into a shell or into Python as they stand; `#` is a comment in both. A secret is never printed: the
lines take it from the file, or from the variable, that holds it, so a captured log of standard output stays harmless.
"""

from __future__ import annotations

import logging
import shlex
import sys
from dataclasses import dataclass

from abixio import __version__

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Facts:
    """All that the banner tells."""

    url: str
    region: str
    volumes: int
    missing: int
    filling: int
    """Volumes that were replaced and get back what was stored before."""
    ftt: int
    access_key: str
    credentials_file: str | None
    """Where the generated credentials are kept; None when they came from the environment."""
    tls_cert: str | None = None


def banner(facts: Facts) -> str:
    """The whole text, without a line feed at its end."""
    return "\n".join([*_head(facts), "", *_aws_cli(facts), "", *_boto3(facts), ""])


def announce(text: str, addresses: list[tuple[str, int]]) -> None:
    """Print the banner, and log where the server listens."""
    try:
        print(text, flush=True)
    except OSError as error:
        _log.warning("standard output is closed: %s", error.strerror)
        # Or the interpreter flushes it once more at its end, and turns that into a failure.
        sys.stdout = None
    _log.info("listening on %s", ", ".join(f"{host} port {port}" for host, port in addresses))


def _head(facts: Facts) -> list[str]:
    size = "1 volume" if facts.volumes == 1 else f"{facts.volumes} volumes"
    missing = f", {facts.missing} missing" if facts.missing else ""
    filling = f", {facts.filling} being refilled (`abixio status` says how far)" if facts.filling else ""
    state, loss = missing + filling, ""
    if state:
        loss = "; what is stored already survives so many losses less"
    elif facts.volumes > 1:
        loss = f"; an object survives the loss of {facts.ftt} of them, unless it asks for another FTT"
    lines = [f"abixio {__version__} is ready: {facts.url}", f"region {facts.region}, {size}{state}{loss}"]
    if facts.credentials_file is None:
        return [*lines, f"access key {facts.access_key}, from the environment"]
    return [*lines, f"access key {facts.access_key}, generated; kept with its secret in {facts.credentials_file}"]


def _aws_cli(facts: Facts) -> list[str]:
    """Environment first: it comes before every profile that the AWS tools know, and boto3 reads it too."""
    if facts.credentials_file is None:
        access, secret = '"$ABIXIO_ACCESS_KEY"', '"$ABIXIO_SECRET_KEY"'
    else:
        path = shlex.quote(facts.credentials_file)
        access, secret = facts.access_key, f"\"$(sed -n 's/.*\"secret_key\": \"\\(.*\\)\".*/\\1/p' {path})\""
    lines = [
        "# AWS CLI",
        f"export AWS_ACCESS_KEY_ID={access}",
        f"export AWS_SECRET_ACCESS_KEY={secret}",
        f"export AWS_DEFAULT_REGION={facts.region}",
    ]
    if facts.tls_cert is not None:
        lines.append(f"# export AWS_CA_BUNDLE={shlex.quote(facts.tls_cert)}  # when the certificate is self-signed")
    aws = f"aws --endpoint-url {facts.url} s3"
    return [
        *lines,
        f"{aws} mb s3://first-bucket",
        f"echo 'hello, world' | {aws} cp - s3://first-bucket/hello.txt",
        f"{aws} cp s3://first-bucket/hello.txt -",
    ]


def _boto3(facts: Facts) -> list[str]:
    return [
        "# boto3, in a Python started from that shell",
        "import boto3",
        f's3 = boto3.client("s3", endpoint_url="{facts.url}")',
        's3.put_object(Bucket="first-bucket", Key="answer.txt", Body=b"42\\n")',
        'print(s3.get_object(Bucket="first-bucket", Key="answer.txt")["Body"].read().decode())',
    ]
