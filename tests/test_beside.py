"""Evaluations that do not hold up learning give the numbers of those that do, in order."""

import json
from pathlib import Path
from typing import Any

import pytest

from parl import api
from parl.api import training
from parl.runs.trainer import Trainer
from parl.runs.waiting import Waiting

RUN = {
    "num_envs": 2, "length": 8, "hidden": (4,), "steps": 640, "eval_every": 64,
    "checkpoint_every": 320, "eval_episodes": 2,
}  # fmt: skip


class Slow:
    """Evaluates when asked for the result, as another process would have meanwhile."""

    def __init__(self, trainer: Trainer, patience: int):
        self.trainer, self.patience, self.asked = trainer, patience, 0
        self.closed = False

    def begin(self, policy: Any, env_steps: int, episodes: int) -> None:
        assert self.trainer.waiting is not None and not self.trainer.waiting.lines
        self.arguments, self.asked = (policy, env_steps, episodes), 0

    @property
    def is_done(self) -> bool:
        self.asked += 1
        return self.asked > self.patience

    def result(self) -> Any:
        return self.trainer.judge.measure(*self.arguments)

    def close(self) -> None:
        self.closed = True


def test_lines_wait_for_their_evaluation(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def run(name: str) -> tuple[dict[str, Any], list[dict[str, Any]], list[dict[str, Any]]]:
        told: list[dict[str, Any]] = []
        done = api.train(
            "ppo", "jax:CartPole-v1", tmp_path / name, True, curve=False, execution="host",
            on_evaluation=lambda found: told.append(found), **RUN,
        )  # fmt: skip
        records = [json.loads(line) for line in (done.path / "metrics.jsonl").open()]
        return done.result, records, told

    plain, lines, told = run("plain")
    made: list[Slow] = []

    class Late(Trainer):
        def __init__(self, *arguments: Any, **options: Any):
            super().__init__(*arguments, **options)
            made.append(Slow(self, patience=3))
            self.waiting = Waiting(made[-1])

    monkeypatch.setattr(training, "Trainer", Late)
    late, late_lines, late_told = run("late")
    assert late["params_sha256"] == plain["params_sha256"] and made[0].closed
    kept = lambda lines: [
        {k: x for k, x in line.items() if k == "env_steps" or k.startswith("eval/")}
        for line in lines
    ]
    assert kept(late_lines) == kept(lines)
    assert [each["env_steps"] for each in late_told] == [each["env_steps"] for each in told]
    steps = sorted(int(path.name) for path in (tmp_path / "late" / "checkpoints").iterdir())
    assert steps[-1] == 640 and len(steps) >= 3  # each evaluated policy was saved, the best is kept
