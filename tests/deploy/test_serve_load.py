"""Servers under load, with every backend, and asked by others' clients."""

import asyncio
import http.client
import importlib.util
import json
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import ask, changed, exported, memory_of, raw, running

import parl
from parl.cli import serve as command
from parl.deploy import Client, artefact, contract
from parl.deploy.policy import Policy
from parl.deploy.serve.application import Application
from parl.deploy.serve.limits import Limits

pytestmark = pytest.mark.slow
OBS = np.random.default_rng(0).standard_normal((4, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("load") / "pendulum", "ppo Box")


@pytest.fixture(scope="module", autouse=True)
def packages() -> None:
    pytest.importorskip("uvicorn")
    pytest.importorskip("httptools")


def test_twenty_hot_reloads_lose_nothing(pendulum: Path, tmp_path: Path) -> None:
    """Every request is answered, with the action of the policy whose sha256 it names."""
    kinds = [pendulum, changed(pendulum, tmp_path / "other", 1.5)]
    digests = [contract.read(kind).values["sha256"] for kind in kinds]
    want = {d: Policy.load(k).act(OBS)[0].tolist() for d, k in zip(digests, kinds, strict=True)}
    assert want[digests[0]] != want[digests[1]]
    place = tmp_path / "served"
    shutil.copytree(pendulum, place)
    body, going = json.dumps({"obs": OBS.tolist()}).encode(), [True]
    seen: list[list[str]] = [[] for _ in range(6)]
    wrong: list[Any] = []

    def ask_on(mine: list[str], port: int) -> None:
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=20)
        while going[0]:
            try:
                connection.request("POST", "/act", body)
                reply = connection.getresponse()
                values = json.loads(reply.read())
                if reply.status != 200 or values["action"] != want[values["sha256"]]:
                    wrong.append(values)
                mine.append(values.get("sha256"))
            except Exception as error:
                wrong.append(error)
                return

    with running(place, "--reload") as (url, _):
        port = int(url.rpartition(":")[2])
        threads = [threading.Thread(target=ask_on, args=(mine, port)) for mine in seen]
        for thread in threads:
            thread.start()
        for i in range(1, 21):
            copy = tmp_path / "new"
            shutil.copytree(kinds[i % 2], copy)
            artefact.replace(copy, place)
            end = time.monotonic() + 30
            while seen[0][-1:] != [digests[i % 2]] and time.monotonic() < end:
                time.sleep(0.02)
        going[0] = False
        for thread in threads:
            thread.join()
        counts = Client(url).connection
        counts.request("GET", "/metrics")
        text = counts.getresponse().read().decode()
    changes = sum(a != b for a, b in zip(seen[0], seen[0][1:], strict=False))
    assert not wrong, wrong[:3]
    assert changes == 20 and 'parl_reloads_total{policy="served",result="served"} 20' in text
    assert min(map(len, seen)) > 100
    print(f"{sum(map(len, seen))} requests, 20 reloads, none lost")


def test_a_thousand_odd_requests_leave_no_memory(pendulum: Path) -> None:
    """Each is answered with a status of 4xx in JSON, cut heads, odd bytes and long bodies alike."""
    good = b'{"obs": [0.5, 0.25, 1]}'
    line = b"POST /act HTTP/1.1\r\nhost: 127.0.0.1\r\nconnection: close\r\n"
    rng = np.random.default_rng(0)

    def odd(i: int) -> bytes:
        kind = i % 5
        if kind == 0:  # a body that is none
            body = b"\xff" + good[: int(rng.integers(len(good)))]
            return line + b"content-length: %d\r\n\r\n" % len(body) + body
        if kind == 1:  # longer than it may be
            size = (1 << 20) + int(rng.integers(1, 1 << 20))
            return line + b"content-length: %d\r\n\r\n" % size + b" " * size
        if kind == 2:  # no HTTP
            return rng.bytes(50).replace(b"\r", b"x").replace(b"\n", b"x") + b"\r\n\r\n"
        if kind == 3:  # an endless head
            return line + b"x: " + b"y" * 100_000
        return line + b"transfer-encoding: chunked\r\n\r\nzz\r\n"

    with running(pendulum) as (url, child):
        port = int(url.rpartition(":")[2])

        def send(count: int) -> set[bytes]:
            statuses = set()
            for i in range(count):
                reply = raw(port, odd(i))
                head, _, body = reply.partition(b"\r\n\r\n")
                assert json.loads(body)["error"], reply
                statuses.add(head[9:12])
            return statuses

        send(100)
        before = memory_of(child)
        statuses = send(1000)
        grown = memory_of(child) - before
        assert Client(url).act(OBS[0]).shape == (1,)
    assert statuses == {b"400", b"413", b"431"}
    assert grown < 8 << 20, grown
    print(f"{before >> 20} MiB, grown by {grown >> 10} KiB")


