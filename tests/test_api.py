"""The Python face: hand-written loops, own models, saved agents, evaluation."""

from pathlib import Path
from typing import Any

import flax.linen as nn
import gymnasium
import jax
import numpy as np
import pytest

import parl
from parl.algorithms.dqn import DQN
from parl.core.errors import CheckpointError, ConfigError, EnvError
from parl.envs.classic.cartpole import CartPole
from parl.envs.factory import from_jax
from parl.recipes import make_recipe
from parl.runs.evaluation import Evaluator

SPEC = parl.EnvSpec("CartPole-v1", parl.Box((4,)), parl.Discrete(2))


class Network(nn.Module):
    """A user's own model."""

    @nn.compact
    def __call__(self, obs):
        return nn.Dense(2)(nn.tanh(nn.Dense(32)(obs)))


def make_agent(seed: int = 0) -> parl.Agent:
    learner = parl.OffPolicy(DQN(q=Network()), parl.Replay(500), batch_size=16, warmup=20)
    return parl.Agent(learner, SPEC, seed)


def play(agent: parl.Agent, steps: int) -> list[dict[str, float]]:
    """The loop of the README."""
    env = gymnasium.make("CartPole-v1")
    obs, _ = env.reset(seed=0)
    metrics = []
    for _ in range(steps):
        action = agent.sample(obs)
        next_obs, reward, terminated, truncated, _ = env.step(int(action))
        rollout = parl.transition(obs, action, reward, next_obs, terminated, truncated)
        metrics.append(agent.learn(rollout))
        obs = env.reset()[0] if terminated or truncated else next_obs
    return metrics


@pytest.fixture(scope="module")
def played() -> parl.Agent:
    agent = make_agent()
    metrics = play(agent, 60)
    assert metrics[19] == {} and set(metrics[20]) == {
        "loss",
        "q",
        "td_error",
    }  # warm-up only stores
    return agent


def test_hand_written_loop_counts_and_learns(played: parl.Agent) -> None:
    assert (played.env_steps, played.updates, played.acts) == (60, 40, 60)
    assert int(played.replay.size) == 60
    fresh = make_agent()
    moved = jax.tree.map(
        lambda a, b: float(abs(a - b).max()), played.get_weights(), fresh.get_weights()
    )
    assert max(jax.tree.leaves(moved)) > 1e-3


def test_the_same_seed_plays_the_same_loop(played: parl.Agent) -> None:
    again = make_agent()
    play(again, 60)
    for a, b in zip(
        jax.tree.leaves(again.get_weights()), jax.tree.leaves(played.get_weights()), strict=True
    ):
        np.testing.assert_array_equal(a, b)


def test_predict_is_greedy_for_one_observation_and_a_batch(played: parl.Agent) -> None:
    obs = np.random.default_rng(0).normal(size=(7, 4)).astype(np.float32)
    params = played.get_weights().params
    values: Any = Network().apply(params, obs)
    expected = np.argmax(values, -1)
    np.testing.assert_array_equal(played.predict(obs), expected)
    assert played.predict(obs[3]) == expected[3] and played.predict(obs[3]).shape == ()


def test_weights_travel(played: parl.Agent) -> None:
    other = make_agent(seed=5)
    obs = np.random.default_rng(1).normal(size=(50, 4)).astype(np.float32)
    other.set_weights(played.get_weights())
    np.testing.assert_array_equal(other.predict(obs), played.predict(obs))
    with pytest.raises(ConfigError, match="other names or shapes"):
        other.set_weights({"nothing": np.zeros(3)})


def test_a_saved_agent_continues_bit_for_bit(tmp_path: Path) -> None:
    agent = make_agent()
    play(agent, 40)
    agent.save(tmp_path / "agent")
    learner = parl.OffPolicy(DQN(q=Network()), parl.Replay(500), batch_size=16, warmup=20)
    restored = parl.Agent.restore(tmp_path / "agent", learner, SPEC)
    assert (restored.env_steps, int(restored.replay.size)) == (40, 40)
    first, second = play(agent, 15), play(restored, 15)
    assert first == second and first[-1]["loss"] > 0
    with pytest.raises(ConfigError, match="algorithm of your own"):
        parl.load(tmp_path / "agent")
    with pytest.raises(CheckpointError, match="this agent is"):
        parl.Agent.make("ppo", "jax:CartPole-v1").load(tmp_path / "agent")


