"""Gumbel AlphaZero: searches that find what is forced, and targets by hand."""

import dataclasses
import json
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import parl
from parl.algorithms.az import AZ
from parl.algorithms.wrappers.self_play import SelfPlayMemory
from parl.core.errors import ConfigError, MissingPackage, SpaceError
from parl.core.types import Rollout, Step
from parl.envs.factory import make_factory
from parl.envs.multi.board_games import TIC_TAC_TOE
from parl.ops import Categorical
from parl.planning.games import game_model, root_of, seen_by_mover
from parl.planning.gumbel import Edge, Node, gumbel_search
from parl.recipes import make_recipe
from parl.runs.build import resolve
from parl.runs.config import RunConfig

ENV = "jax:tic_tac_toe"
RULES: Any = TIC_TAC_TOE.spec.simulator


def knows_nothing(seen: Any) -> Any:
    """Equal chances of the legal moves, and a value of 0."""
    return jnp.where(seen["legal"], 0.0, -1e9), jnp.zeros(seen["legal"].shape[:-1])


def after(moves: list[int]) -> Any:
    """The observations [1, ...] after these moves."""
    state, obs = TIC_TAC_TOE.reset(jax.random.key(0))
    for move in moves:
        state, obs = TIC_TAC_TOE.step(state, jnp.full(2, move), jax.random.key(0))[:2]
    return jax.tree.map(lambda x: x[None], obs)


def searched(obs: Any, simulations: int, noise: float = 0.0) -> Any:
    model = game_model(RULES, knows_nothing)
    return gumbel_search(
        model,
        root_of(RULES, knows_nothing, obs),
        jax.random.key(0),
        simulations=simulations,
        legal=seen_by_mover(obs)["legal"],
        noise=noise,
    )


@pytest.fixture(scope="module")
def found() -> Any:
    """A search of three positions at once: to win, to block, and lost whatever is played."""
    positions = [[0, 3, 1, 4], [0, 4, 1], [0, 1, 4, 3, 6]]
    obs = jax.tree.map(lambda *x: jnp.concatenate(x), *map(after, positions))
    return obs, jax.jit(lambda obs: searched(obs, 200))(obs)


def test_a_search_wins_blocks_and_knows_what_is_lost(found: Any) -> None:
    _, result = found
    assert result.action[:2].tolist() == [2, 2]
    assert result.value[0] > 0.2 and result.value[2] < -0.9
    assert result.policy[0].argmax() == 2 and result.policy[1].argmax() == 2


def test_illegal_moves_have_no_chance(found: Any) -> None:
    obs, result = found
    legal = np.asarray(seen_by_mover(obs)["legal"])
    assert (np.asarray(result.policy)[~legal] == 0).all()
    np.testing.assert_allclose(result.policy.sum(-1), 1.0, rtol=1e-5)


@jax.jit
def choice_of_two(least_range: Any) -> Any:
    """The policy [1, 2] of a search that tries two actions once each, worth 0.001 and 0."""

    def model(state: Any, action: Any, key: Any) -> tuple[Edge, Node]:
        zero = jnp.zeros(1)
        edge = Edge(jnp.where(action == 0, 0.001, 0.0), zero)  # then all is over
        return edge, Node(jnp.zeros((1, 2)), zero, state)

    root = Node(jnp.zeros((1, 2)), jnp.zeros(1), jnp.zeros(1))
    key = jax.random.key(0)
    return gumbel_search(model, root, key, simulations=2, least_range=least_range, noise=0.0).policy


@pytest.mark.parametrize(("least_range", "lead"), [(1e-8, 5.1), (1.0, 0.0051)])
def test_values_close_together_decide_no_more_than_they_differ(
    least_range: float, lead: float
) -> None:
    # each was visited once, so that sigma is (50 + 1) 0.1 of the scaled value
    expected = 1 / (1 + np.exp(-lead))
    policy = choice_of_two(least_range)
    np.testing.assert_allclose(policy, [[expected, 1 - expected]], rtol=1e-4)


