"""The face: what the environment shows goes in, what it takes comes out, and nothing else."""

import pickle
from functools import partial
from pathlib import Path
from typing import Any

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import numpy as np
import pytest
from gymnasium import spaces
from marks import quick

import parl
from parl.algorithms.dqn import DQN
from parl.api import kept_config
from parl.core.algorithm import Algorithm
from parl.core.errors import CheckpointError, ConfigError, SpaceError
from parl.core.types import Rollout, Step
from parl.envs.factory import make_factory
from parl.envs.native import translator
from parl.recipes import RECIPES, fits, make_recipe, recipe_class
from parl.runs.build import resolve
from parl.runs.config import RunConfig

Box: Any = spaces.Box
INF = np.inf


class Env(gymnasium.Env):
    """Random observations, reward 1, cut after 5 steps; actions have to be of the space."""

    def __init__(self, obs: Any = None, act: Any = None):
        self.observation_space = Box(-1, 1, (3,)) if obs is None else obs
        self.action_space = spaces.Discrete(2) if act is None else act

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), action
        self.time += 1
        return self.observation_space.sample(), 1.0, False, self.time >= 5, {}


class Fixed(Algorithm):
    """Acts with numbers that are given; counts in `update` what it was shown."""

    action: Any  # [A] or [], the same for all

    def init(self, key: Any, spec: Any) -> Any:
        return {"sum": jnp.zeros(()), "action": jnp.zeros_like(jnp.asarray(self.action))}

    def policy(self, state: Any) -> Any:
        return state["sum"]

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        leaves = [obs] if not isinstance(obs, dict) else list(obs.values())
        action = jnp.broadcast_to(self.action, (len(leaves[0]), *np.shape(self.action)))
        return action, memory, {"log_prob": jnp.zeros(len(leaves[0]))}

    def update(self, state: Any, batch: Any, key: Any) -> Any:
        steps = batch.steps if isinstance(batch, Rollout) else batch
        return state | {"action": steps.action.reshape(-1, *np.shape(self.action))[0]}, {}


def agent(action: Any, obs: Any = None, act: Any = None) -> tuple[parl.Agent, Env]:
    """An agent that always gives `action` on the networks' side, and its environment."""
    env = Env(obs, act)
    spec = make_factory(lambda: env).spec
    return parl.Agent(Fixed(np.asarray(action)), spec), env


def learned(made: parl.Agent, obs: Any, action: Any) -> np.ndarray:
    """The network's action that the algorithm is shown for one of the environment's."""
    extras = {"log_prob": 0.0}
    made.learn(parl.transition(obs, action, 1.0, obs, False, False, extras))
    return np.asarray(made.state.algorithm_state["action"])


ACTIONS = [
    (Box(2, 10, (1,)), [0.5], [8.0]),
    (Box(2, 10, (1,)), [-3.0], [2.0]),
    (Box(0, INF, (2,)), [-5.0, 1.0], [0.0, 2.0]),
    (Box(-1, 1, (2, 3)), np.arange(6) / 10, np.arange(6).reshape(2, 3) / 10),
    (Box(0, 10, (), np.float64), [0.5], 7.5),
    (Box(0, 10, (1,), np.int64), [0.33], [7]),
    (spaces.Discrete(3, start=5), 1, 6),
    (spaces.MultiDiscrete([3, 4], start=[1, -1]), [2, 0], [3, -1]),
    (spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])), [1, 2, 3, 4], [[1, 2], [3, 4]]),
    (spaces.MultiBinary((2, 2)), [1, 0, 0, 1], [[1, 0], [0, 1]]),
]


@pytest.mark.parametrize(("space", "given", "expected"), ACTIONS, ids=lambda x: str(x))
def test_actions_are_the_environments(space: Any, given: Any, expected: Any) -> None:
    dtype = np.float32 if isinstance(space, Box) else np.int32
    made, env = agent(np.asarray(given, dtype), act=space)
    obs, _ = env.reset(seed=0)
    for action in (made.predict(obs), made.sample(obs)):
        assert space.contains(action)
        np.testing.assert_allclose(action, expected, rtol=1e-6)
        env.step(action)
    batch = made.predict(np.stack([obs] * 4))
    assert batch.shape == (4, *space.shape) and batch.dtype == space.dtype
    assert all(space.contains(batch[i, ...]) for i in range(4))
    inside = np.clip(given, -1, 1) if isinstance(space, Box) else np.asarray(given)
    if not (isinstance(space, Box) and space.dtype == np.int64):  # which rounds
        np.testing.assert_allclose(learned(made, obs, made.predict(obs)), inside, rtol=1e-5)


