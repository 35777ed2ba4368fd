"""Decision Transformer: worked numbers of its sequence, its loss and its returns to go."""

from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.agents.replay.ring import Layout, Replay
from parl.agents.replay.segments import Segments
from parl.algorithms.dt import DT, returns_to_go, times
from parl.core.errors import ConfigError
from parl.core.rewards import apart, showing_reward, with_reward
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Step, Window
from parl.datasets.episode import Episode, steps_of
from parl.envs.classic.pendulum import Pendulum
from parl.envs.factory import from_jax
from parl.envs.rewards import with_rewards_shown
from parl.models.decision_transformer import DecisionTransformer, History, visible
from parl.recipes import make_recipe
from parl.runs.build import resolve
from parl.runs.config import RunConfig
from parl.runs.data import items_of

FLAGS = np.array([[False], [True], [False], [False], [True]])
SMALL: dict[str, Any] = {"width": 4, "layers": 1, "heads": 2, "times": 9}


def history(steps: int, seed: int = 0) -> History:
    """One sequence of observations [2] and choices of 3, all there."""
    rng = np.random.default_rng(seed)
    normal = lambda *shape: jnp.asarray(rng.normal(size=shape), jnp.float32)
    choices = jnp.asarray(rng.integers(0, 3, (1, steps)), jnp.int32)
    time, there = jnp.arange(steps, dtype=jnp.int32)[None], jnp.ones((1, steps), bool)
    return History(normal(1, steps), normal(1, steps, 2), choices, time, there)


@pytest.mark.parametrize("xp", [np, jnp])
def test_returns_to_go_and_times_of_an_episode_and_the_next(xp: Any) -> None:
    reward, last = xp.asarray(np.arange(1.0, 6.0, dtype=np.float32)[:, None]), xp.asarray(FLAGS)
    assert returns_to_go(reward, last)[:, 0].tolist() == [3.0, 2.0, 12.0, 9.0, 5.0]
    first = xp.asarray(np.roll(FLAGS, 1, 0))
    assert times(first)[:, 0].tolist() == [0, 1, 0, 1, 2]
    assert returns_to_go(reward, xp.zeros_like(last))[:, 0].tolist() == [15.0, 14.0, 12.0, 9.0, 5.0]


def test_a_token_looks_at_earlier_ones_that_are_there_and_at_itself() -> None:
    seen = np.asarray(visible(jnp.asarray([False, True])))
    assert seen[:3].tolist() == np.eye(3, 6, dtype=bool).tolist(), "padding"
    assert seen[4].tolist() == [False] * 3 + [True, True, False]
    assert seen[5].tolist() == [False] * 3 + [True] * 3


def test_no_later_token_changes_an_action_and_earlier_ones_do() -> None:
    net: Any = DecisionTransformer(Box((2,)), Discrete(3), steps=3, **SMALL)
    here = history(3)
    params = net.init(jax.random.key(0), here)
    out = jax.jit(lambda given: net.apply(params, given).logits)
    plain = np.asarray(out(here))
    changes = {
        "to_go": here.to_go.at[0, 1].add(1.0),
        "obs": here.obs.at[0, 1].add(1.0),
        "action": (here.action.at[0, 1].add(1)) % 3,
    }
    first = {"to_go": 1, "obs": 1, "action": 2}  # the step whose action it can change first
    for name, new in changes.items():
        moved = np.abs(np.asarray(out(here.replace(**{name: new}))) - plain).max(-1)[0] > 1e-6
        assert moved.tolist() == [step >= first[name] for step in range(3)], name


def test_padding_changes_nothing_and_steps_are_known_by_their_time() -> None:
    net: Any = DecisionTransformer(Box((2,)), Discrete(3), steps=3, **SMALL)
    here = history(3)
    params = net.init(jax.random.key(0), here)
    out = jax.jit(lambda given: net.apply(params, given).logits)
    padded = here.replace(there=jnp.asarray([[False, True, True]]))
    alone = jax.tree.map(lambda x: x[:, 1:], here)
    np.testing.assert_allclose(out(padded)[:, 1:], net.apply(params, alone).logits, atol=1e-5)
    other = padded.replace(obs=padded.obs.at[0, 0].set(7.0), to_go=padded.to_go.at[0, 0].set(7.0))
    np.testing.assert_array_equal(out(other)[:, 1:], out(padded)[:, 1:])
    later = here.replace(time=here.time + 3)
    assert np.abs(np.asarray(out(later)) - np.asarray(out(here))).max() > 1e-4


