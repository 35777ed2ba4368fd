"""Numbers: skipped updates, statistics, priorities, bounds of actions, batch normalisation."""

import json
import tempfile
from typing import Any

import flax.linen as nn
import gymnasium as gym
import jax
import jax.numpy as jnp
import numpy as np
from gymnasium import spaces

import parl
from fault_cases import case
from parl import ops
from parl.agents.replay.ring import NumpyReplay, Replay
from parl.algorithms.dqn import DQN
from parl.algorithms.ppo import PPO
from parl.algorithms.wrappers.normalized import Normalized
from parl.core.errors import ConfigError
from parl.core.types import Rollout, Step

SMALL: dict[str, Any] = {"warmup": 32, "hidden": (8,), "batch_size": 4, "capacity": 512}
SMALL |= {"length": 8, "updates": 8, "eval_every": 10**6, "eval_episodes": 1, "quiet": True}
UNBOUNDED = spaces.Box(-np.inf, np.inf, (3,))


def new() -> str:
    return tempfile.mkdtemp() + "/run"


class Spike(gym.Env):
    """Pays 0.1, cut after 5 steps; the 40th step of all has one reward or observation beyond."""

    steps, reward, seen = 0, 0.1, 0.0
    observation_space, action_space = UNBOUNDED, spaces.Box(-1, 1, (1,))

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return np.zeros(3, np.float32), {}

    def step(self, action: Any) -> Any:
        Spike.steps, self.time = Spike.steps + 1, self.time + 1
        now = Spike.steps == 40
        obs = np.full(3, Spike.seen if now else 0.1 * self.time, np.float32)
        return obs, Spike.reward if now else 0.1, False, self.time >= 5, {}


def trained(algorithm: str, reward: float, seen: float, **settings: Any) -> dict[str, Any]:
    Spike.steps, Spike.reward, Spike.seen = 0, reward, seen
    return parl.train(algorithm, env=Spike, steps=600, out=new(), **settings).result


@case("F08", seconds=400)
def skipped_updates_leave_priorities_clean() -> None:
    """One reward of 1e20 is skipped and counted, and the run goes on, with priorities too."""
    for more in ({}, {"priority": 0.6}, {"priority": 0.6, "replay_on_host": True, "n_step": 3}):
        result = trained("sac", 1e20, 0.0, **SMALL | more)
        assert 0 < result["skipped_updates"] < result["updates"], (more, result)


@case("R-statistics", seconds=400)
def statistics_see_no_spike() -> None:
    """A reward of 3e38 or an observation of 1e30: the same for sac and for ppo."""
    both = {"normalize_obs": True, "normalize_reward": True}
    on = {"length": 8, "num_envs": 1, "minibatches": 2, "epochs": 1, "hidden": (8,)}
    on |= {"eval_every": 10**6, "eval_episodes": 1, "quiet": True}
    for reward, seen in ((3e38, 0.0), (0.1, 1e30)):
        for algorithm, settings in (("sac", SMALL), ("ppo", on)):
            result = trained(algorithm, reward, seen, **settings | both)
            assert result["skipped_updates"] > 0, (algorithm, reward, seen, result)


@case("F10b")
def replay_refuses_other_rollouts() -> None:
    """An add of another size is an error, not a corrupt ring."""
    items = lambda n: {"x": np.zeros((n, 2), np.float32)}
    for kind in (Replay, NumpyReplay):
        replay = kind(10)
        state = replay.add(replay.init(items(3)), items(3))
        try:
            replay.add(state, items(5))
        except ConfigError as error:
            assert "3 items" in str(error)
        else:
            raise AssertionError("taken")


class Door:
    """Pays -1 for an action outside of [-1, 1]."""

    spec = parl.EnvSpec("mine", parl.Box((2,)), parl.Box((1,), low=-1.0, high=1.0), max_steps=10)

    def reset(self, key: Any) -> Any:
        return jnp.int32(0), jnp.zeros(2)

    def step(self, time: Any, action: Any, key: Any) -> Any:
        reward = jnp.where(jnp.abs(action).max() > 1, -1.0, 0.0)
        return time + 1, jnp.zeros(2), reward, jnp.bool_(False), time + 1 >= 10


