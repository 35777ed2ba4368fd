"""Actions and observations at the face are the environment's; agents are kept and come back."""

import contextlib
import pathlib
import pickle
import tempfile
from collections.abc import Iterator
from typing import Any

import flax.linen as nn
import gymnasium as gym
import numpy as np
from gymnasium import spaces

import parl
from fault_cases import case
from parl.algorithms.dqn import DQN
from parl.core.types import Rollout, Step
from parl.recipes import RECIPES, fits, recipe_class

Box, INF = spaces.Box, np.inf
PPO: dict[str, Any] = dict(
    length=8, num_envs=2, hidden=(8,), minibatches=2, epochs=1, eval_episodes=2, quiet=True
)
OFF: dict[str, Any] = dict(
    warmup=16, hidden=(8,), batch_size=8, capacity=200, eval_episodes=2, quiet=True
)


class Env(gym.Env):
    """Random observations, reward 1, cut after `length` steps; only actions of the space."""

    def __init__(self, obs: Any = None, act: Any = None, length: int = 5):
        self.observation_space = Box(-1, 1, (3,)) if obs is None else obs
        self.action_space = spaces.Discrete(2) if act is None else act
        self.length = length

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.observation_space.sample(), {}

    def step(self, action: Any) -> Any:
        assert self.action_space.contains(action), f"{action} is not in {self.action_space}"
        self.time += 1
        return self.observation_space.sample(), 1.0, False, self.time >= self.length, {}


def new() -> str:
    """A path that is free."""
    return tempfile.mkdtemp() + "/run"


@contextlib.contextmanager
def one_sentence(*words: str) -> Iterator[None]:
    """What is inside has to fail with a sentence that holds these words."""
    try:
        yield
    except parl.ParlError as error:
        said = str(error)
        assert "\n" not in said and all(word in said for word in words), said
        return
    raise AssertionError("no error")


@case("B2", seconds=240)
def predict_gives_the_environments_actions() -> None:
    """Actions of the environment come out, also of the loop; its observations go in."""
    env = gym.make("Pendulum-v1")
    for algorithm in ("sac", "ppo"):
        agent = parl.Agent.make(algorithm, "Pendulum-v1", hidden=(8,))
        obs, _ = env.reset(seed=0)
        actions = [agent.sample(obs) for _ in range(500)]
        assert all(env.action_space.contains(action) for action in actions)
        assert max(abs(action[0]) for action in actions) > 1.5
    wide = parl.Agent.make("sac", lambda: Env(act=Box(0, 10)), hidden=(8,)).predict(np.zeros(3))
    assert 4 < wide[0] < 6
    agent = parl.Agent.make("dqn", lambda: Env(act=spaces.Discrete(3, start=5)), hidden=(8,))
    assert agent.predict(np.zeros(3)) in (5, 6, 7)
    agent = parl.Agent.make("ppo", lambda: Env(spaces.Tuple((spaces.Discrete(2), Box(-1, 1)))))
    assert agent.predict((1, np.zeros(1, np.float32))) in (0, 1)


@case("B2-zoo", seconds=240)
def a_pettingzoo_environment_is_played_by_a_loaded_policy() -> None:
    """Dicts of observations in, dicts of actions out, in parallel and in turns."""
    from mpe2 import simple_spread_v3  # pyright: ignore

    def make() -> Any:
        return simple_spread_v3.parallel_env(max_cycles=5, continuous_actions=True)

    settings = PPO | dict(steps=32, minibatches=1)
    agent = parl.load(parl.train("ippo", env=make, out=new(), **settings).path)
    env = make()
    obs, _ = env.reset(seed=0)
    while env.agents:
        actions = agent.predict(obs, agent=env.agents)
        assert set(actions) == set(env.agents)
        assert all(env.action_space(name).contains(a) for name, a in actions.items())
        obs, *_ = env.step(actions)


