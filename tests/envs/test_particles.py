"""The particle environments against mpe2, step by step from mpe2's own initial states."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick

from parl.core.spec import Box, Discrete
from parl.envs.factory import make_factory
from parl.envs.multi import particles
from parl.envs.multi.particles import ParticleState
from parl.envs.multi.simple_speaker_listener import SimpleSpeakerListener, SpeakerListenerState
from parl.envs.multi.simple_spread import SimpleSpread
from parl.envs.multi.simple_tag import SimpleTag, fine

KEY = jax.random.key(0)
PAIRS = [
    (SimpleSpread, "simple_spread_v3", {}),
    (SimpleSpread, "simple_spread_v3", {"num_agents": 5}),
    (SimpleSpeakerListener, "simple_speaker_listener_v4", {}),
    (SimpleTag, "simple_tag_v3", {}),
]
pairs = pytest.mark.parametrize("kind, module, options", PAIRS, ids=lambda x: str(x)[-30:])
both_actions = pytest.mark.parametrize("continuous", [False, True])


@cache
def jitted(env: Any) -> Any:
    return jax.jit(env.step)


def theirs(module: str, options: dict[str, Any], continuous: bool) -> Any:
    mpe2 = pytest.importorskip(f"mpe2.{module}")
    count = {"N": options["num_agents"]} if options else {}
    return mpe2.parallel_env(continuous_actions=continuous, **count)


def state_of(env: Any) -> ParticleState:
    """mpe2's state as ours."""
    world = env.unwrapped.world
    places = lambda entities, what: jnp.array(
        np.stack([getattr(e.state, what) for e in entities]), jnp.float32
    )
    state = ParticleState(
        places(world.agents, "p_pos"),
        places(world.agents, "p_vel"),
        places(world.landmarks, "p_pos"),
        jnp.int32(env.unwrapped.steps),
    )
    goal = getattr(world.agents[0], "_goal_b", None)
    if goal is None:
        return state
    number, message = world.landmarks.index(goal), jnp.array(world.agents[0].state.c, jnp.float32)
    return SpeakerListenerState(**vars(state), goal=jnp.int32(number), message=message)


def draw(env: Any, ours: Any, rng: np.random.Generator) -> tuple[dict[str, Any], np.ndarray]:
    """Random actions: theirs by name, and ours [N] or [N, A] padded."""
    sizes = [space.n if isinstance(space, Discrete) else space.shape[0] for space in ours.actions]
    if isinstance(ours.spec.action_space, Discrete):
        chosen = [int(rng.integers(n)) for n in sizes]
        return dict(zip(env.agents, chosen, strict=True)), np.array(chosen, np.int32)
    drawn = [rng.uniform(-1, 1, n).astype(np.float32) for n in sizes]
    stretched = [((x + 1) / 2).astype(np.float32) for x in drawn]
    padded = np.stack([np.pad(x, (0, max(sizes) - len(x))) for x in drawn])
    return dict(zip(env.agents, stretched, strict=True)), padded


def errors_of(env: Any, obs: Any, ours: Any, seen: dict[str, np.ndarray]) -> list[float]:
    """Largest differences of views and of the state."""
    found = [np.abs(np.asarray(obs["state"]) - env.state()).max()]
    for i, view in enumerate(seen.values()):
        row = np.asarray(obs["view"][i])
        assert not row[ours.views[i] :].any() and len(view) == ours.views[i]
        found.append(np.abs(row[: ours.views[i]] - view).max())
    return found


@pytest.mark.parametrize(
    "kind, module, options, continuous",
    quick(
        [(*pair, continuous) for pair in PAIRS for continuous in (False, True)],
        (*PAIRS[0], False),
        (*PAIRS[2], False),
        (*PAIRS[3], True),
    ),
    ids=lambda x: str(x)[-30:],
)
def test_episodes_run_as_in_mpe2(
    kind: Any, module: str, options: dict[str, Any], continuous: bool
) -> None:
    """From the same start and with the same actions, without resynchronising within an episode."""
    ours, rng, worst, steps = (
        kind(continuous=continuous, **options),
        np.random.default_rng(3),
        0.0,
        0,
    )
    env = theirs(module, options, continuous)
    for seed in range(8):
        seen, _ = env.reset(seed=seed)
        state = state_of(env)
        worst = max([worst, *errors_of(env, ours.observe(state), ours, seen)])
        while env.agents:
            names = list(env.agents)
            action, mine = draw(env, ours, rng)
            seen, reward, terminated, truncated, _ = env.step(action)
            state, obs, paid, *ends = jitted(ours)(state, mine, KEY)
            error = np.abs(np.asarray(paid) - [reward[name] for name in names]).max()
            worst = max([worst, error, *errors_of(env, obs, ours, seen)])
            assert [any(terminated.values()), all(truncated.values())] == [bool(e) for e in ends]
            steps += 1
    assert steps == 8 * 25 and worst < 1e-5, worst


