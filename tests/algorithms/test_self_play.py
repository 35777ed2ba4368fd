"""Self-play: who plays whom, what is learned from, ratings and admissions by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled
from marks import slow
from team import rollout, team_spec

from parl.algorithms.ppo import PPO
from parl.algorithms.qmix import team_transitions
from parl.algorithms.wrappers.match import Match, MatchPolicy, Uniform, sides_of
from parl.algorithms.wrappers.self_play import INITIAL_RATING, SelfPlay, outcome
from parl.core.algorithm import Algorithm
from parl.core.spec import Box, Discrete, EnvSpec
from parl.core.types import Rollout, Step
from parl.recipes import make_recipe
from parl.runs.evaluation import scores_of

B, N, M, P = 8, 2, 2, 3


class Constant(Algorithm):
    """Every agent does what the policy says; remembers how often it acted."""

    start: int = 0

    def init(self, key: Any, spec: EnvSpec) -> Any:
        return jnp.int32(self.start)

    def policy(self, state: Any) -> Any:
        return state

    def memory(self, batch_shape: tuple[int, ...]) -> Any:
        return jnp.zeros(batch_shape, jnp.int32)

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        action = jnp.full(obs["alive"].shape, policy, jnp.int32)
        return action, memory + 1, {"log_prob": jnp.zeros(action.shape)}

    def update(self, state: Any, batch: Any, key: Any) -> Any:
        return state + 1, {"alive": batch.steps.obs["alive"].mean()}


SPEC = EnvSpec(
    "game",
    {"view": Box((N, 1)), "alive": Box((N,), "bool"), "legal": Box((N, 9), "bool")},
    Discrete(9),
    num_agents=N,
)
OBS = {
    "view": jnp.zeros((B, N, 1)),
    "alive": jnp.ones((B, N), bool),
    "legal": jnp.ones((B, N, 9), bool),
}
KEY = jax.random.key(0)


@pytest.fixture(autouse=True)
def methods_are_compiled(monkeypatch: pytest.MonkeyPatch) -> None:
    """As they are in every run."""
    for name in ("init", "act", "observe"):
        monkeypatch.setattr(SelfPlay, name, compiled(getattr(SelfPlay, name)))


def same_tree(ours: Any, theirs: Any) -> None:
    jax.tree.map(np.testing.assert_array_equal, ours, theirs)


def league(**changes: Any) -> SelfPlay:
    game = SelfPlay(
        Constant(5),
        Constant(),
        Uniform(SPEC.action_space, N),
        sides=(0, 1),
        matches=M,
        pool_size=P,
        admit_every=2,
        match_steps=4,
    )
    return game.replace(**changes)


def frozen() -> SelfPlay:
    """Against opponents that always do 1, and 2."""
    return league(frozen=np.array([1, 2], np.int32))


def test_seats_alternate_and_opponents_have_equal_slices() -> None:
    game = frozen()
    policy, memory = game.policy(game.init(KEY, SPEC)), game.memory((B,))
    action, memory, extras = game.act(policy, OBS, memory, KEY, True)
    side = np.asarray(extras["side"])
    assert (side[1:] != side[:-1]).all() and set(side) == {0, 1}
    np.testing.assert_array_equal(extras["opponent"], np.repeat([0, 1], B // M))
    np.testing.assert_array_equal(action[np.arange(B), side], 5)
    np.testing.assert_array_equal(action[np.arange(B), 1 - side], np.repeat([1, 2], B // M))
    np.testing.assert_array_equal(memory.learner, 1)
    np.testing.assert_array_equal(memory.opponent, 1)


def test_a_share_of_the_opponents_actions_is_random() -> None:
    """Half of them, of which again a ninth is what the policy does."""
    game = frozen().replace(noise=0.5, matches=1)
    policy = game.policy(game.init(KEY, SPEC))
    obs = jax.tree.map(lambda x: jnp.repeat(x, 100, axis=0), OBS)
    action, _, extras = game.act(policy, obs, game.memory((100 * B,)), KEY, True)
    row, side = np.arange(100 * B), np.asarray(extras["side"])
    np.testing.assert_array_equal(action[row, side], 5)
    share = (np.asarray(action)[row, 1 - side] != 1).mean()
    assert abs(share - 0.5 * 8 / 9) < 4 * 0.5 / 800**0.5


def test_a_side_holds_for_the_game_and_is_drawn_for_the_next() -> None:
    game = frozen()
    policy, memory = game.policy(game.init(KEY, SPEC)), game.memory((B,))
    _, memory, first = game.act(policy, OBS, memory, KEY, True)
    keys = [jax.random.key(i) for i in range(1, 20)]
    for key in keys:
        _, _, later = game.act(policy, OBS, memory, key, True)
        np.testing.assert_array_equal(later["side"], first["side"])
    anew = [game.act(policy, OBS, game.memory((B,)), key, True)[2]["side"][0] for key in keys]
    assert set(map(int, anew)) == {0, 1}


def test_a_game_counts_for_no_opponent_if_it_changed() -> None:
    game = frozen()
    policy = game.policy(game.init(KEY, SPEC))
    _, memory, _ = game.act(policy, OBS, game.memory((B,)), KEY, True)
    swapped = policy.replace(drawn=jnp.array([0, 0]))
    _, _, extras = game.act(swapped, OBS, memory, KEY, True)
    np.testing.assert_array_equal(extras["opponent"], np.repeat([0, -1], B // M))


def test_greedy_acting_plays_all_sides() -> None:
    game = frozen()
    policy = game.policy(game.init(KEY, SPEC))
    action, memory, extras = game.act(policy, OBS, game.memory((B,)), KEY, False)
    assert (action == 5).all() and (memory.learner == 1).all() and (memory.opponent == 0).all()
    assert "side" not in extras


def test_as_many_opponents_play_as_divide_the_environments() -> None:
    game = frozen()
    policy = game.policy(game.init(KEY, SPEC))
    obs = jax.tree.map(lambda x: x[:3], OBS)
    _, _, extras = game.act(policy, obs, game.memory((3,)), KEY, True)
    np.testing.assert_array_equal(extras["opponent"], [0, 0, 0])


def games(ends: list[tuple[int, int, int, float]], length: int = 2) -> Rollout:
    """A rollout at whose end games end: (environment, opponent, side, the learner's reward)."""
    zeros, no = np.zeros((length, B), np.float32), np.zeros((length, B), bool)
    reward, last = np.zeros((length, B, N), np.float32), no.copy()
    side, opponent = np.zeros((length, B), np.int32), np.full((length, B), -1, np.int32)
    for b, other, place, paid in ends:
        last[-1, b], side[:, b], opponent[:, b] = True, place, other
        reward[-1, b, place], reward[-1, b, 1 - place] = paid, -paid
    obs = jax.tree.map(lambda x: np.broadcast_to(np.asarray(x), (length, *x.shape)), OBS)
    extras = {"side": side, "opponent": opponent}
    steps = Step(obs, zeros, reward, 1.0 - last, obs, no, last, extras)
    return Rollout(steps, league().memory((B,)))


def test_elo_and_win_rates_of_finished_games_by_hand() -> None:
    """Two wins and a draw against opponent 0: one match of 5/6; a loss against opponent 1."""
    game = frozen()
    state = game.init(KEY, SPEC).replace(updates=jnp.int32(1))
    ends = [(0, 0, 0, 1.0), (1, 0, 1, 1.0), (2, 0, 0, 0.0), (3, 1, 1, -1.0), (4, -1, 0, 1.0)]
    pool = game.observe(state, games(ends)).pool
    np.testing.assert_array_equal(pool.games, [3, 1])
    np.testing.assert_array_equal(pool.score, [2.5, 0])
    up, down = 16 * (2.5 / 3 - 0.5), 16 * (0 - 0.5)
    np.testing.assert_allclose(
        pool.ratings, [INITIAL_RATING - up, INITIAL_RATING - down], rtol=1e-6
    )
    np.testing.assert_allclose(pool.rating, INITIAL_RATING + up + down, rtol=1e-6)
    np.testing.assert_allclose(pool.win_rate, [3.5 / 5, 1 / 3], rtol=1e-6)
    again = game.observe(state.replace(pool=pool), games([(0, 0, 0, -1.0)])).pool
    np.testing.assert_allclose(again.games, [3 * 0.95 + 1, 0.95], rtol=1e-6)
    np.testing.assert_allclose(again.score, [2.5 * 0.95, 0], rtol=1e-6)


def test_nothing_counts_before_the_first_update() -> None:
    state = frozen().init(KEY, SPEC)
    after = frozen().observe(state, games([(0, 0, 0, 1.0)]))
    same_tree(after.pool, state.pool)
    assert int(after.rollouts) == 0


def blank_steps(reward: Any) -> Step:
    """Steps of nothing but rewards [T, B, N], each of which opens a game."""
    flag = np.ones(reward.shape[:2], bool)
    return Step(None, None, reward, None, None, flag, flag, {})


def test_outcome_counts_a_games_own_rewards_only() -> None:
    """Agent 0 is ahead by what it was paid in its game, though it lost more before."""
    reward = np.array([[[-9.0, 9.0]], [[2.0, 0.0]], [[0.0, 1.0]], [[0.0, 1.0]]], np.float32)
    first = np.array([[True], [True], [False], [False]])
    blank = games([]).steps
    steps = blank._replace(reward=reward, first=first)
    mine = jnp.broadcast_to(jnp.array([True, False]), reward.shape)
    np.testing.assert_array_equal(outcome(steps, mine)[:, 0], [0, 1, 1, 0.5])


def test_outcome_among_three_sides_is_that_of_an_evaluation() -> None:
    """Ahead of the mean of the others is not ahead; agents 2 and 3 are one side, paid -4 each."""
    pay = np.array([1.0, 3.0, -4.0, -4.0], np.float32)
    steps = blank_steps(pay[None, None])
    mine = lambda index: jnp.isin(jnp.arange(4), jnp.array(index))[None, None]
    sides = (0, 1, 2, 2)
    found = [float(outcome(steps, mine(i), sides)[0, 0]) for i in ([0], [1], [2, 3])]
    assert found == [0.0, 1.0, 0.0]
    totals = np.broadcast_to(pay[:3], (3, 1, 3))
    own = totals[np.arange(3), :, np.arange(3)]
    assert scores_of(own, totals)[:, 0].tolist() == found
    assert float(outcome(steps, mine([0]))[0, 0]) == 0.0, "each agent its own side"


def test_policies_enter_the_pool_and_the_easiest_makes_room() -> None:
    game, state = league(), league().init(KEY, SPEC).replace(updates=jnp.int32(1))
    sizes, entries = [], []
    for i in range(8):
        state = state.replace(inner=jnp.int32(10 + i))
        wins = [(0, 1, 0, 1.0)] if i >= 4 else []  # opponent 1 is beaten
        state = game.observe(state, games(wins))
        sizes.append(int(state.pool.size))
        entries.append(np.asarray(state.pool.policies).tolist())
    assert sizes == [1, 2, 2, 3, 3, 3, 3, 3]
    assert entries[3] == [5, 11, 13] and entries[4] == entries[3]
    assert entries[5] == [5, 15, 13]
    assert float(state.pool.ratings[1]) != INITIAL_RATING


def test_draws_hold_for_a_while_and_prefer_the_hardest() -> None:
    game = league(matches=1000, frozen=np.arange(3, dtype=np.int32))
    state = game.init(KEY, SPEC)
    pool = state.pool.replace(score=jnp.array([8.0, 3.0, 0.0]), games=jnp.array([8.0, 8.0, 8.0]))
    state = state.replace(updates=jnp.int32(1), pool=pool)
    once = game.observe(state, games([]))
    np.testing.assert_array_equal(once.drawn, state.drawn)  # two of match_steps = 4 steps
    twice = game.observe(once, games([]))
    share = np.bincount(np.asarray(twice.drawn), minlength=3) / 1000
    win_rate = (0.95**2 * np.array([8.0, 3.0, 0.0]) + 1) / (0.95**2 * 8 + 2)
    chances = (1 - win_rate) ** 2 / ((1 - win_rate) ** 2).sum()
    np.testing.assert_allclose(share, chances, atol=4 * 0.5 / 1000**0.5)
    assert int(twice.age) == 0


@pytest.mark.parametrize("name", [slow("ippo"), "iql"])
def test_opponents_steps_change_no_gradient(name: str) -> None:
    """Other rewards, views and actions of the other side's agents: the same update."""
    spec = team_spec()
    settings = {"hidden": (4,)} | {"ippo": {"epochs": 1}, "iql": {"normalize_reward": False}}[name]
    recipe = make_recipe(name, spec).override(settings)
    inner = recipe.learner(spec, 100, 4).algorithm
    game = SelfPlay(inner, inner, Uniform(spec.action_space, 3), sides=(0, 0, 1))
    state = game.init(KEY, spec)
    batch = rollout()
    side = np.broadcast_to(np.arange(4) % 2, batch.steps.first.shape).astype(np.int32)
    extras = batch.steps.extras | {"side": side, "opponent": side}
    steps = batch.steps._replace(extras=extras)
    theirs = ~np.asarray(game.mine(jnp.asarray(side)))
    rng = np.random.default_rng(1)
    noise = lambda x: rng.normal(size=x.shape).astype(np.float32)
    view = lambda obs: obs | {"view": np.where(theirs[..., None], noise(obs["view"]), obs["view"])}
    free = steps.obs["legal"].argmax(-1).astype(np.int32)
    other = steps._replace(
        reward=np.where(theirs, noise(steps.reward), steps.reward),
        action=np.where(theirs, free, steps.action),
        obs=view(steps.obs),
        next_obs=view(steps.next_obs),
    )
    assert np.any(other.action != steps.action) and np.any(other.reward != steps.reward)
    memory = game.memory((4,))
    learn = jax.jit(lambda batch: game.update(state, game.items(batch), KEY)[0].inner)
    if name == "ippo":
        learn = jax.jit(lambda batch: game.update(state, batch, KEY)[0].inner)
    ours = learn(Rollout(steps, memory))
    same_tree(ours.net.params, learn(Rollout(other, memory)).net.params)
    moved = steps._replace(reward=np.where(theirs, steps.reward, noise(steps.reward)))
    leaves = lambda train: np.concatenate([x.ravel() for x in jax.tree.leaves(train.net.params)])
    assert np.any(leaves(learn(Rollout(moved, memory))) != leaves(ours))


def test_a_match_has_each_player_on_its_side() -> None:
    game = Match(Constant(), Uniform(SPEC.action_space, N), (1, 0))
    legal = OBS["legal"] & (jnp.arange(9) > 6)
    obs = OBS | {"legal": legal}
    policy = MatchPolicy(jnp.int32(3), (), np.int32(0))
    action, memory, _ = game.act(policy, obs, game.memory((B,)), KEY, False)
    assert (action[:, 1] == 3).all() and set(np.unique(action[:, 0])) == {7, 8}
    action, _, _ = game.act(policy._replace(side=np.int32(1)), obs, memory, KEY, False)
    assert (action[:, 0] == 3).all() and set(np.unique(action[:, 1])) == {7, 8}
    np.testing.assert_array_equal(memory[0], 1)


def test_sides_are_groups_or_seats() -> None:
    assert sides_of(SPEC) == (0, 1)
    assert sides_of(team_spec()) == (0, 0, 1)


def test_a_team_is_paid_what_comes_while_it_waits() -> None:
    """Side 0 moves first and third; the second player wins with the fourth move."""
    turn = np.arange(4)[:, None, None] % 2 == np.arange(2)  # [T, 1, N]
    alive, over = np.ones((4, 1, 2), bool), np.arange(4)[:, None] == 3
    obs = {"alive": alive, "turn": turn}
    next_obs = {"alive": alive, "turn": ~turn & ~over[..., None]}
    reward = np.zeros((4, 1, 2), np.float32)
    reward[3] = [-1, 1]
    side = np.zeros((4, 1), np.int32)
    extras = {"side": side, "opponent": side}
    steps = Step(obs, side, reward, 1.0 - over, next_obs, ~over, over, extras)
    seen = frozen().own(Rollout(steps, frozen().memory((1,)))).steps
    value = jnp.array([[10.0], [20.0], [30.0], [40.0]])
    found = team_transitions(seen, value, value, 0.9, 0.0)
    assert found.active is not None
    np.testing.assert_array_equal(found.active[:, 0], [True, False, True, False])
    np.testing.assert_allclose(found.reward[:, 0], [0, 0, -1, 0])
    np.testing.assert_allclose(found.discount[::2, 0], [0.9, 0.0])
    assert found.next_value[0, 0] == 20.0  # when it moves again
    values = jnp.broadcast_to(value[..., None], reward.shape)
    each = PPO(gamma=0.9).transitions(seen, values, values)
    assert each.active is not None
    np.testing.assert_array_equal(each.active[:, 0, 0], found.active[:, 0])
    np.testing.assert_array_equal(each.active[..., 1], False)  # the other side learns nothing
    np.testing.assert_allclose(each.reward[:, 0, 0], [0, 0, -1, 0])
    np.testing.assert_allclose(each.discount[::2, 0, 0], [0.9, 0.0])
    assert each.next_value[0, 0, 0] == 20.0