def test_tritonclient_gets_exact_results(pendulum: Path) -> None:
    triton = pytest.importorskip("tritonclient.http")
    want = Policy.load(pendulum).act(OBS)[0]
    with running(pendulum) as (url, _):
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        assert client.is_server_live() and client.is_server_ready()
        assert client.is_model_ready("pendulum") and client.is_model_ready("pendulum", "1")
        told = client.get_model_metadata("pendulum")
        assert told["inputs"][0]["shape"] == [-1, 3]
        for binary in (True, False):
            tensor = triton.InferInput("obs", list(OBS.shape), "FP32")
            tensor.set_data_from_numpy(OBS, binary_data=binary)
            output = triton.InferRequestedOutput("env_action", binary_data=binary)
            for outputs in ([output], None):
                result = client.infer("pendulum", [tensor], outputs=outputs)
                assert (result.as_numpy("env_action") == want).all()
        wrong = triton.InferInput("obs", [1, 2], "FP32")
        wrong.set_data_from_numpy(OBS[:1, :2])
        with pytest.raises(Exception, match="its shape is"):
            client.infer("pendulum", [wrong])
        client.close()


def test_tritonclient_has_sequences(tmp_path: Path) -> None:
    triton = pytest.importorskip("tritonclient.http")
    place = exported(tmp_path / "gru", "ppo gru", sample=True)
    actor, state = Policy.load(place), None
    obs = np.random.default_rng(0).standard_normal((6, 1, 2)).astype(np.float32)
    with running(place) as (url, _):
        client = triton.InferenceServerClient(url.removeprefix("http://"))
        name = client.get_model_metadata("gru")["inputs"][0]["name"]
        for t in range(6):
            tensor = triton.InferInput(name, [1, 2], "FP32")
            tensor.set_data_from_numpy(obs[t])
            more = {"sequence_id": 7, "sequence_start": t == 0, "sequence_end": t == 5}
            result = client.infer("gru", [tensor], **more)
            action, state = actor.act(obs[t], state)
            assert (result.as_numpy("env_action") == action).all()
        client.close()


BACKENDS = {"onnx": "onnxruntime", "stablehlo": "flatbuffers", "numpy": "numpy", "jax": "jax"}


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_agent_that_was_never_exported(backend: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(BACKENDS[backend]) is None:
        pytest.skip(f"{BACKENDS[backend]} is not installed")
    agent = parl.Agent.make("ppo", "jax:CartPole-v1", hidden=(8, 8))
    saved = agent.save(tmp_path / "agent")
    flags = command.ServeFlags((f"pole={saved}",), backend=backend, max_rows=8)
    limits = Limits(rows=8)
    app = Application(command.opened(flags, limits), limits)
    obs = np.random.default_rng(0).standard_normal((8, 4)).astype(np.float32)

    async def all_of_them() -> Any:
        return await asyncio.gather(*(ask(app, "/act", {"obs": x.tolist()}) for x in obs))

    replies = asyncio.run(all_of_them())
    assert [each.json["action"] for each in replies] == agent.predict(obs).tolist()
    assert not list(tmp_path.glob("parl-serve-*"))
