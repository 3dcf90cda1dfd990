"""The server as a process: it starts with nothing, prints lines that work, and ends in good order."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.certificates import make_certificate
from tests.server import ACCESS, SECRET, Server, environment

if TYPE_CHECKING:
    from tests.conftest import MakeServer

BODY = os.urandom(5 << 20)


def connect(server: Server) -> socket.socket:
    return socket.create_connection(("127.0.0.1", server.port), timeout=20)


def presigned_put(server: Server) -> tuple[str, bytes]:
    """Target of a PUT, and the head of that request with the length of BODY."""
    client = server.client()
    client.create_bucket(Bucket="bucket")
    url = client.generate_presigned_url("put_object", Params={"Bucket": "bucket", "Key": "key"})
    client.close()
    target = url.removeprefix(server.url)
    return target, f"PUT {target} HTTP/1.1\r\nHost: 127.0.0.1:{server.port}\r\nContent-Length: {len(BODY)}\r\n\r\n".encode()


# ---- start -----------------------------------------------------------------------------------------------------------
def test_the_first_start_needs_nothing_and_its_lines_put_and_get(tmp_path: Path) -> None:
    """One volume in ./abixio-data, credentials of its own, and the AWS CLI and boto3 as the banner says."""
    server = Server([Path("abixio-data")], tmp_path / "stderr", env={"HOME": str(tmp_path)})
    server.command = [sys.executable, "-m", "abixio", "--port", "0"]
    server.directory = tmp_path
    server.start()
    try:
        credentials = tmp_path / "abixio-data/.abixio/credentials.json"
        secret = json.loads(credentials.read_text())["secret_key"]
        assert credentials.stat().st_mode & 0o777 == 0o600
        shell, python = (server.banner[server.banner.index(f"# {title}") :].split("\n\n")[0] for title in ("AWS CLI", "boto3"))
        script = f"{shell}\n{sys.executable} - <<'END'\n{python}\nEND\n"
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        env = environment(PATH=path, HOME=str(tmp_path))
        pasted = subprocess.run(["bash", "-eu"], input=script, env=env, capture_output=True, text=True, timeout=120, check=False)
        assert pasted.returncode == 0, pasted.stderr
        assert pasted.stdout.splitlines()[-3:] == ["hello, world", "42", ""]
    finally:
        status = server.stop()
    assert status == 0, server.stderr()
    assert secret not in server.banner + server.stderr()
    server.start()
    assert json.loads(credentials.read_text())["secret_key"] == secret
    assert server.stop() == 0


def test_generated_credentials_are_on_every_volume(make_server: MakeServer) -> None:
    server = make_server(3, env={})
    files = [volume / ".abixio/credentials.json" for volume in server.volumes]
    assert len({path.read_bytes() for path in files}) == 1
    assert [path.stat().st_mode & 0o777 for path in files] == [0o600] * 3


def test_credentials_of_the_environment_are_written_nowhere(make_server: MakeServer) -> None:
    server = make_server(1)
    server.stop()
    assert not (server.volumes[0] / ".abixio/credentials.json").exists()
    assert not [path for path in server.volumes[0].rglob("*") if path.is_file() and SECRET.encode() in path.read_bytes()]
    assert SECRET not in server.banner + server.stderr()
    assert ACCESS in server.banner


def test_tls(make_server: MakeServer, tmp_path: Path) -> None:
    cert, key = make_certificate(tmp_path)
    server = make_server(1, "--tls-cert", str(cert), "--tls-key", str(key))
    assert server.url.startswith("https://")
    client = server.client(verify=str(cert))
    client.create_bucket(Bucket="bucket")
    client.put_object(Bucket="bucket", Key="key", Body=BODY)
    assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == BODY
    client.close()
    assert server.stop() == 0


def test_log_lines_can_be_json(make_server: MakeServer) -> None:
    server = make_server(2, "--log-json", "--log-level", "info")
    assert server.stop() == 0
    lines = [json.loads(line) for line in server.stderr().splitlines()]
    assert any("listening on" in line["message"] for line in lines)
    assert {"time", "level", "logger", "message"} <= set(lines[0])


def test_a_second_server_on_the_same_volumes_is_refused(make_server: MakeServer) -> None:
    server = make_server(2)
    with pytest.raises(AssertionError, match=r"(?s)status 2.*another server uses this volume"):
        Server(server.volumes, server.log.with_suffix(".second")).start()


def test_a_replaced_disk_joins_by_command(make_server: MakeServer) -> None:
    server = make_server(4)
    server.stop()
    for volume in server.volumes[1:]:
        for path in sorted(volume.rglob("*"), reverse=True):
            path.rmdir() if path.is_dir() else path.unlink()
    command = [sys.executable, "-m", "abixio", "volume", "replace", "2", "--volumes", ",".join(map(str, server.volumes))]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert "is slot 2 now" in done.stdout
    assert json.loads((server.volumes[1] / ".abixio/volume.json").read_text())["slot"] == 2
    server.start()
    assert server.stop() == 0


# ---- stop ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_idle_connections_close_at_once(make_server: MakeServer, number: int) -> None:
    server = make_server(1)
    with connect(server) as fresh, connect(server) as used:
        used.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        assert used.recv(65536).startswith(b"HTTP/1.1 403")
        started = time.monotonic()
        assert server.stop(number) == 0
        assert time.monotonic() - started < 3
        assert (fresh.recv(1), used.recv(65536)[-1:]) in ((b"", b""), (b"", b">"))


def test_a_running_upload_finishes_and_is_kept(make_server: MakeServer) -> None:
    server = make_server(1)
    _, head = presigned_put(server)
    with connect(server) as upload:
        upload.sendall(head + BODY[: 1 << 20])
        time.sleep(0.3)
        server.send_signal(signal.SIGTERM)
        time.sleep(0.3)
        with pytest.raises(OSError, match="refused"):
            connect(server)
        server.send_signal(signal.SIGTERM)  # harmless
        upload.sendall(BODY[1 << 20 :])
        assert upload.recv(65536).startswith(b"HTTP/1.1 200")
        assert server.wait(10) == 0
    server.start()
    client = server.client()
    assert client.get_object(Bucket="bucket", Key="key")["Body"].read() == BODY
    client.close()


def test_an_upload_that_never_ends_is_cut_and_leaves_nothing(make_server: MakeServer) -> None:
    server = make_server(1)
    _, head = presigned_put(server)
    with connect(server) as upload:
        upload.sendall(head + BODY[:-1])
        time.sleep(0.3)
        started = time.monotonic()
        assert server.stop(within=11) == 0
        assert time.monotonic() - started < 10
    volume = server.volumes[0]
    assert list((volume / ".abixio/tmp").iterdir()) == []
    assert [path for path in (volume / "shards").rglob("*") if path.is_file()] == []


def test_a_second_interrupt_does_not_wait_for_the_upload(make_server: MakeServer) -> None:
    server = make_server(1)
    _, head = presigned_put(server)
    with connect(server) as upload:
        upload.sendall(head + BODY[:-1])
        time.sleep(0.3)
        server.send_signal(signal.SIGINT)
        time.sleep(0.3)
        started = time.monotonic()
        assert server.stop(signal.SIGINT) == 130
        assert time.monotonic() - started < 2
    server.start()
    assert server.stop() == 0


def test_a_hung_disk_does_not_keep_the_process(tmp_path: Path) -> None:
    """Its thread cannot be taken back: the process ends without it, in the time that a supervisor gives."""
    program = """
import asyncio, signal, threading, time
from abixio import app
app.END_SECONDS = 0.5
hung = threading.Thread(target=time.sleep, args=(60,))
hung.start()
app._stop(asyncio.Event(), signal.SIGTERM)
hung.join()
"""
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, timeout=30, check=False)
    assert done.returncode == 1
    assert b"ending without it" in done.stderr
    assert time.monotonic() - started < 10
