"""The commands that ask a running server: what they print, for people and for scripts, and how they end."""

from __future__ import annotations

import json
import os
import pty
import re
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from abixio import logs
from abixio.admin.client import Client
from abixio.cli import main
from abixio.commands import waiting
from abixio.credentials import Credentials, generate, keep
from abixio.volume.files import Files
from tests.certificates import make_certificate
from tests.e2e import shards
from tests.server import ACCESS, SECRET, Server, environment

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

    from tests.conftest import MakeServer

COMMANDS = [
    ["status"], ["inspect", "s3://b/k"], ["heal", "s3://b/k"], ["heal", "--all"], ["ftt", "s3://b/k", "1"], ["jobs"], ["scan"],
    ["discard", "s3://b/k"],
]  # fmt: skip


@pytest.fixture(autouse=True)
def _alone(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """An empty directory, no settings from outside, and pytest's own log handlers."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(logs, "configure", lambda level, as_json: None)
    for name in ("ENDPOINT", "CA_FILE", "VOLUMES", "ACCESS_KEY", "SECRET_KEY"):
        monkeypatch.delenv(f"ABIXIO_{name}", raising=False)


@pytest.fixture
def _root(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ABIXIO_ACCESS_KEY", ACCESS)
    monkeypatch.setenv("ABIXIO_SECRET_KEY", SECRET)


@pytest.fixture
def at(server: Server, _root: None, monkeypatch: pytest.MonkeyPatch) -> Server:
    """The shared server, as the environment names it."""
    monkeypatch.setenv("ABIXIO_ENDPOINT", server.url)
    return server


def refusal(capsys: pytest.CaptureFixture[str], *arguments: str) -> str:
    """The one line that a command answers with that did nothing."""
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("abixio: ")
    assert err.count("\n") == 1
    assert SECRET not in err
    return err


def said(capsys: pytest.CaptureFixture[str], *arguments: str, status: int = 0) -> str:
    found = main(arguments)
    out, err = capsys.readouterr()
    assert (found, err) == (status, "")
    return out


def settle(server: Server) -> None:
    """Wait until the journal would not put back what is taken away."""
    admin = Client(server.url, _credentials())
    while sum(volume["unsettled"] for volume in admin.get("status")["repair"]["volumes"]):
        time.sleep(0.05)


def hurt(server: Server, bucket: str, key: str, slots: tuple[int, ...]) -> None:
    """Take the shard files of a key away."""
    settle(server)
    (version,) = Client(server.url, _credentials()).get("inspect", bucket=bucket, key=key)["versions"]
    ids = {shard["write_id"] for shard in version["shards"]}
    for slot in slots:
        for path in shards(server.volumes[slot]):
            if path.name in ids:
                path.unlink()


def _credentials() -> Credentials:
    return Credentials(ACCESS, SECRET)


# ---- what they print -------------------------------------------------------------------------------------------------
def test_status_shows_every_volume_with_its_directory(at: Server, capsys: pytest.CaptureFixture[str]) -> None:
    text = said(capsys, "status")
    assert at.url in text
    for slot, path in enumerate(at.volumes):
        assert any(line.split()[:2] == [str(slot), "up"] and str(path) in line for line in text.splitlines())
    content = json.loads(said(capsys, "status", "--json"))
    assert len(content["repair"]["volumes"]) == 4


@pytest.mark.usefixtures("_root")
def test_status_of_a_pool_that_lacks_a_volume_is_1(make_server: MakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server = make_server(3)
    server.stop()
    server.volumes[2].rename(server.volumes[2].with_name("away"))
    server.start()
    text = said(capsys, "status", "--endpoint", server.url, status=1)
    (line,) = [line for line in text.splitlines() if line.startswith("2 ")]
    assert "up" not in line.split()


def test_inspect_shows_each_shard_its_volume_and_state(
    at: Server, s3: S3Client, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put_object(Bucket=bucket, Key="dir/one two", Body=b"x" * 300_000)
    url = f"s3://{bucket}/dir/one two"
    whole = said(capsys, "inspect", url)
    assert whole.startswith(url) and ": whole\n" in whole and "FTT 1 (3 data + 1 parity)" in whole
    for slot, path in enumerate(at.volumes):
        assert sum(line.split()[3:5] == [str(slot), "ok"] and line.endswith(str(path)) for line in whole.splitlines()) == 1
    hurt(at, bucket, "dir/one two", (1,))
    text = said(capsys, "inspect", url, status=1)
    assert "readable, but not whole" in text
    assert [line.split()[3] for line in text.splitlines() if "missing" in line] == ["1"]
    assert said(capsys, "inspect", "--quick", url, status=1) == text
    content = json.loads(said(capsys, "inspect", "--json", url, status=1))
    assert [shard["state"] for shard in content["versions"][0]["shards"] if shard["slot"] == 1] == ["missing"]


def test_inspect_of_many_parts_shows_the_bad_ones(
    at: Server, s3: S3Client, bucket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("abixio.commands.inspect.MANY_PARTS", 2)
    upload = s3.create_multipart_upload(Bucket=bucket, Key="k")["UploadId"]
    parts = []
    for number, size in ((1, 5 << 20), (2, 5 << 20), (3, 200_000)):
        etag = s3.upload_part(Bucket=bucket, Key="k", UploadId=upload, PartNumber=number, Body=b"x" * size)["ETag"]
        parts.append({"PartNumber": number, "ETag": etag})
    s3.complete_multipart_upload(Bucket=bucket, Key="k", UploadId=upload, MultipartUpload={"Parts": parts})  # type: ignore[typeddict-item]
    url = f"s3://{bucket}/k"
    settle(at)
    assert "3 of 3 parts are whole" in said(capsys, "inspect", url)
    (version,) = json.loads(said(capsys, "inspect", "--json", url))["versions"]
    second = {shard["write_id"] for shard in version["shards"] if shard["part"] == 2}
    (path,) = [path for path in shards(at.volumes[0]) if path.name in second]
    path.unlink()
    text = said(capsys, "inspect", url, status=1)
    assert "2 of 3 parts are whole and not shown" in text
    assert {line.split()[0] for line in text.splitlines() if line.startswith("  ") and " data " in line} == {"2"}


def test_heal_says_what_it_did_and_what_it_could_not(
    at: Server, s3: S3Client, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    for key in ("a/1", "a/2", "b"):
        s3.put_object(Bucket=bucket, Key=key, Body=os.urandom(300_000))
    hurt(at, bucket, "a/1", (0,))
    text = said(capsys, "heal", "-r", f"s3://{bucket}/a/")
    assert "done; 2 objects, 1 changed, 1 of 8 shards rebuilt" in text and "0 failed" in text
    assert "1 object, 0 changed" in said(capsys, "heal", f"s3://{bucket}/b")
    assert "3 objects, 0 changed" in said(capsys, "heal", "--recursive", f"s3://{bucket}")
    hurt(at, bucket, "b", (0, 1))
    text = said(capsys, "heal", f"s3://{bucket}/b", status=1)
    assert f"s3://{bucket}/b: " in text
    job = json.loads(said(capsys, "heal", "--json", f"s3://{bucket}/b", status=1))
    assert (job["state"], job["counts"]["failed"]) == ("done", 1)
    s3.delete_object(Bucket=bucket, Key="b")


def test_discard_gives_up_nothing_that_is_decided(
    at: Server, s3: S3Client, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"data")
    url = f"s3://{bucket}/k"
    assert said(capsys, "discard", url) == f"{url}: 0 writes discarded\n"
    assert json.loads(said(capsys, "discard", url, "--json"))["discarded"] == []
    assert "names no key" in refusal(capsys, "discard", f"s3://{bucket}/")


@pytest.mark.parametrize("order", [1, -1])
def test_ftt_takes_its_two_words_in_either_order(
    at: Server, s3: S3Client, bucket: str, capsys: pytest.CaptureFixture[str], order: int
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=os.urandom(300_000))
    url = f"s3://{bucket}/k"
    assert "1 object, 1 changed" in said(capsys, "ftt", *[url, "2"][::order])
    assert "FTT 2 (2 data + 2 parity)" in said(capsys, "inspect", url)
    assert "1 object, 0 changed" in said(capsys, "ftt", "--recursive", f"s3://{bucket}", "2")


def test_a_job_can_be_left_alone_and_looked_at_later(
    at: Server, s3: S3Client, bucket: str, capsys: pytest.CaptureFixture[str]
) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    number = said(capsys, "heal", "--no-wait", f"s3://{bucket}/k").split()[1].rstrip(";")
    assert json.loads(said(capsys, "heal", "--no-wait", "--json", f"s3://{bucket}/k")).keys() == {"id"}
    said(capsys, "heal", f"s3://{bucket}/k")
    assert "done; 1 object" in said(capsys, "jobs", number)
    assert f"heal s3://{bucket}/k" in said(capsys, "jobs")
    assert json.loads(said(capsys, "jobs", number, "--json"))["state"] == "done"
    assert "done" in said(capsys, "jobs", number, "--cancel")


def test_ctrl_c_leaves_the_job_and_says_how_to_end_it(
    at: Server, s3: S3Client, bucket: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(seconds: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(waiting.time, "sleep", interrupt)
    for number in range(50):
        s3.put_object(Bucket=bucket, Key=f"{number}", Body=b"x" * 20_000)
    assert main(["ftt", "-r", f"s3://{bucket}", "2"]) == 130
    out, err = capsys.readouterr()
    assert out == ""
    assert "goes on; `abixio jobs " in err and " --cancel` ends it" in err
    monkeypatch.undo()


def test_a_name_cannot_talk_to_the_terminal(at: Server, s3: S3Client, bucket: str, capsys: pytest.CaptureFixture[str]) -> None:
    key = "\x1b[2J\n\u202eevil"
    s3.put_object(Bucket=bucket, Key=key, Body=b"x")
    for command in (["inspect"], ["heal"]):
        text = said(capsys, *command, f"s3://{bucket}/{key}")
        assert "\x1b" not in text and "\u202e" not in text and r"\x1b[2J\n\u202eevil" in text
    assert "\x1b" not in said(capsys, "jobs")


def test_on_a_terminal_progress_is_live_and_the_result_is_plain(at: Server, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="k[red]", Body=b"x")
    ours, theirs = pty.openpty()
    command = [sys.executable, "-m", "abixio", "heal", f"s3://{bucket}/k[red]", "--endpoint", at.url]
    env = environment(ABIXIO_ACCESS_KEY=ACCESS, ABIXIO_SECRET_KEY=SECRET, TERM="xterm")
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=theirs, env=env, cwd=tmp_path) as process:
        os.close(theirs)
        live = b""
        try:
            while chunk := os.read(ours, 65536):
                live += chunk
        except OSError:  # the way in which a terminal ends
            pass
        assert process.stdout is not None
        out = process.stdout.read().decode()
        assert process.wait(30) == 0
    os.close(ours)
    assert b"k[red]" in live and b"\x1b" in live
    assert "k[red]: done; 1 object" in out and "\x1b" not in out


def test_a_pipe_that_is_closed_is_no_crash(at: Server, s3: S3Client, bucket: str, tmp_path: Path) -> None:
    s3.put_object(Bucket=bucket, Key="k", Body=b"x")
    line = f"{sys.executable} -m abixio inspect s3://{bucket}/k --endpoint {at.url} | true; exit ${{PIPESTATUS[0]}}"
    env = environment(ABIXIO_ACCESS_KEY=ACCESS, ABIXIO_SECRET_KEY=SECRET)
    done = subprocess.run(["bash", "-c", line], env=env, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert "Traceback" not in done.stderr and "Exception" not in done.stderr


# ---- whom they ask, and as whom --------------------------------------------------------------------------------------
def test_the_credentials_are_those_on_the_volumes(make_server: MakeServer, capsys: pytest.CaptureFixture[str]) -> None:
    server = make_server(2, env={})
    volumes = ",".join(map(str, server.volumes))
    assert "2 volumes" not in said(capsys, "status", "--endpoint", server.url, "--volumes", volumes)
    assert str(server.volumes[1]) in said(capsys, "status", "--endpoint", server.url, "--volumes", str(server.volumes[0]))


@pytest.mark.usefixtures("_root")
def test_tls_is_verified(make_server: MakeServer, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    cert, key = make_certificate(tmp_path)
    server = make_server(1, "--tls-cert", str(cert), "--tls-key", str(key))
    assert server.url in said(capsys, "status", "--endpoint", server.url, "--ca-file", str(cert))
    assert "certificate is not trusted" in refusal(capsys, "status", "--endpoint", server.url)
    assert "does it serve https://?" in refusal(capsys, "status", "--endpoint", server.url.replace("https", "http"))


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_without_credentials_it_says_where_they_could_come_from(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, *command)
    assert "ABIXIO_ACCESS_KEY" in line and "--volumes" in line


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
@pytest.mark.usefixtures("_root")
def test_without_a_server_it_says_so(command: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    line = refusal(capsys, *command, "--endpoint", "http://127.0.0.1:1")
    assert "http://127.0.0.1:1: connection refused" in line


def test_a_stranger_s_credentials_are_refused_with_advice(
    at: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("ABIXIO_SECRET_KEY", "another-secret")
    line = refusal(capsys, "status")
    assert "SignatureDoesNotMatch" in line and "must be those of the server" in line
    monkeypatch.delenv("ABIXIO_SECRET_KEY")
    assert "set both or none" in refusal(capsys, "status")
    monkeypatch.delenv("ABIXIO_ACCESS_KEY")
    (tmp_path / "v/.abixio").mkdir(parents=True)
    keep(Files(), [str(tmp_path / "v")], generate())
    assert "InvalidAccessKeyId" in refusal(capsys, "status", "--volumes", "v")


# ---- what they do not take -------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["inspect"], "S3URL"),
        (["inspect", "bucket/key"], "does not look like s3://bucket/key"),
        (["inspect", "s3://"], "does not look like s3://bucket/key"),
        (["inspect", "s3:///key"], "does not look like s3://bucket/key"),
        (["inspect", "s3://bucket"], "names no key"),
        (["inspect", "s3://bucket/"], "names no key"),
        (["inspect", "s3://bucket/\udcff"], "is not UTF-8"),
        (["inspect", "s3://bucket/a", "s3://bucket/b"], "s3://bucket/b"),
        (["inspect", "s3://a b/c"], "InvalidBucketName"),
        (["inspect", "s3://nowhere/c"], "NoSuchBucket"),
        (["inspect", "s3://bucket/" + "k" * 1025], "NoSuchBucket|KeyTooLongError"),
        (["heal"], "name an object"),
        (["heal", "s3://bucket"], "--recursive takes all keys"),
        (["heal", "--all", "s3://bucket/key"], "--all means every bucket"),
        (["heal", "--all", "-r"], "--all means every bucket"),
        (["heal", "-r"], "name an object"),
        (["heal", "s3://nowhere/key"], "NoSuchBucket"),
        (["ftt"], "S3URL FTT"),
        (["ftt", "s3://bucket/key"], "2 values|takes 2"),
        (["ftt", "s3://bucket/key", "s3://bucket/other"], "is no FTT"),
        (["ftt", "1", "2"], "does not look like"),
        (["ftt", "s3://bucket/key", "two"], "is no FTT"),
        (["ftt", "s3://bucket/key", "\u0661"], "is no FTT"),
        (["ftt", "s3://bucket/key", "-1"], "-1"),
        (["ftt", "s3://bucket/key", "4"], "an integer from 0 to 3"),
        (["ftt", "s3://bucket", "2"], "--recursive"),
        (["jobs", "nothing"], "NoSuchJob"),
        (["jobs", "../status"], "is no number of a job"),
        (["jobs", "--cancel"], "--cancel needs"),
        (["status", "now"], "now"),
        (["status", "--endpoint", "127.0.0.1:9000"], "is not an endpoint such as"),
        (["status", "--endpoint", ""], "is not an endpoint such as"),
        (["status", "--endpoint", "https://127.0.0.1:1", "--ca-file", "none.pem"], "none.pem: cannot be read"),
        (["status", "--volumes", "{4...1}"], "range"),
        (["--endpoint", "http://x", "status"], "--endpoint"),
        (["--port", "1", "status"], "--port does nothing before 'status'"),
        (["stats"], "stats"),
    ],
)
def test_what_is_wrong_is_one_line(at: Server, arguments: list[str], reason: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert re.search(reason.replace("--", "-+"), refusal(capsys, *arguments))