OBSERVATIONS = [
    Box(-1, 1, ()),
    Box(-1, 1, (2, 2), np.float64),
    spaces.Discrete(4, start=-2),
    spaces.MultiDiscrete(np.array([[2, 3], [3, 2]])),
    spaces.Tuple((spaces.Discrete(4), Box(-1, 1, (2,)))),
    spaces.Dict(x=Box(-1, 1, (2,)), y=spaces.Dict(z=spaces.Discrete(3, start=1))),
]


@pytest.mark.parametrize("space", OBSERVATIONS, ids=str)
def test_observations_are_the_environments(space: Any) -> None:
    env = Env(space)
    factory = make_factory(lambda: Env(space))
    translate = translator(factory.spec)
    vector = factory.vector(1, 0)
    obs = vector.reset()
    env.observation_space.seed(0)
    values = [env.observation_space.sample() for _ in range(3)]
    seen = [translate.observe(value) for value in values]
    assert all(one.single for one in seen)
    batch = translate.observe(values if isinstance(values[0], dict | tuple) else np.stack(values))
    assert not batch.single
    same(obs, seen[0].obs, shapes_only=True)
    for i, one in enumerate(seen):
        same(take(batch.obs, i), one.obs)


def take(tree: Any, i: int) -> Any:
    """Row i, with an axis of 1."""
    return {k: take(v, i) for k, v in tree.items()} if isinstance(tree, dict) else tree[i : i + 1]


def same(a: Any, b: Any, shapes_only: bool = False) -> None:
    """Equal trees of arrays."""
    if isinstance(a, dict):
        assert a.keys() == b.keys()
        for name in a:
            same(a[name], b[name], shapes_only)
        return
    assert (a.shape, a.dtype) == (b.shape, b.dtype)
    assert shapes_only or np.array_equal(a, b)


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        ([0, 0], r"its shape is \(2,\) instead of \(3,\)"),
        (np.zeros((0, 3)), "batch of 0"),
        ([0, np.nan, 0], "has NaN"),
        ([0, np.inf, 0], "has infinity"),
        ("abc", "are not numbers"),
        ([[0, 0, 0], [0, 0]], "not an observation"),
        (None, "are not numbers"),
    ],
)
def test_what_is_no_observation_is_one_sentence(obs: Any, message: str) -> None:
    made, _ = agent(np.int32(1))
    with pytest.raises(SpaceError, match=message):
        made.predict(obs)


def test_parts_have_to_be_there_and_of_one_batch() -> None:
    made, _ = agent(np.int32(1), spaces.Dict(x=Box(-1, 1, (2,)), y=Box(-1, 1, (1,))))
    with pytest.raises(SpaceError, match="lacks y"):
        made.predict({"x": np.zeros(2)})
    with pytest.raises(SpaceError, match="one batch"):
        made.predict({"x": np.zeros((2, 2)), "y": np.zeros(1)})
    assert made.predict({"x": [0, 0], "y": [0]}) == 1


def test_lists_are_observations_and_the_networks_action_is_kept_where_clipping_loses_it() -> None:
    made, _ = agent(np.array([2.5], np.float32), act=Box(2, 10, (1,)))
    assert made.sample([0, 0, 0]) == 10
    assert set(made.extras) == {"log_prob", "action"} and made.extras["action"] == 2.5
    made.learn(parl.transition([0, 0, 0], 10, 1.0, [0, 0, 0], False, False, made.extras))
    np.testing.assert_array_equal(made.state.algorithm_state["action"], [2.5])
    with pytest.raises(ConfigError, match=r"log_prob.*extras=agent\.extras"):
        made.learn(parl.transition([0, 0, 0], [10.0], 1.0, [0, 0, 0], False, False))