class Told:
    """A model whose action at each step is the return to go that it sees."""

    def apply(self, params: Any, seen: History) -> Any:
        return params * seen.to_go[..., None]

    def empty(self, batch_shape: tuple[int, ...], to_go: Any) -> History:
        return DecisionTransformer(Box((2,)), Box((1,)), steps=3, **SMALL).empty(batch_shape, to_go)


def test_the_loss_is_the_mean_over_the_steps_of_the_first_episode() -> None:
    """(2 - 1)^2 and (4 - 1)^2 of returns 20 and 40 in tens; what comes after counts nothing."""
    algorithm = DT(actor=Told(), return_scale=10.0)  # type: ignore[arg-type]
    row = lambda *x: jnp.asarray([x])
    extras = {"to_go": row(20.0, 40.0, 1e6, 1e6), "time": row(0, 1, 0, 1)}
    flags = row(True, False, True, False), row(False, True, False, True)
    zeros = jnp.zeros((1, 4))
    obs = with_reward(jnp.zeros((1, 4, 2)), jnp.zeros((1, 4, 1)))
    steps = Step(obs, jnp.ones((1, 4, 1)), zeros, zeros, obs, *flags, extras)
    batch = Window(jax.tree.map(lambda x: x[:, :0], steps), steps, (), jnp.ones((1, 4), bool), {})
    loss, _ = algorithm.loss(jnp.float32(1.0), batch, jax.random.key(0))
    assert float(loss) == (1.0 + 9.0) / 2
    there = batch._replace(there=row(True, False, False, False))
    assert float(algorithm.loss(jnp.float32(1.0), there, jax.random.key(0))[0]) == 1.0


def test_acting_lowers_what_it_asks_for_by_the_rewards_seen() -> None:
    """50, and 40 after a reward of 10; the action that was taken stands in the history."""
    algorithm = DT(actor=Told(), target_return=50.0, return_scale=100.0)  # type: ignore[arg-type]
    memory, one = algorithm.memory((1,)), jnp.float32(1.0)
    obs = lambda number, reward: with_reward(jnp.full((1, 2), number), jnp.full((1, 1), reward))
    key = jax.random.key(0)
    asked = []
    for number, reward in ((1.0, 0.0), (2.0, 10.0), (3.0, -5.0), (4.0, 0.0)):
        action, memory, _ = algorithm.act(one, obs(number, reward), memory, key, explore=False)
        asked.append(round(float(action[0, 0]), 4))
    assert asked == [0.5, 0.4, 0.45, 0.45]
    assert memory.to_go[0].tolist() == [40.0, 45.0, 45.0]
    assert memory.obs[0, :, 0].tolist() == [2.0, 3.0, 4.0] and memory.there.all()
    np.testing.assert_allclose(memory.action[0, :, 0], [0.4, 0.45, 0.45], atol=1e-6)
    assert memory.time[0].tolist() == [1, 2, 3]
    silent, _, _ = algorithm.act(one, obs(0.0, 0.0)["obs"], algorithm.memory((1,)), key, False)
    assert float(silent[0, 0]) == 0.5