@case("B2-turns", seconds=240)
def turns_are_played_one_agent_at_a_time() -> None:
    """The environment's last() is enough, masks included."""
    from pettingzoo.classic import tictactoe_v3  # pyright: ignore

    agent = parl.Agent.make("ippo", tictactoe_v3.env, hidden=(8,))
    env = tictactoe_v3.env()
    env.reset(seed=0)
    for name in env.agent_iter():
        obs, _, terminated, truncated, info = env.last()
        action = None if terminated or truncated else agent.sample(obs, info, agent=name)
        assert action is None or obs["action_mask"][action]
        env.step(action)


ACTIONS = {
    "half-bounded": Box(0, INF, (2,)),
    "bounded above": Box(-INF, 3, (2,)),
    "mixed": Box(np.float32([0, -1, -INF]), np.float32([INF, 1, INF])),
    "axes": Box(-1, 1, (2, 3)),
    "scalar": Box(2, 10, ()),
    "integers": Box(0, 5, (2,), np.int32),
    "bytes": Box(0, 255, (2, 2), np.uint8),
    "doubles": Box(0, 0.3, (1,), np.float64),
    "equal": Box(4, 4, (1,)),
    "huge": Box(-3e38, 3e38, (1,)),
}
CHOICES = {
    "start": spaces.Discrete(3, start=-5),
    "multi": spaces.MultiDiscrete([3, 4], start=[1, -2]),
    "matrix": spaces.MultiDiscrete([[2, 3], [4, 5]]),
    "flags": spaces.MultiBinary((2, 2)),
}


@case("S14", seconds=1800, slow=True)
def every_action_space_trains_and_no_action_leaves_it() -> None:
    """While training, in evaluation, and at the face."""
    for name, space in (ACTIONS | CHOICES).items():
        kinds = [("ppo", PPO), *([("sac", OFF)] if name in ACTIONS else [])]
        for algorithm, settings in kinds:
            make = lambda space=space: Env(act=space)
            run = parl.train(algorithm, env=make, steps=40, out=new(), **settings)
            agent = parl.load(run.path)
            obs = np.zeros((50, 3))
            assert all(space.contains(agent.sample(row)) for row in obs)
            assert space.contains(agent.predict(obs[0]))
            assert agent.predict(obs).shape == (50, *space.shape)


@case("S14-hybrid")
def hybrid_actions_name_the_wrapper() -> None:
    """One sentence that says what can be done."""
    parts = {"a": spaces.Discrete(2), "b": Box(-1, 1, (1,))}
    for space in (spaces.Dict(parts), spaces.Tuple(parts.values())):
        with one_sentence("gymnasium.wrappers.TransformAction"):
            parl.train("ppo", env=lambda space=space: Env(act=space), steps=32, out=new(), **PPO)


@case("F11")
def half_bounded_actions_keep_to_their_bound() -> None:
    """No action below 0."""
    parl.train("ppo", env=lambda: Env(act=Box(0, INF, (2,))), steps=64, out=new(), **PPO)


@case("F12")
def actions_of_two_axes_train() -> None:
    """A matrix of actions."""
    parl.train("ppo", env=lambda: Env(act=Box(-1, 1, (2, 3))), steps=32, out=new(), **PPO)


@case("F04", seconds=240)
def predict_gives_what_evaluate_plays() -> None:
    """The same action, which is legal."""

    class Still(Env):
        played: list = []  # noqa: RUF012

        def __init__(self) -> None:
            super().__init__(act=Box(2, 10, (1,)))

        def reset(self, **kwargs: Any) -> Any:
            super().reset(**kwargs)
            return np.zeros(3, np.float32), {}

        def step(self, action: Any) -> Any:
            Still.played.append(action)
            return (np.zeros(3, np.float32), *super().step(action)[1:])

    run = parl.train("sac", env=Still, steps=32, out=new(), **OFF)
    Still.played.clear()
    parl.evaluate(run.path, episodes=1, env=Still)
    action = parl.load(run.path, env=Still).predict(np.zeros(3, np.float32))
    assert Still().action_space.contains(action)
    np.testing.assert_allclose(action, Still.played[0], rtol=1e-5)


