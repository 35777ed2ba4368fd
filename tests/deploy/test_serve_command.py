"""parl serve: its errors, and a server on a real socket with parl.deploy.Client."""

import http.client
import json
import signal
import socket
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import exported, memory_of, raw, running, token

import parl
from parl.cli import main
from parl.core.errors import ConfigError, MissingPackage, ServingError
from parl.deploy import Client
from parl.deploy.serve import server

OBS = np.array([[0.5, -0.25, 2.0], [1.0, 0.125, -1.0]])


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("served") / "pendulum", "ppo Box")


# --- what cannot be served --------------------------------------------------------------------


def test_a_token_file_is_its_owners_alone(tmp_path: Path) -> None:
    file = tmp_path / "token"
    with pytest.raises(ConfigError, match="cannot be read: No such file"):
        server.token_in(file)
    file.write_text("a token of more than 16 letters\n")
    file.chmod(0o640)
    with pytest.raises(ConfigError, match=r"can be read or written by others: chmod 600"):
        server.token_in(file)
    file.chmod(0o600)
    assert server.token_in(file) == "a token of more than 16 letters"
    for text in ("short", "two lines of more\nthan 16 letters", "ümlaut and more letters"):
        file.write_text(text)
        with pytest.raises(ConfigError, match="holds no token of 16 to 4,096 letters"):
            server.token_in(file)
    with pytest.raises(ConfigError, match=r"Is a directory|is no file"):
        server.token_in(tmp_path)


def test_others_reach_a_server_with_a_token_only() -> None:
    for host in ("0.0.0.0", "::", "10.0.0.1", "example.org"):
        with pytest.raises(ConfigError, match="so it takes a token: --token-file"):
            server.check_host(host, None)
        server.check_host(host, "token")
    for host in ("127.0.0.1", "127.0.0.9", "::1", "localhost"):
        server.check_host(host, None)


def test_what_cannot_be_served_is_one_sentence(
    pendulum: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    def said(*arguments: Any) -> str:
        assert main(["serve", *map(str, arguments)]) == 2
        (line,) = capsys.readouterr().err.splitlines()
        return line

    monkeypatch.setattr(server, "check_packages", lambda: None)
    assert "takes the directory of an exported policy" in said()
    assert "neither an exported policy" in said(tmp_path, "--port", 0)
    assert "others can reach --host 0.0.0.0" in said(pendulum, "--host", "0.0.0.0")
    assert "is no address of this machine" in said(
        pendulum, "--host", "127.0.0.1.1", "--token-file", token(tmp_path)
    )
    assert "holds no policy.onnx" in said(pendulum, "--backend", "onnx", "--port", 0)
    assert "serve it with --backend numpy" in said(pendulum, "--backend", "jax", "--port", 0)
    assert "two policies are called pendulum" in said(pendulum, pendulum, "--port", 0)
    assert "'a b' is no name of a policy" in said(f"a b={pendulum}", "--port", 0)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert f"port {port} of 127.0.0.1 is taken" in said(pendulum, "--port", port)
    assert "unknown backend 'tensorrt'" in said(pendulum, "--backend", "tensorrt")


def test_a_missing_package_is_named(monkeypatch: Any) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingPackage, match=r"pip install 'parl-jax\[serve\]'"):
        server.check_packages()


# --- the client without a server --------------------------------------------------------------


def test_a_client_says_what_is_wrong() -> None:
    with pytest.raises(ConfigError, match="is no address of a server"):
        Client("ftp://x")
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
        with pytest.raises(ServingError, match=r"did not answer within 0\.05 s"):
            Client(f"http://127.0.0.1:{port}", timeout=0.05).act([0.0])
    with pytest.raises(ServingError, match="is not there: start it with parl serve"):
        Client(f"http://127.0.0.1:{port}").act([0.0])


# --- a real server ----------------------------------------------------------------------------


def test_a_server_and_its_client(pendulum: Path, tmp_path: Path) -> None:
    """Under load it ends politely: every request that it took is answered."""
    pytest.importorskip("uvicorn")
    pytest.importorskip("httptools")
    want = parl.Policy.load(pendulum).act(OBS)[0]
    secret = token(tmp_path)
    with running(f"swing={pendulum}", "--token-file", secret) as (url, child):
        port = int(url.rpartition(":")[2])
        with pytest.raises(ServingError, match="send the server's token") as refused:
            Client(url).act(OBS)
        assert refused.value.status == 401
        with Client(url, token=secret.read_text()) as client:
            assert client.is_ready() and (client.act(OBS) == want).all()
            assert memory_of(child) < 90 << 20  # JAX is not loaded
            one = client.act(OBS[0].astype(np.float16), session="a", first=True)
            assert one.shape == (1,) and one.dtype == np.float32
            with pytest.raises(ServingError, match=r"its shape is \(2, 4\)"):
                client.act(np.zeros((2, 4)))
            with pytest.raises(ServingError, match="there is no session 'b'"):
                client.act(OBS, session="b")
        for data, status in (
            (b"\x16\x03\x01\x00\r\n\r\n", b"400"),
            (b"GET / HTTP/9.9\r\n\r\n", b"400"),
            (b"GET /healthz HTTP/1.1\r\nhost: a\r\n\r\n\x16\x03\r\n\r\n", b"400"),
            (b"GET / HTTP/1.1\r\nx: " + b"y" * 100_000, b"431"),  # in one piece, or in several
            (b"GET / HTTP/1.1\r\nx: " + b"y" * 300_000, b"431"),
            (
                b"POST /act HTTP/1.1\r\nhost: a\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\n",
                b"400",
            ),
        ):
            reply = raw(port, data)
            assert reply.startswith(b"HTTP/1.1 " + status), reply
            assert json.loads(reply.partition(b"\r\n\r\n")[2])["error"]
        counts = under_load(port, secret.read_text(), child)
        assert child.wait(20) == 143
        assert counts["answered"] > 50 and counts["lost"] == 0, counts
        assert child.stderr is not None
        said = child.stderr.read()
        assert "requests were answered, none is left" in said and "Traceback" not in said


def under_load(port: int, secret: str, child: Any) -> dict[str, int]:
    """What became of the requests of eight clients while the server was asked to end."""
    counts = {"answered": 0, "refused": 0, "lost": 0}
    body = json.dumps({"obs": OBS.tolist()}).encode()

    def ask() -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        while True:
            try:
                connection.request("POST", "/act", body, {"Authorization": f"Bearer {secret}"})
            except OSError:
                counts["refused"] += 1  # it listens no more
                return
            try:
                reply = connection.getresponse()
                good = reply.status == 200 and len(json.loads(reply.read())["action"]) == 2
                counts["answered" if good else "lost"] += 1
            except (http.client.RemoteDisconnected, ConnectionResetError):
                counts["refused"] += 1  # it was idle when the server ended
                return
            except Exception:
                counts["lost"] += 1
                return

    threads = [threading.Thread(target=ask) for _ in range(8)]
    for thread in threads:
        thread.start()
    time.sleep(0.5)
    child.send_signal(signal.SIGTERM)
    for thread in threads:
        thread.join()
    return counts
