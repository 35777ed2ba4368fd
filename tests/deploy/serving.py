"""Artefacts to serve, requests to an ASGI application without a socket, and a server with one."""

import asyncio
import json
import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import policies

import parl
from parl.deploy import artefact, contract, observed, parity, samples, weights
from parl.deploy.arrays import Runner
from parl.deploy.artefact import Settings
from parl.deploy.contract import CONTRACT, WEIGHTS

LENGTH = "inference-header-content-length"


def exported(place: Path, case: str, **settings: Any) -> Path:
    """The artefact of a policy with random numbers; its samples are what NumPy makes of them."""
    recipe, env, own = policies.CASES[case]
    source = policies.of_recipe(recipe, env, **own)
    parts, how = policies.parts(source, **settings), Settings(**settings)
    place.mkdir()
    declared, data = weights.packed(artefact.constants_of(parts.programs), "float32")
    (place / WEIGHTS).write_bytes(data)
    program, start = parts.programs["greedy"], parts.start
    rows = observed.adversarial(source.spec, parts.whole, 100, 0)
    made = parity.case("adversarial", Runner(program), parts.traced, rows, start)
    samples.write(place, samples.kept([made], program))
    artefact.seal(place, artefact.described(source, parts, how) | {"weights": declared})
    return place


def changed(place: Path, out: Path, factor: float) -> Path:
    """A copy of an artefact with other weights, whose samples are as these act."""
    shutil.copytree(place, out)
    found = contract.read(place)
    case = samples.read(place, found.programs["greedy"])
    constants = artefact.constants_of(found.programs)
    scaled = {n: x * factor if x.dtype.kind == "f" else x for n, x in constants.items()}
    scaled = {n: x.astype(constants[n].dtype) for n, x in scaled.items()}
    _, data = weights.packed(scaled, "float32")
    (out / WEIGHTS).write_bytes(data)
    programs = {
        n: each._replace(constants={name: scaled[name] for name in each.constants})
        for n, each in found.programs.items()
    }
    acts = parity.expected(Runner(programs["greedy"]), case.rows, found.start)
    wide = parity.Expected(acts.outputs, case.rows.memory, acts.scale)
    memory = {n: x[None] for n, x in case.rows.memory.items()}
    rows = samples.rows_of(case._replace(want=wide._replace(memory=memory)), programs["greedy"])
    samples.write(out, rows)
    (out / CONTRACT).unlink()
    artefact.seal(out, {n: x for n, x in found.values.items() if n not in ("files", "sha256")})
    return out


class Reply(NamedTuple):
    """What the application answered."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, or that part of it that is JSON."""
        length = self.headers.get(LENGTH)
        return json.loads(self.body[: None if length is None else int(length)])

    @property
    def error(self) -> str:
        """Why the request was refused."""
        return self.json["error"]


Receive = Callable[[], Awaitable[Any]]


def reading(*parts: bytes) -> Receive:
    """A body that comes in parts."""
    left = list(parts)

    async def receive() -> Any:
        return {"type": "http.request", "body": left.pop(0), "more_body": bool(left)}

    return receive


async def ask(
    app: Any,
    path: str,
    body: Any = None,
    method: str | None = None,
    receive: Receive | None = None,
    mount: str = "",
    **headers: str,
) -> Reply:
    """One request; a body that is no bytes goes as JSON."""
    data = body if isinstance(body, bytes) else b"" if body is None else json.dumps(body).encode()
    pairs = {"content-length": str(len(data)), "host": "127.0.0.1:8000"} if receive is None else {}
    pairs |= {name.replace("_", "-"): value for name, value in headers.items()}
    scope = {
        "type": "http",
        "method": method or ("GET" if body is None else "POST"),
        "path": mount + path,
        "root_path": mount,
        "headers": [(n.encode(), x.encode()) for n, x in pairs.items()],
    }
    sent: list[Any] = []

    async def send(message: Any) -> None:
        sent.append(message)

    await app(scope, receive or reading(data), send)
    start, end = sent
    found = {n.decode(): x.decode() for n, x in start["headers"]}
    assert int(found["content-length"]) == len(end["body"])
    return Reply(start["status"], found, end["body"])


def asked(app: Any, path: str, body: Any = None, **how: Any) -> Reply:
    """One request, outside of a loop."""
    return asyncio.run(ask(app, path, body, **how))


def tensor(x: np.ndarray, datatype: str, name: str = "obs") -> dict[str, Any]:
    """A tensor of KServe's protocol in JSON."""
    return {
        "name": name,
        "shape": list(x.shape),
        "datatype": datatype,
        "data": x.reshape(-1).tolist(),
    }


# --- a server of its own ---


@contextmanager
def running(*arguments: Any) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """(the address, the process) of parl serve."""
    command = [sys.executable, "-m", "parl.cli", "serve", *map(str, arguments), "--port", "0"]
    path = str(Path(parl.__file__).parent.parent)
    child = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": path},
    )
    try:
        assert child.stdout is not None and child.stderr is not None
        url = next((line for line in child.stdout if line.startswith("http")), None)
        assert url is not None, child.stderr.read()
        yield url.strip().removesuffix("/act"), child
    finally:
        child.kill()
        child.communicate()


def memory_of(process: Any) -> int:
    """Resident bytes of a process."""
    pages = Path(f"/proc/{process.pid}/statm").read_text().split()[1]
    return int(pages) * 4096


def raw(port: int, data: bytes) -> bytes:
    """What a server sends back until it closes."""
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        connection.sendall(data)
        parts = []
        while part := connection.recv(65536):
            parts.append(part)
    return b"".join(parts)


def token(place: Path) -> Path:
    """A good token file."""
    file = place / "good"
    file.write_text("a token of more than 16 letters")
    file.chmod(0o600)
    return file
