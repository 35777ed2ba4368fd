"""What the experiments on the rollout pool share: workers, a learner, and reports."""

import argparse
import json
import os
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import parl
from parl.agents.execution.collector import Fragment
from parl.agents.execution.ended import nothing
from parl.agents.execution.protocol import Seeds, init_learner
from parl.core.types import Rollout
from parl.envs.protocol import Transition
from parl.runs.build import resolve
from parl.runs.config import RunConfig
from parl.runs.executions import make_collector


class Learning:
    """PPO, or its like, that learns from every fragment as it comes; how to make its workers."""

    def __init__(self, id: str, num_envs: int, length: int, algorithm: str = "ppo"):
        settings = {"num_envs": num_envs, "length": length, "epochs": 2, "minibatches": 2}
        parts = resolve(RunConfig(algorithm, id, steps=10**9, execution="host", settings=settings))
        learner, seeds = parts.learner, Seeds((0,))
        self.make_worker = partial(
            make_collector, parts.factory.vector, learner.algorithm, seeds, num_envs
        )
        self.state = init_learner(learner, parts.factory.spec, seeds, length, num_envs)
        self.policy = jax.jit(learner.algorithm.policy)(self.state.algorithm_state)
        self.key, self.updates = jax.random.key(0), 0

        def learn(state: Any, rollout: Rollout, key: Any, clock: Any) -> tuple[Any, Any]:
            state, _ = learner.learn(state, rollout, jax.random.fold_in(key, clock))
            return state, learner.policy(state)

        self.program = jax.jit(learn, donate_argnums=0)

    def learn(self, fragment: Fragment) -> Any:
        """Learns from a fragment; returns the next policy."""
        self.updates += 1
        clock = np.int32(self.updates)
        self.state, self.policy = self.program(self.state, fragment.rollout, self.key, clock)
        return self.policy


class SleepEnv:
    """Observations of CartPole's shape; its time is asleep, so that workers need no core each."""

    spec = parl.EnvSpec("Sleep-v0", parl.Box((4,)), parl.Discrete(2))

    def __init__(self, num_envs: int):
        self.num_envs = num_envs

    def step(self, action: Any) -> Transition:
        obs, no = np.zeros((self.num_envs, 4), np.float32), np.zeros(self.num_envs, bool)
        return Transition(obs, np.ones(self.num_envs, np.float32), no, no, obs)

    def close(self) -> None: ...


class SleepCollector:
    """As much of a Collector as a pool needs: one fragment is one nap."""

    seeds = Seeds((0,))

    def __init__(self, num_envs: int, fragment_seconds: float):
        self.envs: list[Any] = [SleepEnv(num_envs)]
        self.num_envs, self.fragment_seconds = num_envs, fragment_seconds

    def collect(self, policy: Any, length: int, random: bool = False) -> Fragment:
        """A fragment of zeros after a nap."""
        time.sleep(self.fragment_seconds)
        shape = (length, self.num_envs)
        obs, one = np.zeros((*shape, 4), np.float32), np.ones(shape, np.float32)
        no, action = np.zeros(shape, bool), np.zeros(shape, np.int32)
        steps = parl.Step(obs, action, one, one, obs, no, no, {"log_prob": one})
        return Fragment(Rollout(steps, ()), nothing())

    def close(self) -> None: ...


def make_sleeper(num_envs: int, fragment_seconds: float, index: int) -> SleepCollector:
    """What a worker holds; bind the first two with functools.partial."""
    return SleepCollector(num_envs, fragment_seconds)


class Line(NamedTuple):
    """One line of a report: what was measured, and what it should be."""

    name: str
    value: Any
    goal: str = ""
    met: bool | None = None  # None where nothing was aimed at


def write(lines: list[Line], flags: argparse.Namespace, **found: Any) -> bool:
    """Prints a Markdown table, writes it and JSON to flags.out; returns whether all goals are met.

    The JSON holds the flags too, but for where it lies, the machine's load and what was `found`.
    """
    marks = {None: "", True: "yes", False: "**no**"}
    rows = [f"| {x.name} | {shown(x.value)} | {x.goal} | {marks[x.met]} |" for x in lines]
    text = "\n".join(["| what | measured | goal | met |", "|---|---|---|---|", *rows])
    print(text, flush=True)
    out: Path | None = flags.out
    if out:
        settings: dict[str, Any] = {k: str(x) for k, x in vars(flags).items() if k != "out"}
        settings |= {"load": f"{os.getloadavg()[0]:.1f}"} | found
        out.parent.mkdir(parents=True, exist_ok=True)
        out.with_suffix(".md").write_text(text + "\n")
        report = {"settings": settings, "lines": [line._asdict() for line in lines]}
        out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    return all(line.met is not False for line in lines)


def shown(value: Any) -> str:
    """Numbers with three digits that matter."""
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return f"{value:,}" if type(value) is int else str(value)
