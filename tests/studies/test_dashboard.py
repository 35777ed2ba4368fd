"""The dashboard tells the numbers of runs of its directory alone, and to this machine alone."""

import http.client
import json
import shutil
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest

from parl.cli import main
from parl.core.errors import ConfigError
from parl.core.locks import Lock
from parl.core.sockets import listen
from parl.studies.dashboard.server import Server
from parl.studies.dashboard.watched import Watched

LOST = object()


def write(
    path: Path, seeds: list[list[float]], seed: int = 0, env: str = "A-v0", **own: Any
) -> Path:
    """A run of K seeds with an evaluation of each every 100 steps."""
    path.mkdir(parents=True)
    config = {"algorithm": "ppo", "env": env, "seed": seed, "num_seeds": len(seeds), "steps": 400}
    (path / "config.json").write_text(json.dumps(config | {"settings": own}))
    with (path / "metrics.jsonl").open("w") as file:
        for i, scores in enumerate(zip(*seeds, strict=True), 1):
            line = {"env_steps": 100 * i, "wall_s": 2.0 * i, "train_s": 1.5 * i, "sps": 50.0}
            line |= {
                "kl": 0.5 * i,
                "skipped_updates": 0,
                "pool/collected": 100 * i,
                "updates": 7 * i,
            }
            means = {"eval/return_mean": sum(scores) / len(scores)}
            file.write(json.dumps(line | means | {"eval/return_mean_seeds": scores}) + "\n")
    return path


@pytest.fixture
def place(tmp_path: Path) -> Path:
    write(tmp_path / "runs" / "low", [[0.0, 1.0], [2.0, 5.0]], learning_rate=0.1)
    for seed in (0, 1):
        write(tmp_path / f"runs/high/{seed}", [[4.0, 8.0 + seed]], seed, learning_rate=0.2)
    return tmp_path / "runs"


