"""MMD, NFSP, PSRO and their parts: equations worked by hand."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from compiled import compiled

from parl import ops
from parl.agents.replay.reservoir import Offered, Reservoir
from parl.agents.replay.ring import Replay
from parl.algorithms.mmd import MMD, MagnetSample, transformed
from parl.algorithms.nfsp import NFSP, NFSPMemory, NFSPPolicy, Played
from parl.algorithms.psro import PSRO
from parl.core.errors import ConfigError, SpaceError
from parl.core.types import Step
from parl.envs.factory import make_factory
from parl.envs.game_tree import enumerated, exploitability
from parl.envs.multi.poker import KUHN
from parl.recipes import make_recipe
from parl.runs.exploit import strategy_of
from parl.runs.opponents import with_opponent

KEY = jax.random.key(0)
SPEC = KUHN.spec


# -- matrix games ---------------------------------------------------------------------------------


def value_by_program(payoff: np.ndarray) -> float:
    """The value of a game to its row player, by linear programming."""
    from scipy.optimize import linprog  # only now: it takes a while to load

    n, m = payoff.shape
    found = linprog(
        np.r_[np.zeros(n), -1.0],
        A_ub=np.c_[-payoff.T, np.ones(m)],
        b_ub=np.zeros(m),
        A_eq=[np.r_[np.ones(n), 0.0]],
        b_eq=[1.0],
        bounds=[(0, None)] * n + [(None, None)],
    )
    return float(-found.fun)


def test_equilibria_are_those_of_a_linear_program() -> None:
    solve = compiled(ops.zero_sum)
    rng, everything = np.random.default_rng(0), np.ones(6, bool)
    for _ in range(5):
        payoff = rng.normal(size=(6, 6)).astype(np.float32)
        x, y = (np.asarray(part) for part in solve(payoff, everything, everything))
        value = value_by_program(payoff)
        assert (x @ payoff).min() == pytest.approx(value, abs=3e-3)
        assert (payoff @ y).max() == pytest.approx(value, abs=3e-3)
        some = np.array([True, True, False, True, False, False])
        x, y = (np.asarray(part) for part in solve(payoff, some, everything))
        assert x[~some].sum() == 0 and x.sum() == pytest.approx(1)
        value = value_by_program(payoff[some])
        assert (payoff[some] @ y).max() == pytest.approx(value, abs=3e-3)


# -- MMD ------------------------------------------------------------------------------------------


def test_the_penalty_of_mmd_by_hand() -> None:
    """alpha KL(pi, rho) + KL(pi, pi_t) / eta, over the one agent that acted."""
    pi = ops.Categorical(jnp.log(jnp.array([[[0.5, 0.5], [0.9, 0.1]]])))
    magnet = jnp.log(jnp.array([[[0.8, 0.2], [0.5, 0.5]]]))
    before = jnp.log(jnp.array([[[0.25, 0.75], [0.5, 0.5]]]))
    nothing: dict[str, Any] = dict.fromkeys(
        ("obs", "first", "action", "log_prob", "value", "advantage", "target", "memory")
    )
    active, alpha = jnp.array([[True, False]]), jnp.array([0.3])
    sample = MagnetSample(**nothing, active=active, magnet=magnet, before=before, alpha=alpha)
    total, told = MMD(step_cost=2.0).penalty(pi, sample)
    to_magnet = 0.5 * np.log(0.5 / 0.8) + 0.5 * np.log(0.5 / 0.2)
    to_before = 0.5 * np.log(0.5 / 0.25) + 0.5 * np.log(0.5 / 0.75)
    assert float(total) == pytest.approx(0.3 * to_magnet + 2.0 * to_before, rel=1e-5)
    assert float(told["magnet_kl"]) == pytest.approx(to_magnet, rel=1e-5)


def test_the_magnets_weight_falls_geometrically() -> None:
    rule = MMD(magnet_cost=0.4, magnet_cost_end=0.1, anneal_updates=100)
    weights = [float(rule.alpha(jnp.int32(n))) for n in (0, 50, 100, 1000)]
    np.testing.assert_allclose(weights, [0.4, 0.2, 0.1, 0.1], rtol=1e-5)
    assert float(MMD(magnet_cost=0.4).alpha(jnp.int32(9))) == pytest.approx(0.4)


def test_rewards_of_regularised_dynamics_by_hand() -> None:
    """Who moves away from the magnet pays the other."""
    turn = jnp.array([[[True, False]], [[False, True]]])  # [T, B, N]
    obs = {"alive": jnp.ones((2, 1, 2), bool), "turn": turn}
    reward = jnp.array([[[0.0, 0.0]], [[1.0, -1.0]]])
    gap = jnp.array([[[0.5, 7.0]], [[7.0, -0.25]]])  # of who waits it does not count
    steps = Step(obs, None, reward, None, obs, None, None, {})
    found = transformed(steps, gap, jnp.float32(0.2))
    np.testing.assert_allclose(found, [[[-0.1, 0.1]], [[0.95, -0.95]]], rtol=1e-6)


def test_mmds_magnet_is_copied_every_so_often() -> None:
    recipe = make_recipe("mmd", SPEC).override({"magnet_every": 2, "hidden": (4,)})
    recipe = recipe.override({"num_envs": 2, "length": 4, "epochs": 1, "minibatches": 1})
    rule: Any = recipe.learner(SPEC, 1000, 2).algorithm
    state = compiled(rule.init)(KEY, SPEC)
    same = lambda a, b: all(map(np.array_equal, jax.tree.leaves(a), jax.tree.leaves(b)))
    assert same(state.magnet, state.net.params["actor"])
    with pytest.raises(ConfigError, match="transform_rewards needs a magnet that follows"):
        make_recipe("mmd", SPEC).override({"transform_rewards": True}).learner(SPEC, 1000, 128)


# -- NFSP -----------------------------------------------------------------------------------------


def offer(items: Any) -> Offered:
    return Offered({"x": items["x"]}, items["wanted"], items["ticket"])


def test_a_reservoir_keeps_a_uniform_sample_of_what_was_wanted() -> None:
    """Each of 60 wanted rows is kept in 10 of 60 cases; others never are."""
    replay = Reservoir(Replay(8), offer, 10, 5)
    shapes = {"x": jnp.zeros(4, jnp.float32), "wanted": jnp.zeros(4, bool)}
    shapes |= {"ticket": jnp.zeros(4, jnp.uint32)}
    empty = replay.init(shapes)

    @jax.jit
    @jax.vmap
    def run(key: Any) -> Any:
        def add(state: Any, x: Any) -> Any:
            number, key = x
            rows = 4.0 * number + jnp.arange(4)
            items = {"x": rows, "wanted": rows % 2 == 0, "ticket": jax.random.bits(key, (4,))}
            return replay.add(state, items), None

        keys = jax.random.split(key, 30)
        return jax.lax.scan(add, empty, (jnp.arange(30.0), keys))[0]

    state = run(jax.random.split(KEY, 2000))
    kept = np.asarray(state.reservoir.rows["float32"])[..., 0]  # [2000, 10]
    assert (np.asarray(state.reservoir.seen) == 60).all()
    counts = np.bincount(kept.astype(int).ravel(), minlength=120)
    assert not counts[1::2].any()
    share = counts[::2] / 2000
    np.testing.assert_allclose(share, 1 / 6, atol=5 * np.sqrt(1 / 6 * 5 / 6 / 2000))
    assert all(len(set(row)) == 10 for row in kept)  # no row is kept twice
    one = jax.tree.map(lambda x: x[0], jax.device_get(state))
    batch = jax.jit(replay.sample, static_argnums=2)(one, KEY, (3, 2))
    assert batch.items["x"].shape == (3, 2) and batch.rows["x"].shape == (3, 5)
    assert set(np.asarray(batch.rows["x"]).ravel()) <= set(kept[0])
    assert set(np.asarray(batch.items["x"]).ravel()) <= set(range(112, 120))


class Fixed:
    """An average policy of given probabilities."""

    def apply(self, params: Any, obs: Any) -> Any:
        return ops.Categorical(jnp.log(params))


def test_the_average_is_learned_from_responses_alone() -> None:
    probs = jnp.array([[[0.25, 0.75], [0.5, 0.5]], [[0.1, 0.9], [0.5, 0.5]]])
    counts = jnp.array([[True, False], [True, False]])
    played = Played({}, jnp.array([[0, 1], [1, 1]]), counts)
    nothing: Any = None
    average: Any = Fixed()
    loss, _ = NFSP(nothing, average=average).loss(probs, played)
    assert float(loss) == pytest.approx(-(np.log(0.25) + np.log(0.9)) / 2, rel=1e-5)


def test_nfsps_modes_are_drawn_for_an_episode() -> None:
    """The first step decides; the response acts in about that share of episodes."""
    recipe = make_recipe("nfsp", SPEC).override({"hidden": (4,), "anticipation": 0.3})
    rule: Any = recipe.learner(SPEC, 10_000, 64).algorithm
    state = compiled(rule.init)(KEY, SPEC)
    policy, memory = rule.policy(state), rule.memory((1000,))
    obs = jax.tree.map(lambda x: jnp.repeat(jnp.asarray(x), 1000, 0), SPEC.obs)
    assert isinstance(policy, NFSPPolicy) and isinstance(memory, NFSPMemory)
    act = jax.jit(rule.act, static_argnums=4)
    _, memory, extras = act(policy, obs, memory, KEY, True)
    assert float(extras["responds"].mean()) == pytest.approx(0.3, abs=0.05)
    again, key = act(policy, obs, memory, jax.random.key(1), True), "responds"
    np.testing.assert_array_equal(again[2][key], extras[key])
    assert not np.array_equal(again[2]["ticket"], extras["ticket"])


# -- PSRO -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def oracles() -> PSRO:
    recipe = make_recipe("psro", SPEC).override({"hidden": (4,), "responses": 4})
    learner: Any = recipe.learner(SPEC, 10_000, 16)
    return learner.algorithm


def test_measured_matches_are_the_newest_entry_against_all(oracles: PSRO) -> None:
    row, column, seat = oracles.measured_matches(jnp.int32(1), jnp.int32(2))
    pairs = list(zip(row.tolist(), column.tolist(), strict=True))
    assert pairs == [(1, 0), (1, 1), (0, 1), (1, 1)] * 2 and set(seat.tolist()) == {-1}


def test_opponents_play_as_often_as_their_weights_say(oracles: PSRO) -> None:
    weights = jnp.array([[0.25, 0.0, 0.75, 0.0], [1.0, 0.0, 0.0, 0.0]])
    for key in range(5):
        row, column, seat = oracles.drawn_matches(weights, jax.random.key(key))
        assert seat.tolist() == [0] * 4 + [1] * 4
        assert column[:4].tolist() == [0] * 4  # the learner is first, the second has one entry
        assert sorted(row[4:].tolist()) == [0, 2, 2, 2]


def test_pools_grow_are_measured_and_solved(oracles: PSRO) -> None:
    state = compiled(oracles.init)(KEY, SPEC)
    assert int(state.size) == 1 and int(state.time) == oracles.response_rollouts
    other = jax.tree.map(lambda x: x + 1.0, state.inner.net.params)
    state = state.replace(inner=state.inner.replace(net=state.inner.net._replace(params=other)))
    grown = compiled(oracles.admitted)(state)
    assert int(grown.size) == 2 and int(grown.newest) == 1
    leaf = lambda tree: np.asarray(jax.tree.leaves(tree)[0])
    np.testing.assert_array_equal(leaf(grown.pool)[1], leaf(oracles.inner.policy(state.inner)))
    # matching pennies of the two entries
    payoff = jnp.zeros((4, 4)).at[:2, :2].set(jnp.array([[10.0, -10.0], [-10.0, 10.0]]))
    grown = grown.replace(payoff=payoff, games=jnp.full((4, 4), 10.0))
    solved = compiled(oracles.solved)(grown)
    np.testing.assert_allclose(solved.weights, [[0.5, 0.5, 0, 0]] * 2, atol=1e-3)
    np.testing.assert_array_equal(leaf(solved.inner.net.params), leaf(state.fresh.net.params))
    full = grown.replace(size=jnp.int32(4), weights=jnp.array([[0.1, 0.4, 0.0, 0.5]] * 2))
    assert int(compiled(oracles.admitted)(full).newest) == 2  # the least likely is replaced


def test_a_mixture_is_as_exploitable_as_its_strategies_say(oracles: PSRO) -> None:
    """With all weight on one entry it is that greedy policy."""
    state = compiled(oracles.init)(KEY, SPEC)
    tree = enumerated(KUHN)
    mixture = strategy_of(tree, oracles, oracles.policy(state))
    inner = strategy_of(tree, oracles.inner, oracles.inner.policy(state.inner), greedy=True)
    np.testing.assert_allclose(mixture, inner)
    assert exploitability(tree, mixture).nash_conv > 0


def test_what_psro_is_not_for() -> None:
    spread = make_factory("jax:simple_spread").spec
    with pytest.raises(SpaceError, match="psro is for two players in turns; simple_spread"):
        make_recipe("psro", spread)
    learner = make_recipe("psro", SPEC).learner(SPEC, 1000, 128)
    with pytest.raises(ConfigError, match="psro has pools of opponents of its own: leave out"):
        with_opponent(learner, "pool", SPEC, None, 4, 1)
    with pytest.raises(ConfigError, match="32 matches side by side, which 100 environments do"):
        make_recipe("psro", SPEC).learner(SPEC, 1000, 100)