@case("F17", seconds=240)
def jax_environments_get_bounded_actions() -> None:
    """ppo and a2c, fused and on the host."""
    for algorithm, execution in (("ppo", "fused"), ("ppo", "host"), ("a2c", "fused")):
        settings = {"length": 8, "num_envs": 2, "hidden": (8,), "eval_episodes": 2, "quiet": True}
        settings |= {"minibatches": 2, "epochs": 1} if algorithm == "ppo" else {}
        run = parl.train(
            algorithm, env=Door(), steps=320, out=new(), execution=execution, **settings
        )
        lines = map(json.loads, (run.path / "metrics.jsonl").read_text().splitlines())
        paid = [line["return_mean"] for line in lines if line["return_mean"] is not None]
        assert paid and not any(paid), paid


class Net(nn.Module):
    """With batch normalisation that nothing renews."""

    @nn.compact
    def __call__(self, x: Any) -> Any:
        x = nn.BatchNorm(use_running_average=True)(nn.Dense(4)(x))
        return nn.Dense(2)(nn.relu(x))


@case("F18")
def moments_are_no_weights() -> None:
    """A model with running moments that would stand still is refused in a sentence."""
    spec = parl.EnvSpec("x", parl.Box((4,)), parl.Discrete(2))
    try:
        parl.Agent(DQN(q=Net()), spec)
    except ConfigError as error:
        assert "batch_stats" in str(error)
    else:
        raise AssertionError("taken")


@case("F23")
def scaling_of_rewards_knows_no_rollouts() -> None:
    """The deviation of discounted returns is near 22 for rollouts of 8 and of 256."""
    for length in (8, 256):
        rng, algorithm = np.random.default_rng(0), Normalized(Still(), 0.99, False, True)
        spec = parl.EnvSpec("x", parl.Box((4,)), parl.Discrete(2))
        state, observe = algorithm.init(jax.random.key(0), spec), jax.jit(algorithm.observe)
        for start in range(0, 8192, length):
            reward = (1 + rng.normal(size=(length, 8))).astype(np.float32)
            opens = np.arange(start, start + length)[:, None] % 1000 == 0
            first = np.broadcast_to(opens, reward.shape)
            zeros = jnp.zeros_like(reward)
            step = Step(zeros, zeros, reward, zeros + 1, zeros, first, first, {})
            state = observe(state, Rollout(step, ()))
        assert 20 < float(state.reward.std) < 24, (length, state.reward.std)


class Still(PPO):
    """Learns nothing."""

    def init(self, key: Any, spec: Any) -> Any:
        return ()


@case("R-gae")
def nothing_leaks_over_an_end() -> None:
    """NaN after an episode's end, narrow distributions, no step at all."""
    column = lambda *x: jnp.array(x)[:, None]
    reward, last, half = column(1.0, 2, jnp.nan), column(False, True, False), column(0.5, 0.5, 0.5)
    found = ops.gae(reward, half, last, column(1.0, 1, jnp.nan), column(1.0, 4, jnp.nan), 0.5)
    np.testing.assert_allclose(found[:2, 0], [1.25, 3])
    for kind in (ops.Normal, ops.TanhNormal):
        for log_std in (-200.0, -88.5, -50.0):
            log_prob = lambda m, s, kind=kind: kind(m, s).log_prob(jnp.array([1.0, -1.0]))
            args = jnp.array([0.3, -1.0]), jnp.array([log_std, log_std])
            gradient = jax.grad(lambda *x, f=log_prob: f(*x), (0, 1))(*args)
            assert np.isfinite(log_prob(*args)) and np.isfinite(gradient).all()
    none = jnp.zeros((0, 1))
    try:
        ops.gae(none, none, none, none, none, 0.9)
    except ValueError as error:
        assert "at least one step" in str(error)