def test_data_show_the_reward_before_each_step() -> None:
    spec = EnvSpec("E", showing_reward(Box((2,))), Box((1,), low=-1.0, high=1.0))
    flags = np.zeros(3, bool), np.array([False, False, True])
    rewards = np.array([1.0, 2.0, 3.0], np.float32)
    episode = Episode(np.zeros((4, 2), np.float32), np.zeros((3, 1), np.float32), rewards, *flags)
    steps = steps_of(episode, spec, "here")
    assert steps.obs["last_reward"][:, 0].tolist() == [0.0, 1.0, 2.0]
    assert steps.next_obs["last_reward"][:, 0].tolist() == [1.0, 2.0, 3.0]
    items = items_of(DT(), steps)
    assert items.extras["to_go"].tolist() == [6.0, 5.0, 3.0]
    layout = Layout.of(items)
    state = Segments(Replay(3), 2).filled(layout.pack(items, np), layout, ())
    window = Segments(Replay(3), 2).at(state, jnp.asarray([1]))
    assert window.steps.extras["to_go"].tolist() == [[5.0, 3.0]]
    assert window.one_episode.tolist() == [[True, True]]


def test_environments_show_the_last_reward_and_begin_with_none() -> None:
    """The same in a vector, and after an episode's end, and from a state that was saved."""
    factory = with_rewards_shown(from_jax(Pendulum(max_steps=2)))
    assert with_rewards_shown(factory) is factory
    assert apart(factory.spec.observation_space)[0] == Pendulum().spec.observation_space
    plain = from_jax(Pendulum(max_steps=2))
    host = with_rewards_shown(replace(plain, jax=None))  # as environments that are no JAX have it
    one, other = factory.vector(2, 0, 0), host.vector(2, 0, 0)
    assert (
        one.reset()["last_reward"].tolist() == other.reset()["last_reward"].tolist() == [[0], [0]]
    )
    b: Any = None
    for step in range(3):
        action = np.full((2, 1), 0.5, np.float32)
        a, b = one.step(action), other.step(action)
        jax.tree.map(np.testing.assert_array_equal, a, b)
        assert a.next_obs["last_reward"][:, 0].tolist() == a.reward.tolist()
        assert a.obs["last_reward"].any() == (step != 1), "an episode has ended"
    again = host.vector(2, 0, 0)
    np.testing.assert_array_equal(
        again.set_state(other.get_state())["last_reward"], b.obs["last_reward"]
    )


def test_a_run_of_it_sees_rewards_and_learns_from_data_alone() -> None:
    parts = resolve(RunConfig("dt", "jax:CartPole-v1", steps=100))
    assert parts.factory.spec.observation_space == showing_reward(Box((4,)))
    assert parts.judged.spec == parts.factory.spec
    state: Any = jax.eval_shape(
        lambda: parts.learner.algorithm.init(jax.random.key(0), parts.factory.spec)
    )
    assert list(state.obs) == ["['obs']"], "rewards are shown as they are"
    with pytest.raises(ConfigError, match="width 6 does not divide into 4 heads"):
        spec = parts.factory.spec
        make_recipe("dt", spec).override({"width": 6, "heads": 4}).learner(spec, 0, 1)


def test_it_clones_what_depends_on_the_return_asked_for() -> None:
    """One observation, two ways to act: the return to go tells which."""
    net: Any = DecisionTransformer(Box((1,)), Discrete(2), steps=1, **SMALL)
    algorithm = DT(actor=net, learning_rate=0.02, rate_warmup=0, return_scale=1.0)
    column = lambda *x: jnp.asarray(x)[:, None]
    obs, flags = jnp.ones((2, 1, 1)), column(True, True)
    extras = {"to_go": column(1.0, -1.0), "time": column(0, 0)}
    zeros = jnp.zeros((2, 1))
    steps = Step(obs, column(1, 0), zeros, zeros, obs, flags, flags, extras)
    batch = Window(jax.tree.map(lambda x: x[:, :0], steps), steps, (), flags, {})
    spec = EnvSpec("E", Box((1,)), Discrete(2))
    state = jax.jit(lambda key: algorithm.init(key, spec))(jax.random.key(0))
    update = lambda state, _: (algorithm.update(state, batch, jax.random.key(0))[0], None)
    state = jax.jit(lambda state: jax.lax.scan(update, state, None, length=100)[0])(state)
    for wish, action in ((1.0, 1), (-1.0, 0)):
        asked = algorithm.replace(target_return=wish)
        taken, _, _ = asked.act(
            state.actor.params, obs[:1, 0], asked.memory((1,)), jax.random.key(0), False
        )
        assert int(taken[0]) == action