def test_values_change_their_sign_with_the_player_and_end_with_the_game() -> None:
    model = game_model(RULES, lambda seen: (knows_nothing(seen)[0], jnp.full(2, 0.25)), gamma=0.5)
    obs = jax.tree.map(lambda *x: jnp.concatenate(x), after([0, 3, 1, 4]), after([0, 3, 1, 4]))
    look = lambda obs: model(
        root_of(RULES, knows_nothing, obs).state, jnp.array([2, 8]), jax.random.key(0)
    )
    edge, node = jax.jit(look)(obs)  # pyright: ignore
    assert edge.reward.tolist() == [1.0, 0.0] and edge.discount.tolist() == [0.0, -0.5]
    assert node.value.tolist() == [0.0, 0.25]
    assert (node.logits[1] > -1).tolist() == [x in (2, 5, 6, 7) for x in range(9)]


def rollout(moves: list[int], values: list[float], random: list[bool]) -> Rollout:
    """Moves [T] of one environment, with the values that searches found."""
    env, steps = make_factory(ENV).vector(1, 0), []
    obs, first = env.reset(), np.ones(1, bool)
    for move, value, drawn in zip(moves, values, random, strict=True):
        new = env.step(np.where(obs["turn"], move, 0).astype(np.int32))
        policy = np.eye(9, dtype=np.float32)[[move]]
        extras = {"search_policy": policy, "search_value": np.array([value], np.float32)}
        extras["random"] = np.array([drawn])
        discount = 1 - new.terminated.astype(np.float32)
        steps.append(
            Step(
                obs,
                np.array([move]),
                new.reward,
                discount,
                new.next_obs,
                first,
                new.terminated,
                extras,
            )
        )
        obs, first = new.obs, new.terminated
    return Rollout(jax.tree.map(lambda *x: jnp.stack(x), *steps), ())


MOVES, VALUES = [0, 3, 1, 4, 2, 0, 8], [0.1, -0.2, 0.3, -0.4, 0.9, 0.5, -0.6]


@pytest.mark.parametrize(
    ("lambda_", "random", "outcome"),
    [
        # the first player wins with its third stone; two moves of a game without an end follow
        (1.0, [], [1.0, -1.0, 1.0, -1.0, 1.0, 0.6, -0.6]),
        (0.0, [], [0.2, -0.3, 0.4, -0.9, 1.0, 0.6, -0.6]),
        (0.5, [], [0.34375, -0.4875, 0.675, -0.95, 1.0, 0.6, -0.6]),
        # a random move, the third: what follows it tells nothing of the three positions up to it
        (1.0, [2], [0.3, -0.3, 0.3, -1.0, 1.0, 0.6, -0.6]),
        (1.0, [4], [0.9, -0.9, 0.9, -0.9, 0.9, 0.6, -0.6]),
    ],
)
def test_outcomes_by_hand(lambda_: float, random: list[int], outcome: list[float]) -> None:
    drawn = [t in random for t in range(7)]
    items = AZ(lambda_=lambda_).items(rollout(MOVES, VALUES, drawn))
    np.testing.assert_allclose(items["outcome"], outcome, atol=1e-6)
    assert items["active"].all() and items["view"].shape == (7, 18)
    assert items["search_policy"].argmax(-1).tolist() == MOVES
    assert items["view"][2].tolist() == [1.0, 0.0, *[0.0] * 4, 0.0, 1.0, *[0.0] * 10]