@pytest.mark.parametrize(
    "wrong",
    [
        {"extras": {"log_prob": np.zeros((1, 1, 3))}},
        {"extras": {"log_prob": "x"}},
        {"extras": {"log_prob": {"a": 1.0}}},
        {"extras": {"log_prob": None}},
        {"extras": None},
        {"extras": {"log_prob": np.zeros((1, 1)), "action": np.zeros((1, 1, 2))}},
        {"reward": np.zeros(3)},
        {"discount": None},
        {"last": "no"},
        {"action": np.zeros((2, 3))},
        {"obs": np.zeros((2, 2, 3))},
        {"next_obs": None},
    ],
)
def test_steps_that_do_not_fit_are_one_sentence(wrong: dict[str, Any]) -> None:
    made, _ = agent(np.int32(1))
    obs = np.zeros(3)
    rollout = parl.transition(obs, 1, 1.0, obs, False, False, {"log_prob": 0.0})
    with pytest.raises(ConfigError, match=r"^[^\n]*\.$"):
        made.learn(rollout._replace(steps=rollout.steps._replace(**wrong)))
    with pytest.raises(ConfigError, match=r"^\[1, \[2, 3\]\] is no array of numbers\.$"):
        parl.transition(obs, 1, 1.0, obs, False, False, {"log_prob": [1, [2, 3]]})
    for memory in ({"h": 1.0}, np.zeros((1, 2))):
        with pytest.raises(ConfigError, match="the memory of what is to be learned from"):
            made.learn(rollout._replace(memory=memory))
    made.learn(rollout)


def test_an_action_that_is_not_the_environments_is_one_sentence() -> None:
    made, _ = agent(np.int32(1), act=spaces.Discrete(3, start=5))
    obs = np.zeros(3)
    with pytest.raises(SpaceError, match="not one of the space"):
        made.learn(parl.transition(obs, 1, 1.0, obs, False, False, {"log_prob": 0.0}))


def test_a_spec_of_ones_own_has_its_bounds() -> None:
    spec = parl.EnvSpec("mine", parl.Box((3,)), parl.Box((1,), low=0.0, high=10.0))
    made = parl.Agent(Fixed(np.array([0.5], np.float32)), spec)
    np.testing.assert_array_equal(made.predict(np.zeros(3)), [7.5])


# Several agents


class Masked(Fixed):
    """The first legal action."""

    action: Any = 0

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        return jnp.argmax(obs["legal"], -1), memory, {}


class Tuples(gymnasium.Env):
    """Two agents with tuples of spaces."""

    observation_space: Any = spaces.Tuple((Box(-1, 1, (2,)), Box(-1, 1, (3,))))
    action_space: Any = spaces.Tuple((spaces.Discrete(2, start=3), spaces.Discrete(4)))

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return self.observation_space.sample(), {}


class Views(Algorithm):
    """The action of each agent is whether its first number is above 0; 0 where that is illegal."""

    def init(self, key: Any, spec: Any) -> Any:
        return jnp.zeros(())

    def policy(self, state: Any) -> Any:
        return state

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        action = (jnp.asarray(obs["view"])[..., 0] > 0).astype(jnp.int32)
        legal = jnp.take_along_axis(jnp.asarray(obs["legal"]), action[..., None], -1)[..., 0]
        return jnp.where(legal, action, 0), memory, {}


def test_a_tuple_of_agents_acts_as_a_tuple() -> None:
    made = parl.Agent(Views(), make_factory(Tuples).spec)
    first, second = np.array([1, 0]), np.array([-1, 0, 0])
    assert made.predict((first, second)) == (4, 0)
    assert made.predict([(first, second), (-first, -second)]) == [(4, 0), (3, 1)]
    assert made.predict((first, second), agent="agent_0") == 4
    with pytest.raises(SpaceError, match="tuple of 2"):
        made.predict((first,))


