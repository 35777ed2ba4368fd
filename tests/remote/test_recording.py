"""Recording on rollout actors: the same data set as in one process, also where an actor dies."""

import os
from functools import partial
from pathlib import Path
from typing import Any

import gymnasium
import pytest

import parl
from parl.datasets.reader import open_data
from parl.runs import record

pytest.importorskip("h5py")

RUN = Path(__file__).parents[1] / "data" / "runs" / "sac-host"
DRIVER = os.getpid()


class Mortal(gymnasium.Wrapper):
    """Ends its process once, in the middle of an episode."""

    def __init__(self, env: gymnasium.Env, mark: Path, driver: int):
        super().__init__(env)
        self.mark, self.driver, self.steps = mark, driver, 0

    def step(self, action: Any) -> Any:
        self.steps += 1
        if self.steps == 150 and os.getpid() != self.driver and not self.mark.exists():
            self.mark.write_text(str(os.getpid()))
            os._exit(1)
        return self.env.step(action)


def make(mark: Path, driver: int) -> gymnasium.Env:
    return Mortal(gymnasium.make("Pendulum-v1"), mark, driver)


@pytest.mark.slow
def test_each_episode_is_recorded_once_whoever_dies(
    cluster: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(record, "SHARD_STEPS", 400)  # 2 episodes of 200 steps
    mark = tmp_path / "died"
    given: dict[str, Any] = {"env": partial(make, mark, DRIVER), "sample": True}
    for amount in ({"episodes": 5}, {"steps": 900}):
        name = next(iter(amount))
        alone = parl.record(RUN, tmp_path / f"alone-{name}", **amount, **given)
        spread = parl.record(RUN, tmp_path / f"spread-{name}", **amount, **given, actors=2)
        assert spread.card.sha256 == alone.card.sha256
        assert spread.card.shards == alone.card.shards and len(alone.card.shards) == 3
        assert spread.card.episodes == 5
        assert len([*open_data(spread.path).episodes()]) == 5
    assert int(mark.read_text()) != DRIVER, "an actor has died"