@case("F04b")
def tuples_are_observations() -> None:
    """Of a run that is loaded."""
    make = lambda: Env(spaces.Tuple((spaces.Discrete(4), spaces.Discrete(3))))
    run = parl.train("ppo", env=make, steps=32, out=new(), **PPO)
    assert parl.load(run.path, env=make).predict(make().reset(seed=0)[0]) in (0, 1)


def tiny(name: str) -> dict[str, Any]:
    """Settings of a small run of any recipe, on an environment that it serves."""
    from parl.envs.factory import make_factory

    games = ["jax:kuhn_poker", "jax:tic_tac_toe"]
    ids = ["jax:CartPole-v1", "jax:Pendulum-v1", "jax:simple_spread", *games]
    env = next(id for id in ids if fits(recipe_class(name), make_factory(id).spec))
    types = recipe_class(name).for_env(make_factory(env).spec).types()
    wanted = dict(
        hidden=(4,), actor_hidden=(4,), width=4, actor_width=4, capacity=2000, warmup=32,
        batch_size=8, num_envs=2, length=8, minibatches=1, epochs=1, updates=1,
        latent=8, simulations=2, sequences=32, proposals=4, elites=4, iterations=1,
        responses=1,
    )  # fmt: skip
    return {k: v for k, v in wanted.items() if k in types} | {"env": env}


@case("B3", seconds=3600, slow=True)
def every_recipe_is_loaded_saved_and_loaded_again() -> None:
    """Annealed or not."""
    for name in RECIPES:
        if not is_taught(name):
            keeps_what_it_loads(name, tiny(name))


@case("B3-data", seconds=1800, slow=True)
def every_recipe_of_data_is_loaded_saved_and_loaded_again() -> None:
    """The data, and dagger's teacher, are of SAC."""
    teacher = parl.train("sac", out=new(), steps=256, eval_episodes=1, quiet=True, **tiny("sac"))
    data = new()
    parl.record(teacher.path, data, episodes=2)
    for name in filter(is_taught, RECIPES):
        given = {"teacher": str(teacher.path)} if name == "dagger" else {"data": data}
        keeps_what_it_loads(name, tiny(name) | given | {"env": "jax:Pendulum-v1"})


def is_taught(name: str) -> bool:
    """Whether a recipe learns from a data set or a teacher."""
    return recipe_class(name).needs_data or name == "dagger"


def keeps_what_it_loads(name: str, settings: dict[str, Any]) -> None:
    """Trains, loads, saves, loads, saves and loads: the parameters stay equal."""
    run = parl.train(name, out=new(), steps=256, eval_episodes=1, quiet=True, **settings)
    once, twice = new(), new()
    agent = parl.load(run.path)
    agent.save(once)
    parl.load(once).save(twice)
    again = parl.load(twice)
    for a, b in zip(*(flat(x.get_weights()) for x in (agent, again)), strict=True):
        np.testing.assert_array_equal(a, b, err_msg=name)


def flat(tree: Any) -> list[np.ndarray]:
    """All arrays of a tree."""
    import jax

    return jax.tree.leaves(tree)


@case("B3-annealed", seconds=240)
def an_annealed_recipe_is_loaded_saved_and_loaded_again() -> None:
    """As it was reported."""
    settings = PPO | dict(steps=1000)
    run = parl.train("ppo", env="CartPole-v1", out=new(), **settings)
    path = new()
    agent = parl.load(run.path)
    agent.save(path)
    again = parl.load(path)
    obs = np.random.default_rng(0).normal(size=(50, 4))
    np.testing.assert_array_equal(agent.predict(obs), again.predict(obs))


@case("S5")
def a_policy_is_loaded_without_its_environment() -> None:
    """Shapes are all that predict needs; what plays asks for env=."""

    class Robot(Env):
        present = True

        def __init__(self) -> None:
            assert Robot.present, "not installed"
            super().__init__(act=Box(2, 10, (1,)))

    run = parl.train("ppo", env=Robot, steps=32, out=new(), **PPO)
    Robot.present = False
    agent = parl.load(run.path)
    assert 2 <= agent.predict(np.zeros(3))[0] <= 10
    for call in (parl.evaluate, lambda path: parl.resume(path, steps=64)):
        with one_sentence("Robot", "env="):
            call(run.path)