def test_named_agents_act_by_name() -> None:
    pettingzoo = pytest.importorskip("pettingzoo")

    class Zoo(pettingzoo.ParallelEnv):
        metadata, render_mode = {"name": "zoo"}, None
        possible_agents = ["a", "b"]  # noqa: RUF012
        agents = possible_agents

        def observation_space(self, agent: str) -> Any:
            seen = Tuples.observation_space["ab".index(agent)]
            return spaces.Dict(observation=seen, action_mask=spaces.MultiBinary(4))

        def action_space(self, agent: str) -> Any:
            return Tuples.action_space["ab".index(agent)]

        def reset(self, seed: Any = None, options: Any = None) -> Any:
            names = self.possible_agents
            return {n: self.observation_space(n).sample() for n in names}, {n: {} for n in names}

    made = parl.Agent(Views(), make_factory(Zoo).spec)
    a = {"observation": np.array([1, 0]), "action_mask": np.ones(2, np.int8)}
    b = {"observation": np.array([1, 0, 0]), "action_mask": np.array([1, 0, 1, 1], np.int8)}
    assert made.predict({"a": a, "b": b}) == {"a": 4, "b": 0}  # b's choice is masked
    assert made.predict({"a": a}) == {"a": 4}  # the living only
    assert made.predict({"a": a, "b": b}, agent=["b"]) == {"b": 0}
    assert made.predict(a, agent="a") == 4
    assert made.predict([{"a": a}, {"a": a, "b": b}]) == [{"a": 4}, {"a": 4, "b": 0}]
    told = made.predict(a, info={"action_mask": np.array([1, 0])}, agent="a")
    assert told == 4  # the mask in the observation comes first
    for wrong, message in [({"c": a}, "no agent 'c'"), ({"a": 3}, "not an observation of a")]:
        with pytest.raises(SpaceError, match=message):
            made.predict(wrong)
    with pytest.raises(SpaceError, match="nothing legal"):
        made.predict(a | {"action_mask": np.zeros(2, np.int8)}, agent="a")
    with pytest.raises(ConfigError, match=r"parl\.train"):
        made.learn(parl.transition({"a": a}, {"a": 4}, {"a": 1.0}, {"a": a}, {}, {}))  # type: ignore


def test_masks_in_info_come_with_it() -> None:
    class Told(Env):
        def reset(self, *, seed: Any = None, options: Any = None) -> Any:
            return super().reset()[0], {"action_mask": np.array([1, 0], np.int8)}

    made = parl.Agent(Masked(), make_factory(Told).spec)
    obs, info = np.zeros(3), {"action_mask": np.array([0, 1])}
    assert made.predict(obs, info) == 1
    infos = [info, {"action_mask": [1, 0]}]
    np.testing.assert_array_equal(made.predict(np.zeros((2, 3)), infos), [1, 0])
    masks = {"action_mask": np.eye(2)}
    np.testing.assert_array_equal(made.predict(np.zeros((2, 3)), masks), [0, 1])
    with pytest.raises(SpaceError, match=r"info\['action_mask'\]: give its info"):
        made.predict(obs)
    with pytest.raises(SpaceError, match="no legal action"):
        made.predict(obs, {"action_mask": [0, 0]})


# Learning


class Network(nn.Module):
    """Values of two actions."""

    @nn.compact
    def __call__(self, obs: Any) -> Any:
        return nn.Dense(2)(obs)


SPEC = parl.EnvSpec("own", parl.Box((4,)), parl.Discrete(2))


def q_agent(replay: Any = None, warmup: int = 2) -> parl.Agent:
    replay = parl.Replay(10) if replay is None else replay
    return parl.Agent(parl.OffPolicy(DQN(q=Network()), replay, 4, warmup=warmup), SPEC)


def rollout(first: int, length: int) -> Rollout:
    """Steps whose observations count from `first`."""
    time = np.arange(first, first + length, dtype=np.float32)
    obs = time[:, None, None] * np.ones((1, 1, 4), np.float32)
    one, no = np.ones((length, 1), np.float32), np.zeros((length, 1), bool)
    return Rollout(Step(obs, np.zeros((length, 1), int), one, one, obs + 1, no, no, {}), ())


def test_rollouts_of_another_length_do_not_reach_replay() -> None:
    made = q_agent(warmup=1000)
    made.learn(rollout(0, 3))
    made.learn(rollout(3, 3))
    with pytest.raises(ConfigError, match=r"rollouts of \(3, 1\).*\(5, 1\)"):
        made.learn(rollout(6, 5))
    assert made.env_steps == 6 and int(made.replay.cursor) == 6
    np.testing.assert_array_equal(made.replay.rows["float32"][:6, 0], np.arange(6))


