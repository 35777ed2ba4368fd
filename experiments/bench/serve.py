"""Speed of `parl serve` beside FastAPI and Ray Serve: the same policy, requests and client.

    python -m venv peers && peers/bin/pip install '.[serve]' fastapi 'ray[serve]'
    peers/bin/python experiments/bench/serve.py POLICY [--requests 20000] [--rounds 3]

POLICY is exported and has no memory. Each server runs in a process of its own and is asked by
another, first over one connection, then over 32, each of which sends its next request when it has
its answer. The rounds are A B C A B C ...; of each server the best round counts, as other processes
share the cores. RSS is that of all processes of a server.
"""

import argparse
import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
CONNECTIONS = 32


class Asking(asyncio.Protocol):
    """One connection that asks until the requests are used up."""

    def __init__(self, request: bytes, left: list[int], seconds: list[float], done: Any):
        self.request, self.left, self.seconds, self.done = request, left, seconds, done
        self.wrong, self.data = 0, b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        self.next()

    def next(self) -> None:
        if not self.left[0]:
            self.transport.close()
            self.done.set_result(self.wrong)
            return
        self.left[0] -= 1
        self.began = time.perf_counter()
        self.transport.write(self.request)

    def data_received(self, data: bytes) -> None:
        self.data += data
        head, found, body = self.data.partition(b"\r\n\r\n")
        if not found:
            return
        length = int(head.lower().partition(b"content-length: ")[2].partition(b"\r\n")[0])
        if len(body) < length:
            return
        self.seconds.append(time.perf_counter() - self.began)
        self.wrong += not (head[9:12] == b"200" and b'"action"' in body)
        self.data = b""
        self.next()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.done.done():
            self.done.set_result(self.wrong + 1)


async def load(port: int, obs: list[float], connections: int, requests: int) -> dict[str, float]:
    """Milliseconds and requests per second of closed connections side by side."""
    body = json.dumps({"obs": obs}).encode()
    head = "POST /act HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: application/json\r\n"
    request = f"{head}content-length: {len(body)}\r\n\r\n".encode() + body
    loop, left, seconds = asyncio.get_running_loop(), [requests], []
    done = [loop.create_future() for _ in range(connections)]
    began = time.perf_counter()
    for each in done:
        await loop.create_connection(
            lambda each=each: Asking(request, left, seconds, each), "127.0.0.1", port
        )
    wrong = sum(await asyncio.gather(*done))
    passed = time.perf_counter() - began
    p50, p99 = np.percentile(seconds, (50, 99)) * 1e3
    return {"p50_ms": p50, "p99_ms": p99, "per_s": len(seconds) / passed, "errors": wrong}


def free_port() -> int:
    """A port that nobody has."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return listener.getsockname()[1]


def servers(policy: str) -> dict[str, list[str]]:
    """The commands, which take the port as their last word."""
    python = sys.executable
    return {
        "parl serve": [python, "-m", "parl.cli", "serve", policy, "--port"],
        "FastAPI": [python, str(HERE / "peers" / "fastapi_policy.py"), policy],
        "Ray Serve": [python, str(HERE.parent / "ray_serve.py"), policy, "--port"],
    }


def family(pid: int) -> list[int]:
    """A process and all that it started."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    return [pid, *(each for child in children for each in family(int(child)))]


def resident(pid: int) -> float:
    """MiB of the processes of a server."""
    pages = [int(Path(f"/proc/{p}/statm").read_text().split()[1]) for p in family(pid)]
    return sum(pages) * 4096 / 2**20


def measured(command: list[str], obs: list[float], requests: int) -> dict[str, float]:
    """One round of a server, from its start to its end."""
    port = free_port()
    began = time.perf_counter()
    child = subprocess.Popen([*command, str(port)], stdout=subprocess.PIPE, text=True)
    try:
        assert child.stdout is not None
        if not any(line.startswith("http") for line in child.stdout):
            raise SystemExit(f"{' '.join(command)} did not start")
        start = time.perf_counter() - began
        client = [sys.executable, __file__, "--ask", str(port), "--obs", json.dumps(obs)]
        asked = subprocess.run(
            [*client, "--requests", str(requests)], capture_output=True, text=True, check=True
        )
        found = json.loads(asked.stdout)
        return found | {"start_s": start, "rss_mib": resident(child.pid)}
    finally:
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(30)
        except subprocess.TimeoutExpired:
            child.kill()


def ask(port: int, obs: list[float], requests: int) -> dict[str, float]:
    """What the client's process measures."""
    import uvloop

    def run(connections: int, count: int) -> dict[str, float]:
        return uvloop.run(load(port, obs, connections, count))

    run(1, min(200, requests))  # warm
    one, many = run(1, requests // 4), run(CONNECTIONS, requests)
    return {
        "p50_ms_1": one["p50_ms"],
        "per_s": many["per_s"],
        "p99_ms": many["p99_ms"],
        "errors": one["errors"] + many["errors"],
    }


def report(rounds: dict[str, list[dict[str, float]]]) -> None:
    """The best of each server, and its ratio to ours."""
    ours = 0.0
    print(f"{'server':12s} {'p50 at 1':>9s} {'req/s':>7s} {'p99':>8s} {'RSS':>7s} {'start':>7s}")
    for name, found in rounds.items():
        low = {key: min(each[key] for each in found) for key in found[0]}
        rate = max(each["per_s"] for each in found)
        ours = ours or rate
        print(
            f"{name:12s} {low['p50_ms_1']:6.2f} ms {rate:7.0f} {low['p99_ms']:5.1f} ms "
            f"{low['rss_mib']:3.0f} MiB {low['start_s']:5.1f} s, "
            f"errors {sum(each['errors'] for each in found):.0f}, ours : it {ours / rate:.2f}"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("policy", nargs="?")
    parser.add_argument("--requests", type=int, default=20_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--only", nargs="*", help="parl, fastapi or ray")
    parser.add_argument("--ask", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--obs", type=json.loads, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.ask:
        print(json.dumps(ask(arguments.ask, arguments.obs, arguments.requests)))
        return
    import parl

    leaves = parl.Policy.load(arguments.policy).contract.leaves
    (leaf,) = leaves  # of a policy that sees one vector
    obs = np.linspace(-0.1, 0.1, int(np.prod(leaf.own_shape))).round(3).tolist()
    rounds: dict[str, list[dict[str, float]]] = {}
    for _ in range(arguments.rounds):
        for name, command in servers(arguments.policy).items():
            if arguments.only and not any(word in name.lower() for word in arguments.only):
                continue
            few = arguments.requests // 20 if name == "Ray Serve" else arguments.requests
            rounds.setdefault(name, []).append(measured(command, obs, few))
            print(name, json.dumps(rounds[name][-1]), flush=True)
    print(f"load average {' '.join(f'{x:.1f}' for x in os.getloadavg())}")
    report(rounds)


if __name__ == "__main__":
    main()