@pairs
def test_contacts_run_as_in_mpe2(kind: Any, module: str, options: dict[str, Any]) -> None:
    """Crowded starts, in which every agent touches something."""
    if kind is SimpleSpeakerListener:
        pytest.skip("nothing collides there")
    env, ours, rng = theirs(module, options, False), kind(**options), np.random.default_rng(0)
    hits = worst = 0.0
    for seed in range(20):
        env.reset(seed=seed)
        for entity in env.unwrapped.world.entities:
            entity.state.p_pos = entity.state.p_pos * 0.2
            if entity.movable:
                entity.state.p_vel = rng.uniform(-1, 1, 2)
        state = state_of(env)
        action, mine = draw(env, ours, rng)
        names = list(env.agents)
        seen, reward, *_ = env.step(action)
        _, obs, paid, *_ = jitted(ours)(state, mine, KEY)
        error = np.abs(np.asarray(paid) - [reward[name] for name in names]).max()
        worst = max([worst, error, *errors_of(env, obs, ours, seen)])
        hits += abs(np.asarray(paid)).max() > 0.5
    assert hits > 0 and worst < 1e-5, worst


@pairs
@both_actions
def test_specs_are_those_of_the_adapter(
    kind: Any, module: str, options: dict[str, Any], continuous: bool
) -> None:
    pytest.importorskip("mpe2")
    from parl.envs.adapters.pettingzoo import as_team

    ours, team = (
        kind(continuous=continuous, **options).spec,
        as_team(theirs(module, options, continuous)),
    )
    assert (team.team.agents, team.team.groups) == (ours.agents, ours.groups)
    assert team.team.observation_space == ours.observation_space
    assert (team.team.action_space, team.team.max_steps) == (ours.action_space, ours.max_steps)
    np.testing.assert_array_equal(team.reset(seed=0)[0].keys(), ours.obs.keys())


def random_returns(env: Any, episodes: int) -> np.ndarray:
    """Sums over agents and steps of uniformly random play: [episodes]."""

    def play(key: jax.Array) -> jax.Array:
        k_reset, k_act = jax.random.split(key)
        shape = (25, env.spec.num_agents)
        actions = jax.random.randint(k_act, shape, 0, env.spec.action_space.n)

        def step(state: Any, action: jax.Array) -> Any:
            state, _, reward, *_ = env.step(state, action, key)
            return state, reward.sum()

        return jax.lax.scan(step, env.reset(k_reset)[0], actions)[1].sum()

    return np.asarray(jax.jit(jax.vmap(play))(jax.random.split(KEY, episodes)))


def test_random_play_of_simple_spread_returns_minus_77_8() -> None:
    """mpe2's figure: the sum over the three agents of 25 steps."""
    returns = random_returns(SimpleSpread(), 20_000)
    assert abs(returns.mean() + 78.5) < 1.5


def test_resets_are_those_of_mpe2() -> None:
    """Uniform in the square; simple_tag's obstacles in a smaller one; goals are uniform."""
    keys = jax.random.split(KEY, 4096)
    state, _ = jax.jit(jax.vmap(SimpleTag().reset))(keys)
    for places, reach in ((state.position, 1.0), (state.landmarks, 0.9)):
        places = np.asarray(places)
        assert np.abs(places).max() <= reach and np.abs(places).max() > 0.99 * reach
        np.testing.assert_allclose(places.mean(0), 0, atol=0.03)
        np.testing.assert_allclose(places.std(0), reach / np.sqrt(3), atol=0.02)
    assert not np.asarray(state.velocity).any() and not np.asarray(state.time).any()
    listener = jax.jit(jax.vmap(lambda key: SimpleSpeakerListener().reset(key)[0]))
    goals = np.asarray(listener(keys).goal)
    np.testing.assert_allclose(np.bincount(goals) / 4096, 1 / 3, atol=0.03)


def test_pairs_without_the_diagonal() -> None:
    pairs = jnp.arange(9).reshape(3, 3)
    np.testing.assert_array_equal(particles.of_others(pairs), [[1, 2], [3, 5], [6, 7]])
    assert particles.of_others(jnp.zeros((1, 1, 2))).shape == (1, 0, 2)


def test_the_fine_for_leaving_the_field() -> None:
    """mpe2's three pieces: 0, then 10 (x - 0.9), then exp(2x - 2) up to 10."""
    np.testing.assert_allclose(
        fine(jnp.array([0.5, 0.95, 1.5, 9.0])), [0, 0.5, np.e, 10], rtol=1e-6
    )


@pytest.mark.parametrize("agents", [1, 2, 8])
def test_simple_spread_takes_any_number_of_agents(agents: int) -> None:
    name = f"jax:simple_spread-{agents}"
    env: Any = make_factory(name).jax
    state, obs = jax.jit(env.reset)(KEY)
    assert env.spec.id == name and env.spec.num_agents == agents
    assert obs["view"].shape == (agents, 6 * agents) == env.spec.observation_space["view"].shape
    reward = jitted(env)(state, jnp.zeros(agents, jnp.int32), KEY)[2]
    landmarks, position = np.asarray(state.landmarks), np.asarray(state.position)
    gaps = np.linalg.norm(landmarks[:, None] - position, axis=-1).min(1).sum()
    assert reward.shape == (agents,) and (np.asarray(reward) <= -gaps / 2 + 1e-6).all()


def test_continuous_ids_and_spaces() -> None:
    spec: Any = make_factory("jax:simple_speaker_listener_continuous").spec
    assert spec.id == "jax:simple_speaker_listener_continuous"
    assert spec.action_space == Box((5,)) and "legal" not in spec.observation_space
    assert make_factory("jax:simple_spread_continuous-4").spec.num_agents == 4