def test_what_cannot_be_learned_from_is_one_sentence() -> None:
    see = np.zeros(4)
    for reward in (None, "1", np.ones(2), [1.0, 2.0], 1j):
        with pytest.raises(ConfigError, match="is not one number"):
            parl.transition(see, 0, reward, see, False, False)  # pyright: ignore
    for reward in (1, np.float64(1), np.ones(1), True):
        step = parl.transition(see, 0, reward, see, False, False).steps  # pyright: ignore
        assert step.reward.shape == (1, 1) and step.reward.dtype == np.float32
    with pytest.raises(ConfigError, match=r"what parl\.transition gives, not 3"):
        q_agent().learn(3)  # pyright: ignore
    with pytest.raises(SpaceError, match=r"action \[0\.5\] is not one of the space"):
        q_agent().learn(parl.transition(see, 0.5, 1.0, see, False, False))
    steps = rollout(0, 2).steps
    wide = Rollout(jax.tree.map(lambda x: np.asarray(x, float), steps), ())
    assert q_agent(warmup=9).learn(wide) == {}, "numbers of any type"


def test_replay_in_host_memory_learns() -> None:
    made = q_agent(parl.NumpyReplay(10))
    metrics = [made.learn(rollout(i, 1)) for i in range(4)]
    assert metrics[:2] == [{}, {}] and metrics[3]["loss"] > 0
    assert made.updates == 2 and int(made.replay.size) == 4


# Saving


def test_an_agent_of_ones_own_algorithm_comes_back_with_it_alone(tmp_path: Path) -> None:
    made = q_agent()
    for i in range(4):
        made.learn(rollout(i, 1))
    made.save(tmp_path / "own")
    restored = parl.Agent.restore(tmp_path / "own", DQN(q=Network()))
    assert restored.learner == made.learner and restored.env_steps == 4
    assert made.learn(rollout(4, 1)) == restored.learn(rollout(4, 1))
    with pytest.raises(ConfigError, match=r"Agent\.restore\(path, algorithm\)"):
        parl.load(tmp_path / "own")
    other = parl.OffPolicy(DQN(q=Network()), parl.Replay(20), 4, warmup=2)
    with pytest.raises(CheckpointError, match=r"with Replay\(10\), but this one has Replay\(20\)"):
        parl.Agent.restore(tmp_path / "own", other)
    with pytest.raises(ConfigError, match="cannot be pickled"):
        pickle.dumps(made)


def test_save_refuses_a_directory_with_other_things(tmp_path: Path) -> None:
    made = q_agent()
    (tmp_path / "notes.txt").write_text("weeks of work")
    with pytest.raises(CheckpointError, match=r"such as notes\.txt"):
        made.save(tmp_path)
    assert [file.name for file in tmp_path.iterdir()] == ["notes.txt"]
    (tmp_path / "empty").mkdir()
    made.save(tmp_path / "empty")
    made.save(tmp_path / "empty")  # its own is replaced
    with pytest.raises(CheckpointError, match=r"could not write|not a checkpoint"):
        made.save(tmp_path / "notes.txt")
    for place in (tmp_path / "notes.txt" / "agent", tmp_path / "notes.txt" / "agents" / "one"):
        with pytest.raises(CheckpointError, match=r"^could not save the agent to .*: Not a dir"):
            made.save(place)
    place: Any
    for place, words in (("x\0y", "NUL"), ("n" * 300, "longer than 255 bytes"), (3, "be text")):
        with pytest.raises(ConfigError, match=words):
            made.save(place)


def test_a_made_agent_travels_without_its_environment(tmp_path: Path) -> None:
    kinds: list[int] = []

    class Counted(Env):
        def __init__(self) -> None:
            kinds.append(1)
            super().__init__(act=Box(2, 10, (2,)))

    made = parl.Agent.make("ppo", Counted, hidden=(4,), minibatches=1, epochs=1)
    made.save(tmp_path / "made")
    kinds.clear()
    obs = np.array([0.1, 0.2, 0.3])
    loaded = parl.load(tmp_path / "made")
    assert not kinds
    np.testing.assert_array_equal(loaded.predict(obs), made.predict(obs))
    np.testing.assert_array_equal(pickle.loads(pickle.dumps(loaded)).sample(obs), made.sample(obs))
    parl.load(tmp_path / "made", env=Counted)
    with pytest.raises(ConfigError, match="does not fit a policy of Counted"):
        parl.load(tmp_path / "made", env="CartPole-v1")
    assert repr(made) == "Agent(ppo on Counted, Box(3,) -> Box(2,), 0 steps, 0 updates)"