@case("F25e")
def a_run_of_ones_own_environment() -> None:
    """Acts without it, and asks for it to play."""
    run = parl.train("ppo", env=lambda: Env(), steps=32, out=new(), **PPO)
    assert parl.load(run.path).predict(np.zeros(3)) in (0, 1)
    with one_sentence("env="):
        parl.evaluate(run.path)


class Network(nn.Module):
    """Values of two actions."""

    @nn.compact
    def __call__(self, obs: Any) -> Any:
        return nn.Dense(2)(nn.tanh(nn.Dense(8)(obs)))


@case("S6")
def an_agent_of_ones_own_algorithm_is_restored() -> None:
    """By the algorithm or the learner; another replay is a sentence."""
    spec = parl.EnvSpec("CartPole-v1", parl.Box((4,)), parl.Discrete(2))
    learner = lambda size: parl.OffPolicy(DQN(q=Network()), parl.Replay(size), 8, warmup=8)
    agent, env, path = parl.Agent(learner(100), spec), gym.make("CartPole-v1"), new()
    obs, _ = env.reset(seed=0)
    for _ in range(20):
        action = agent.sample(obs)
        following, reward, terminated, truncated, _ = env.step(action)
        agent.learn(parl.transition(obs, action, reward, following, terminated, truncated))
        obs = env.reset()[0] if terminated or truncated else following
    agent.save(path)
    with one_sentence("algorithm of your own", "Agent.restore"):
        parl.load(path)
    for given in ([DQN(q=Network())], [DQN(q=Network()), spec], [learner(100), spec]):
        again = parl.Agent.restore(path, *given)
        assert again.env_steps == 20 and int(again.replay.size) == 20
        assert again.predict(obs) == agent.predict(obs)
    with one_sentence("Replay(100)", "Replay(50)"):
        parl.Agent.restore(path, learner(50))


@case("S7")
def a_seed_that_there_is_not_is_an_error() -> None:
    """Of two seeds, and of one."""
    for count in (1, 2):
        run = parl.train("ppo", Env, steps=32, num_seeds=count, out=new(), **PPO)
        parl.load(run.path, seed_index=count - 1)
        for wrong in (5, count, -1):
            with one_sentence("seed_index", str(wrong)):
                parl.load(run.path, seed_index=wrong)


@case("S23")
def memory_is_of_the_batch_that_it_was_made_for() -> None:
    """One, then three, then the one again."""
    make = lambda: parl.Agent.make("ppo", "jax:CartPole-v1", recurrent="gru", memory_size=4)
    agent, alone = make(), make()
    obs, rows = np.ones(4), np.random.default_rng(0).normal(size=(3, 4))
    agent.predict(obs)
    fresh = make().predict(rows)
    np.testing.assert_array_equal(agent.predict(rows), fresh)
    agent.predict(obs)
    alone.predict(obs), alone.predict(obs)
    for a, b in zip(flat(agent.memories[1]), flat(alone.memories[1]), strict=True):
        np.testing.assert_array_equal(a, b)


@case("A9")
def wrong_observations_are_one_sentence() -> None:
    """Lists are taken; other sizes, nothing, NaN and text are told."""
    agent = parl.Agent.make("dqn", "CartPole-v1", hidden=(8,))
    assert agent.predict([0, 0, 0, 0]) in (0, 1)
    assert agent.predict([[0, 0, 0, 0]] * 3).shape == (3,)
    for wrong in (
        [0, 0],
        np.zeros((0, 4)),
        [0, np.nan, 0, 0],
        "text",
        None,
        {"a": 1},
        [[0] * 4, 0],
    ):
        with one_sentence("CartPole-v1"):
            agent.predict(wrong)
    copy = pickle.loads(pickle.dumps(agent))
    assert copy.predict([0, 1, 0, 1]) == agent.predict([0, 1, 0, 1])
    assert "dqn" in repr(agent) and "CartPole-v1" in repr(agent)