def test_the_loss_by_hand() -> None:
    """Of two moves, of which one is the other side's."""

    class Fixed:  # a Model
        """Chances 1/4 and 3/4 of two legal moves of three, and a value of 0.5."""

        def apply(self, params: Any, seen: Any, method: Any = None) -> Any:
            logits = jnp.log(jnp.array([0.25, 0.75, 1.0])) + 0 * seen["view"]
            return Categorical(logits).masked(seen["legal"]), jnp.full(2, 0.5)

    batch = {
        "view": jnp.zeros((2, 3)),
        "legal": jnp.array([[True, True, False]] * 2),
        "search_policy": jnp.array([[0.5, 0.5, 0.0], [1.0, 0.0, 0.0]]),
        "outcome": jnp.array([-1.0, 1.0]),
        "active": jnp.array([True, False]),
    }
    algorithm = AZ(model=cast(Any, Fixed()), value_cost=2.0)
    loss, told = jax.jit(algorithm.loss)((), batch)
    cross = -0.5 * (np.log(0.25) + np.log(0.75))
    np.testing.assert_allclose(told["policy_loss"], cross, rtol=1e-5)
    np.testing.assert_allclose(told["value_loss"], 0.5 * 1.5**2, rtol=1e-5)
    np.testing.assert_allclose(loss, cross + 2.25, rtol=1e-5)


@pytest.mark.slow
def test_a_run_reports_the_search_and_its_network_apart(tmp_path: Any) -> None:
    """Both sides learn; the games are against chance."""
    tiny = {"hidden": (4,), "num_envs": 4, "length": 9, "simulations": 2, "eval_simulations": 16}
    run = parl.train(
        "az", ENV, tmp_path / "run", quiet=True, steps=36, updates=1, batch_size=8,
        eval_episodes=16, absolute_episodes=0, **tiny,
    )  # fmt: skip
    assert json.loads((run.path / "config.json").read_text())["opponent"] == "self"
    assert run.result["win_rate"] > run.result["network/win_rate"]
    parl.load(run.path).save(tmp_path / "agent")
    agent = parl.load(tmp_path / "agent")
    assert agent.act(jax.tree.map(np.asarray, after([0, 3, 1, 4])), False).tolist() == [[2, 0]]


@pytest.mark.slow
def test_it_learns_from_its_own_moves_against_a_pool(tmp_path: Any) -> None:
    tiny = {"hidden": (4,), "num_envs": 4, "length": 9, "simulations": 2, "eval_episodes": 0}
    run = parl.train(
        "az", ENV, tmp_path / "run", quiet=True, steps=144, updates=2, batch_size=8,
        opponent="pool", admit_every=36, random_moves=0.5, **tiny,
    )  # fmt: skip
    assert (run.result["updates"], run.result["skipped_updates"]) == (8, 0)
    parts = resolve(RunConfig("az", ENV, opponent="pool", settings={"hidden": (4,)}))
    game: Any = parts.learner.algorithm
    batch = rollout(MOVES, VALUES, [False] * 7)
    known = {"side": np.ones((7, 1), int), "opponent": np.zeros((7, 1), int)}
    steps = batch.steps._replace(extras=batch.steps.extras | known)
    memory: Any = SelfPlayMemory((), (), known["side"][0], ())  # pyright: ignore[reportArgumentType]
    items = game.items(Rollout(steps, memory))
    assert items["active"].tolist() == [False, True, False, True, False, False, True]


def test_what_it_cannot_search_is_refused_in_a_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    refusal = r"^az searches with the rules of a game.*which {} does not give"
    for env in ("jax:simple_spread", "jax:two_step"):
        with pytest.raises(SpaceError, match=refusal.format(env)):
            resolve(RunConfig("az", env))
    spec = dataclasses.replace(TIC_TAC_TOE.spec, id="mine", simulator=None)
    recipe = make_recipe("az", spec)  # as in `parl show`, which plays nothing
    with pytest.raises(SpaceError, match=refusal.format("mine")):
        recipe.learner(spec, 0, 1)
    with pytest.raises(SpaceError, match="az is for several agents; CartPole-v1 has a single one"):
        make_recipe("az", make_factory("jax:CartPole-v1").spec)
    for name in ("simulations", "eval_simulations", "considered"):
        with pytest.raises(ConfigError, match=rf"^(setting )?'?{name}'? must be at least 1, not 0"):
            resolve(RunConfig("az", ENV, settings={name: 0}))
    monkeypatch.setitem(__import__("sys").modules, "mctx", None)
    with pytest.raises(MissingPackage, match="pip install mctx"):
        searched(after([]), 1)