@pytest.mark.slow
def test_a_run_is_loaded_without_its_environment_and_saved_again(tmp_path: Path) -> None:
    kinds: list[int] = []

    class Counted(Env):
        def __init__(self) -> None:
            kinds.append(1)
            super().__init__(act=Box(2, 10, (1,)))

    run = parl.train(
        "ppo", Counted, tmp_path / "run", quiet=True, steps=32, length=8, num_envs=2, hidden=(4,),
        minibatches=1, epochs=1, eval_episodes=1, num_seeds=2,
    )  # fmt: skip
    kinds.clear()
    agents = [parl.load(run.path, seed_index=k) for k in (0, 1)]
    assert not kinds
    obs = np.array([0.1, 0.2, 0.3])
    for k in (2, 5, -1):
        with pytest.raises(ConfigError, match=r"2 seeds.*from 0 to 1"):
            parl.load(run.path, seed_index=k)
    k: Any
    for k in (True, "1", 0.5, None):
        with pytest.raises(ConfigError, match=r"^setting 'seed_index' must be int, not "):
            parl.load(run.path, seed_index=k)
    one: Any = np.int64(1)
    second = parl.load(run.path, seed_index=one)
    np.testing.assert_array_equal(second.predict(obs), agents[1].predict(obs))
    with pytest.raises(ConfigError, match="no checkpoint is called 'True'"):
        parl.load(run.path, checkpoint=True)
    agents[1].save(tmp_path / "once")
    with pytest.raises(ConfigError, match="a saved agent has no seed_index 1"):
        parl.load(tmp_path / "once", seed_index=1)
    parl.load(tmp_path / "once").save(tmp_path / "twice")  # its schedule is the run's
    again = parl.load(tmp_path / "twice")
    np.testing.assert_array_equal(again.predict(obs), agents[1].predict(obs))
    assert not np.array_equal(agents[0].predict(obs), agents[1].predict(obs))
    for needs_it in (parl.evaluate, partial(parl.resume, steps=64)):
        with pytest.raises(ConfigError, match=r"an environment of your own, 'Counted'.*env=\.\.\."):
            needs_it(run.path)
    first = parl.load(run.path / "checkpoints" / "0")
    assert not np.array_equal(first.predict(obs), agents[0].predict(obs))


FEW = ("ppo", "dqn", "coma")  # the rest takes its time
SERVED = ("jax:CartPole-v1", "jax:Pendulum-v1", "jax:simple_spread", "jax:tic_tac_toe")


@pytest.mark.parametrize("name", quick(RECIPES, *FEW))
def test_a_loaded_runs_agent_has_the_state_that_its_run_had(name: str) -> None:
    """Else it could be saved and not loaded: schedules are a part of the state."""
    specs = [make_factory(id).spec for id in SERVED]
    spec = next(spec for spec in specs if fits(recipe_class(name), spec))
    parts = resolve(RunConfig(name, spec.id, steps=50_000))
    spec = parts.factory.spec  # with what the algorithm asks for
    config = kept_config(parts)
    recipe = make_recipe(name, spec).override(config["settings"])
    learner = recipe.learner(spec, config["steps"], recipe.num_envs)
    shapes = lambda learner: jax.tree.map(
        lambda x: (x.shape, str(x.dtype)),
        jax.eval_shape(lambda key: learner.algorithm.init(key, spec), jax.random.key(0)),
    )
    assert shapes(learner) == shapes(parts.learner)


@pytest.mark.slow
def test_memory_is_of_each_size_of_batch() -> None:
    made = parl.Agent.make("ppo", "jax:CartPole-v1", recurrent="gru", memory_size=4, hidden=(4,))
    obs = np.zeros(4)
    made.predict(obs)
    assert made.predict(np.zeros((3, 4))).shape == (3,) and set(made.memories) == {1, 3}
    made.reset()
    assert not made.memories
