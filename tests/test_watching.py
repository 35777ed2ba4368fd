"""Watching a run: gauges for Prometheus, and traces of iterations."""

import gzip
import json
import socket
import urllib.request
from pathlib import Path

import pytest

import parl
from parl.core.errors import ConfigError, MissingPackage
from parl.remote.tracing import Traced, Tracing
from parl.report.metrics import read_metrics
from parl.report.prometheus import Exporter, Newest, families, gauges
from parl.runs.config import profiled
from parl.runs.hooks import NextEnv
from parl.runs.profile import Profiler


def test_gauges_of_a_line():
    line = {"env_steps": 8, "kl": None, "on": True, "why": "text", "eval/return_mean": 1.5}
    line |= {"return_mean": 2.0, "return_mean_seeds": [1.0, None, 3]}
    assert gauges(line, [5, 6, 7]) == {
        "env_steps": {"": 8.0},
        "eval_return_mean": {"": 1.5},
        "return_mean": {"": 2.0, "5": 1.0, "7": 3.0},
    }


def test_gauges_of_several_runs():
    """One family a name, with a sample of each run that has it."""
    labels = lambda run: {"run": run, "algorithm": "ppo", "env": "E", "driver": f"h:{run}"}
    one = Newest(labels("a"), [0], {"env_steps": 8, "kl": 0.5}, 1.0)
    found = list(families([one, Newest(labels("b"), [1, 2], {"env_steps": 9}, 2.0)]))
    samples = {f.name: [(s.labels["driver"], s.value) for s in f.samples] for f in found}
    assert samples == {
        "parl_env_steps": [("h:a", 8.0), ("h:b", 9.0)],
        "parl_kl": [("h:a", 0.5)],
        "parl_line_time_seconds": [("h:a", 1.0), ("h:b", 2.0)],
    }
    assert list(families([])) == []


def free_port():
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        return server.getsockname()[1]


def told(path, steps=0):
    config = {"algorithm": "ppo", "env": "jax:CartPole-v1", "seed": 3, "num_seeds": 1}
    return {"path": str(path), "env_steps": steps, "config": config}


def test_prometheus_gets_the_newest_line(capsys, monkeypatch):
    pytest.importorskip("prometheus_client")
    port = free_port()
    one, other = Exporter(port), Exporter(port)
    one.on_start(told("/runs/one"))
    one.on_record({"env_steps": 8, "return_mean": 1.0})
    one.on_record({"env_steps": 16, "return_mean": 2.5})
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        lines = [line for line in answer.read().decode().splitlines() if line[0] != "#"]
    of = 'algorithm="ppo",env="jax:CartPole-v1",run="one",seed=""'
    assert lines[:2] == [f"parl_env_steps{{{of}}} 16.0", f"parl_return_mean{{{of}}} 2.5"]
    assert lines[2].startswith("parl_line_time_seconds{") and len(lines) == 3
    with pytest.raises(ConfigError, match=f"cannot listen at 127.0.0.1:{port} for --metrics-port"):
        other.on_start(told("/runs/other"))
    other.on_start(told("/runs/other", 16))  # resumed
    assert capsys.readouterr().err.endswith("the run goes on without.\n")
    other.on_end({})
    one.on_end({})
    with pytest.raises(OSError):
        urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=1)
    monkeypatch.setitem(__import__("sys").modules, "prometheus_client", None)
    with pytest.raises(MissingPackage, match=r"pip install 'parl-jax\[metrics\]'"):
        one.on_start(told("/runs/one"))


def test_iterations_to_trace():
    assert profiled("10:13") == range(10, 13) and not profiled("")
    for text in ("10", "3:3", "5:4", "a:b", "-1:4", ":"):
        with pytest.raises(ConfigError, match=f"such as 10:13, not '{text}'"):
            profiled(text)
    profiler = Profiler(range(10, 13), Path())
    assert [profiler.left(i) for i in (0, 9, 10, 12, 13)] == [10, 1, 3, 1, None]
    assert Profiler(range(0), Path()).left(0) is None
    traced = Traced(1, range(10, 12), Path())
    assert [traced.wants(*x) for x in ((1, 10), (1, 12), (0, 10))] == [True, False, False]


def events(trace):
    with gzip.open(trace) as file:
        return json.load(file)["traceEvents"]


def test_a_worker_sends_what_it_traced(tmp_path):
    with Tracing(False) as tracing:
        pass
    assert tracing.result == b""
    with Tracing(True) as tracing:
        NextEnv(gravity=1.0)
    Traced(0, range(1), tmp_path).keep(4, tracing.result)
    names = [str(event.get("name")) for event in events(tmp_path / "worker-0-policy-4.json.gz")]
    assert any(name.startswith("$hooks.py") and "__init__" in name for name in names)


@pytest.mark.slow
def test_iterations_of_a_run_are_traced(tmp_path):
    small = {"num_envs": 2, "length": 4, "hidden": (4,), "epochs": 1, "minibatches": 1}
    settings = small | {"steps": 80, "eval_episodes": 0, "profile": "3:5"}
    run = parl.train("ppo", "jax:CartPole-v1", tmp_path / "run", True, curve=False, **settings)
    (trace,) = (run.path / "profile").rglob("perfetto_trace.json.gz")
    assert events(trace)
    shares = [line["compute_share"] for line in read_metrics(run.path)]
    assert all(0 <= share <= 1 for share in shares) and max(shares) > 0
    with pytest.raises(ConfigError, match="add --profile 10:13"):
        parl.train("ppo", "jax:CartPole-v1", tmp_path / "no", True, profile_worker=0)
