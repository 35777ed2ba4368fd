"""Vector environments of the user's own: every mode of reset gives the numbers of single ones."""

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, SyncVectorEnv, VectorEnv

import parl
from parl.core.errors import CheckpointError, ConfigError, EnvError
from parl.envs.factory import make_factory


class Walk(gymnasium.Env):
    """Ends after three to five steps; sees a vector and its time."""

    observation_space = spaces.Dict(
        {"seen": spaces.Box(-1, 1, (2,), np.float32), "time": spaces.Discrete(9)}
    )
    action_space = spaces.Discrete(3, start=1)

    def observed(self):
        return {"seen": self.np_random.uniform(-1, 1, 2).astype(np.float32), "time": self.time}

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time, self.end = 0, int(self.np_random.integers(3, 6))
        return self.observed(), {}

    def step(self, action):
        self.time += 1
        over = self.time == self.end
        return self.observed(), float(action), over and self.end < 5, over and self.end == 5, {
            "score": 10 * self.time
        }  # fmt: skip


def vector(mode):
    return lambda num_envs: SyncVectorEnv([Walk] * num_envs, autoreset_mode=mode)


def same(one, other):
    for name in one if isinstance(one, dict) else ():
        np.testing.assert_array_equal(one[name], other[name])
    if not isinstance(one, dict):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("mode", AutoresetMode)
def test_every_mode_is_as_single_environments(mode):
    ours, theirs = make_factory(Walk).vector(3, 7, 0), make_factory(vector(mode)).vector(3, 7, 0)
    assert theirs.spec.observation_space == ours.spec.observation_space
    same(ours.reset(), theirs.reset())
    ended = 0
    for step in range(40):
        action = np.full(3, step % 3)
        a, b = ours.step(action), theirs.step(action)
        for x, y in zip(a, b, strict=True):
            same(x, y)
        ended += (b.terminated | b.truncated).sum()
        assert [info["score"] for info in theirs.infos] == [info["score"] for info in ours.infos]
    assert ended > 20
    state = theirs.get_state()
    assert not state.exact
    again = make_factory(vector(mode)).vector(3, 7, 0)
    same(again.set_state(state), theirs.set_state(state))
    with pytest.raises(CheckpointError, match=r"a state of 3 x .* cannot be continued by 2"):
        make_factory(vector(mode)).vector(2, 7, 0).set_state(state)


class Batch(VectorEnv):
    """A vector of its own kind, which resets in the step after."""

    num_envs = 2
    single_observation_space = spaces.Box(-1, 1, (1,), np.float32)
    single_action_space = spaces.Discrete(2)
    observation_space = spaces.Box(-1, 1, (2, 1), np.float32)
    action_space = spaces.MultiDiscrete([2, 2])
    metadata = {}  # noqa: RUF012
    spec = None

    def reset(self, *, seed=None, options=None):
        return np.zeros((2, 1), np.float32), {}

    def step(self, actions):
        seen = np.zeros((2, 1), np.float32)
        return seen, np.ones(2), np.array([True, False]), np.zeros(2, bool), self.told

    told = {}  # noqa: RUF012


class Silent(Batch):
    """One that loses the last observation."""

    metadata = {"autoreset_mode": AutoresetMode.SAME_STEP}  # noqa: RUF012


def test_made_up_steps_and_lost_observations_are_refused():
    with pytest.raises(
        EnvError, match=r"AutoresetMode.NEXT_STEP.* are of no episode: make it with"
    ):
        make_factory(Batch)
    env = make_factory(Silent).vector(2, 0, 0)
    env.reset()
    with pytest.raises(EnvError, match="ended an episode without its last observation"):
        env.step(np.zeros(2, int))


RUN = {"length": 8, "epochs": 1, "hidden": (4,), "steps": 128, "eval_episodes": 2, "quiet": True}


@pytest.mark.slow
def test_a_run_learns_the_same_from_either(tmp_path):
    many = lambda num_envs: gymnasium.make_vec("CartPole-v1", num_envs, "sync")
    few = {"num_envs": 2, "minibatches": 1}
    a = parl.train("ppo", env="CartPole-v1", out=tmp_path / "a", **few, **RUN)
    b = parl.train("ppo", env=many, out=tmp_path / "b", **few, **RUN)
    assert a.result["params_sha256"] == b.result["params_sha256"]
    made = many(2)
    c = parl.train("ppo", env=made, out=tmp_path / "c", minibatches=1, **RUN)
    assert c.result["return"]["mean"] is not None  # judged in the only one there is
    with pytest.raises(ConfigError, match="vector of 3 environments: use --num-envs 3"):
        parl.train("ppo", env=lambda: many(3), out=tmp_path / "d", **few, **RUN)