@case("A10")
def a_checkpoint_of_a_run_is_loaded() -> None:
    """By its own path."""
    run = parl.train("ppo", Env, steps=32, out=new(), **PPO)
    agent = parl.load(run.path / "checkpoints" / "32")
    assert agent.predict(np.zeros(3)) == parl.load(run.path).predict(np.zeros(3))


@case("F01")
def save_keeps_what_others_have() -> None:
    """notes.txt is still there."""
    place = pathlib.Path(tempfile.mkdtemp())
    (place / "notes.txt").write_text("weeks of work")
    agent = parl.Agent.make("dqn", "jax:CartPole-v1", hidden=(8,))
    with one_sentence("notes.txt"):
        agent.save(place)
    assert [p.name for p in place.iterdir()] == ["notes.txt"]
    for _ in range(2):
        agent.save(place / "agent")
    run = parl.train("ppo", Env, steps=32, out=new(), **PPO)
    with one_sentence("checkpoints"):
        agent.save(run.path / "checkpoints" / "32")
    with one_sentence("other things"):
        agent.save(run.path)


@case("F07")
def an_agent_for_ones_own_environment_comes_back() -> None:
    """With the environment, without it, and by its learner."""
    path = new()
    agent = parl.Agent.make("dqn", Env, hidden=(8,))
    agent.save(path)
    for again in (
        parl.load(path, env=Env),
        parl.load(path),
        parl.Agent.restore(path, agent.learner, agent.spec),
    ):
        assert again.predict(np.ones(3)) == agent.predict(np.ones(3))


@case("F09")
def replay_in_host_memory_learns() -> None:
    """In a loop of one's own."""
    agent = parl.Agent.make(
        "dqn", "jax:CartPole-v1", hidden=(8,), replay_on_host=True, capacity=100, warmup=2
    )
    obs = np.zeros(4, np.float32)
    for _ in range(5):
        told = agent.learn(parl.transition(obs, agent.sample(obs), 1.0, obs, False, False))
    assert told["loss"] > 0 and agent.updates == 3


@case("F10")
def rollouts_of_another_length_do_not_corrupt_replay() -> None:
    """They are an error, and what was stored stays."""

    def rollout(first: int, n: int) -> Rollout:
        obs = np.arange(first, first + n, dtype=np.float32)[:, None, None] * np.ones((1, 1, 4))
        one, no = np.ones((n, 1), np.float32), np.zeros((n, 1), bool)
        obs = obs.astype(np.float32)
        return Rollout(Step(obs, np.zeros((n, 1), int), one, one, obs + 1, no, no, {}), ())

    agent = parl.Agent.make(
        "dqn", "jax:CartPole-v1", hidden=(8,), capacity=10, warmup=1000, normalize_obs=False
    )
    agent.learn(rollout(0, 3))
    agent.learn(rollout(3, 3))
    with one_sentence("(3, 1)", "(5, 1)"):
        agent.learn(rollout(6, 5))
    stored = agent.replay.rows["float32"][:6, 0].tolist()
    assert stored == [0, 1, 2, 3, 4, 5] and int(agent.replay.cursor) == 6


@case("F25b")
def learning_without_extras_says_what_is_missing() -> None:
    """PPO wants the log-probability of what it sampled."""
    agent = parl.Agent.make("ppo", "jax:CartPole-v1", hidden=(8,), minibatches=1)
    obs = np.zeros(4, np.float32)
    with one_sentence("extras=agent.extras"):
        agent.learn(parl.transition(obs, agent.sample(obs), 1.0, obs, False, False))
    agent.learn(parl.transition(obs, agent.sample(obs), 1.0, obs, False, False, agent.extras))


@case("R-predict")
def python_predict_of_wrong_shapes() -> None:
    """Wrong shapes and empty batches of a loaded run."""
    run = parl.train("ppo", Env, steps=32, out=new(), **PPO)
    agent = parl.load(run.path)
    for wrong in (np.zeros(7), np.zeros((2, 7)), np.zeros((0, 3)), []):
        with one_sentence("observation"):
            agent.predict(wrong)