def test_an_agent_made_by_name_is_loaded_by_path_alone(tmp_path: Path) -> None:
    agent = parl.Agent.make("sac", "jax:Pendulum-v1", seed=3, hidden=(8,))
    agent.save(tmp_path / "sac")
    loaded = parl.load(tmp_path / "sac")
    obs = np.array([[0.1, 0.2, 0.3]], np.float32)
    np.testing.assert_array_equal(loaded.predict(obs), agent.predict(obs))
    np.testing.assert_array_equal(loaded.sample(obs), agent.sample(obs))


def test_learning_from_a_batch_is_one_update() -> None:
    agent = make_agent()
    n = 4
    obs, flag = np.ones((n, 4), np.float32), np.zeros(n, bool)
    number = np.ones(n, np.float32)
    batch = parl.Step(obs, np.zeros(n, np.int32), number, number, obs, flag, flag, {})
    assert agent.learn(batch)["loss"] > 0
    assert agent.updates == 1 and agent.env_steps == 0 and agent.replay is None


def test_on_policy_agent_takes_extras() -> None:
    agent = parl.Agent.make("ppo", "CartPole-v1", hidden=(8,), minibatches=1, epochs=1)
    obs = np.zeros(4, np.float32)
    action = agent.sample(obs)
    assert set(agent.extras) == {"log_prob"} and agent.extras["log_prob"] < 0
    rollout = parl.transition(obs, action, 1.0, obs, False, True, agent.extras)
    assert rollout.steps.discount.item() == 1.0 and rollout.steps.last.item()
    assert {"policy_loss", "value_loss"} <= agent.learn(rollout).keys()


def test_train_load_and_evaluate_with_own_jax_environment(tmp_path: Path) -> None:
    env = CartPole(max_steps=20)
    run = parl.train(
        "ppo", env, tmp_path / "run", quiet=True, steps=512, hidden=(8,), eval_episodes=3,
        num_seeds=2,
    )  # fmt: skip
    assert run.result["seeds"] == [0, 1] and np.shape(run.result["returns"]) == (2, 3)
    evaluation = parl.evaluate(run.path, episodes=3, seed=7, env=env)
    assert evaluation.returns.shape == (2, 3) and len(evaluation.mean) == 2
    assert (evaluation.returns <= 20).all() and (evaluation.returns >= 1).all()
    agents = [parl.load(run.path, seed_index=k, env=env) for k in (0, 1)]
    weights = [jax.tree.leaves(agent.get_weights())[1] for agent in agents]
    assert not np.array_equal(*weights)


class NaNEnv(gymnasium.Env):
    """Gives NaN after its 300th step."""

    observation_space = gymnasium.spaces.Box(-1, 1, (2,))
    action_space = gymnasium.spaces.Discrete(2)
    steps = 0

    def reset(self, *, seed=None, options=None):
        return np.zeros(2, np.float32), {}

    def step(self, action):
        self.steps += 1
        value = np.nan if self.steps > 300 else 0.5
        return np.full(2, value, np.float32), 1.0, False, self.steps % 50 == 0, {}


def test_nan_from_the_environment_leaves_good_checkpoints(tmp_path: Path) -> None:
    with pytest.raises(EnvError, match="NaNEnv returned a NaN observation"):
        parl.train(
            "ppo", NaNEnv, tmp_path / "run", quiet=True, steps=10_000, num_envs=1, hidden=(8,),
            eval_every=128, eval_episodes=1,
        )  # fmt: skip
    saved = sorted(int(p.name) for p in (tmp_path / "run" / "checkpoints").iterdir())
    assert saved[-1] == 256
    assert parl.load(tmp_path / "run", env=NaNEnv).predict(np.zeros(2, np.float32)) in (0, 1)


def test_every_episode_of_an_evaluation_counts_once() -> None:
    """Short episodes must not crowd out long ones: both ways of playing agree on CartPole."""
    spec_env = CartPole(max_steps=60)
    factory = from_jax(spec_env)
    algorithm = make_recipe("ppo", spec_env.spec).learner(spec_env.spec, 1, 1).algorithm
    start = jax.jit(lambda key: algorithm.policy(algorithm.init(key, spec_env.spec)))
    policy = start(jax.random.key(2))
    evaluator = Evaluator(factory, algorithm, 200)
    fused = evaluator(policy, 0).returns
    host = evaluator.play_host(policy, 0).returns
    assert fused.shape == host.shape == (200,)
    error = fused.std() / np.sqrt(200) + host.std() / np.sqrt(200)
    assert abs(fused.mean() - host.mean()) < 3 * error
    np.testing.assert_array_equal(evaluator(policy, 0).returns, fused)
    assert not np.array_equal(evaluator(policy, 1).returns, fused)