@pytest.fixture
def port(place: Path) -> Iterator[int]:
    with listen("127.0.0.1", 0) as listener, Server(listener, Watched(place)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        yield listener.getsockname()[1]
        server.shutdown()
        thread.join()


def ask(port: int, path: str, method: str = "GET", host: Any = LOST, **query: Any) -> Any:
    """(status, headers, content) of an answer."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    head = {} if host is LOST else {"Host": host}
    asked = f"{path}?{urlencode(query, doseq=True)}" if query else path
    connection.request(method, asked, headers=head)
    answer = connection.getresponse()
    body = answer.read()
    connection.close()
    is_json = "json" in answer.headers["Content-Type"]
    return answer.status, answer.headers, json.loads(body) if is_json and body else body


def test_runs_are_listed_with_their_numbers(place: Path, port: int) -> None:
    result = {"env_steps": 200, "return": {"mean": 3.5, "seeds": [1.0, 6.0]}}
    (place / "low" / "result.json").write_text(json.dumps(result))
    lock = Lock(place / "high" / "1" / ".lock")
    lock.write({})
    status, _, told = ask(port, "/api/runs")
    lock.close()
    assert status == 200
    rows = {row["name"]: row for row in told["runs"]}
    assert list(rows) == ["high/0", "high/1", "low"]
    assert [row["state"] for row in rows.values()] == ["stopped", "running", "finished"]
    low = rows["low"]
    assert (low["return"], low["of"], low["seeds"], low["env_steps"]) == (3.5, "greedy", 2, 200)
    assert (low["sps"], low["steps"], low["wall_s"], low["skipped"]) == (50.0, 400, 4.0, 0)
    assert told["metrics"][:3] == ["eval/return_mean", "return_mean", "kl"]


def test_curves_are_over_the_seeds_of_a_group(place: Path, port: int) -> None:
    names = ["low", "high/0", "high/1"]
    _, _, told = ask(port, "/api/curves", run=names)
    low, high = told["curves"]
    assert low["label"] == "learning_rate 0.1" and high["label"] == "learning_rate 0.2"
    assert low["x"] == [100, 200] and low["seeds"] == 2 == high["seeds"]
    assert low["middle"] == [1.0, 3.0] and high["middle"] == [4.0, 8.5]
    assert low["low"] == [0.0, 1.0] and low["high"] == [2.0, 5.0]  # all draws of two seeds
    assert told["settings"]["names"] == ["learning_rate"]
    assert told["settings"]["runs"] == {"low": ["0.1"], "high/0": ["0.2"], "high/1": ["0.2"]}
    _, _, told = ask(port, "/api/curves", run=names, x="wall_s", metric="kl")
    assert told["curves"][0]["x"] == [2.0, 4.0] and told["curves"][0]["middle"] == [0.5, 1.0]
    assert ask(port, "/api/curves", run=names, metric="no")[2]["curves"] == []
    assert "no axis 'y'" in ask(port, "/api/curves", x="y")[2]["error"]
    assert ask(port, "/api/curves")[2]["curves"] == []


def test_a_run_that_goes_on_is_read_again(place: Path, port: int) -> None:
    before = ask(port, "/api/curves", run="low")[2]["curves"][0]["x"]
    with (place / "low" / "metrics.jsonl").open("a") as file:
        file.write('{"env_steps": 300, "eval/return_mean_seeds": [3.0, 7.0]}\n{"env_steps": 4')
    after = ask(port, "/api/curves", run="low")[2]["curves"][0]
    assert before == [100, 200] and after["x"] == [100, 200, 300] and after["middle"][-1] == 5.0
    assert ask(port, "/api/runs")[2]["runs"][2]["env_steps"] == 300


def test_a_run_is_told_with_health_workers_and_pictures(place: Path, port: int) -> None:
    (place / "low" / "video.mp4").write_bytes(b"moving")
    _, _, told = ask(port, "/api/run", name="low")
    assert told["health"]["kl"] == {"x": [100, 200], "y": [0.5, 1.0]}
    assert told["health"]["eval/return_mean"]["y"] == [1.0, 3.0]
    assert told["workers"] == {"collected": {"x": [100, 200], "y": [100, 200]}}
    assert told["seconds"] == {"train": 3.0} and told["settings"]["learning_rate"] == "0.1"
    assert told["pictures"] == ["video.mp4"]
    status, head, body = ask(port, "/file", name="low", file="video.mp4")
    assert (status, head["Content-Type"], body) == (200, "video/mp4", b"moving")
    assert ask(port, "/file", "HEAD", name="low", file="video.mp4")[2] == b""


def test_nothing_outside_of_the_directory_is_told(place: Path, port: int, tmp_path: Path) -> None:
    write(tmp_path / "secret", [[9.0]])
    (tmp_path / "secret.png").write_bytes(b"secret")
    (place / "low" / "way.png").symlink_to(tmp_path / "secret.png")
    (place / "bent").mkdir()
    (place / "bent" / "config.json").symlink_to(tmp_path / "secret" / "config.json")
    (place / "lead").symlink_to(tmp_path / "secret")
    assert len(ask(port, "/api/runs")[2]["runs"]) == 3
    for name in ("../secret", str(tmp_path / "secret"), "bent", "lead", "", "."):
        assert ask(port, "/api/run", name=name)[0] == 404
    for file in ("way.png", "../../secret.png", "config.json", str(tmp_path / "secret.png"), ""):
        status, _, told = ask(port, "/file", name="low", file=file)
        assert status == 404 and "no picture" in told["error"]
    assert ask(port, "/../secret/config.json")[0] == 404


def test_only_this_machine_may_read(port: int) -> None:
    for host in ("127.0.0.1", f"localhost:{port}", f"[::1]:{port}", f"LOCALHOST:{port}"):
        assert ask(port, "/", host=host)[0] == 200
    for host in ("rebound.example", f"rebound.example:{port}", "127.0.0.1.example", ""):
        status, _, told = ask(port, "/api/runs", host=host)
        assert status == 403 and "this machine" in told["error"]
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        assert ask(port, "/api/runs", method)[0] == 501
    _, head, page = ask(port, "/")
    assert "access-control-allow-origin" not in {name.lower() for name in head}
    assert head["Content-Security-Policy"].startswith("default-src 'none'")
    assert (
        b"http://" not in page.replace(b"http://www.w3.org/2000/svg", b"") and b"src=" not in page
    )


def test_a_damaged_run_harms_no_other(place: Path, port: int) -> None:
    (place / "low" / "metrics.jsonl").write_text('{"env_steps": 1, "kl": "high"}\nno\n[1]\n')
    (place / "high" / "0" / "result.json").write_text("{")
    rows = ask(port, "/api/runs")[2]["runs"]
    assert len(rows) == 3
    curves = ask(port, "/api/curves", run=[row["name"] for row in rows], metric="kl")[2]["curves"]
    assert [curve["seeds"] for curve in curves] == [2]


def test_a_directory_that_is_not_there_is_a_sentence(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no directory"):
        Watched(tmp_path / "none")
    assert main(["dashboard", str(tmp_path / "none")]) == 2
    with listen("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        assert main(["dashboard", str(tmp_path), "--port", str(port)]) == 2


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("chromium") is None, reason="a browser shows the page")
def test_the_page_draws_runs_in_a_browser(place: Path, port: int, tmp_path: Path) -> None:
    write(
        place / "odd", [[1.0, 2.0]], env="<img src=x onerror=document.title=1>", learning_rate=0.3
    )
    command = [
        *("chromium", "--headless=new", "--no-sandbox", "--disable-gpu"),
        *("--virtual-time-budget=5000", f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom"),
    ]
    done = subprocess.run(
        [*command, f"http://127.0.0.1:{port}/"], capture_output=True, text=True, timeout=120
    )
    page = done.stdout
    assert 'data-ready="yes"' in page
    assert page.count('class="curve"') == 3 and page.count('class="band"') == 2
    assert page.count("data-name=") == 4 and ">4 runs, 0 running<" in page
    assert "&lt;img src=x onerror" in page and "<img src=x" not in page
    assert "<title>PARL runs</title>" in page
