"""Plays complete episodes of a policy for evaluation, on the host or in a compiled program.

Shapes: E episodes, B environments.
"""

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parl import ops
from parl.core.algorithm import Algorithm
from parl.core.programs import as_data, shared
from parl.core.spec import EnvSpec
from parl.core.spec_json import ExactSpec, exact
from parl.core.types import Array
from parl.envs import jax_vector
from parl.envs.info import LastNumbers
from parl.envs.protocol import JaxEnv, VectorEnv

MAX_ENVS = 10  # stepped together on the host
MAX_STEPS = 10_000  # of an episode if the environment has no time limit
LOOK_S = 0.25  # between two checks whether to stop
EXACT_UNIT = 2.0**-24  # of float32 sums of rewards: exact, and sums of the largest stay finite


class Stopped(Exception):
    """Playing was asked to end before its last episode."""


class Rules(NamedTuple):
    """How episodes are played."""

    max_steps: int | None = None  # after which an episode is cut; None: see `limit`
    log_info: tuple[str, ...] = ()  # numbers of `info` to keep; on the host only
    sample: bool = False  # actions are sampled instead of greedy
    first: int = 0  # index of the first environment, for makers that ask for it
    stopped: Callable[[], bool] = lambda: False  # polled; raises Stopped once true

    def limit(self, spec: EnvSpec) -> int:
        """Steps after which an episode is cut.

        Never before the environment's own time limit; MAX_STEPS if there is none.
        """
        return self.max_steps or max(spec.max_steps or 0, MAX_STEPS)


RULES = Rules()


class Games(NamedTuple):
    """The played episodes."""

    returns: np.ndarray  # [E, *agent_shape] float64
    lengths: np.ndarray  # [E] steps
    cut: np.ndarray  # [E] bool: after `max_steps`, not by the environment
    infos: dict[str, np.ndarray]  # [E] float64, last value in the episode; NaN if it had none


@shared
def action_program(spec: ExactSpec, explore: bool, structure: Any) -> Any:
    """`playing_action` on the host, for algorithms of a structure."""
    return jax.jit(partial(playing_action, explore))


def playing_action(
    explore: bool,
    algorithm: Algorithm,
    policy: Any,
    obs: Any,
    first: Any,
    memory: Any,
    key: Array,
    time: Any,
) -> tuple[Any, Any]:
    """Actions [B, ...] and the next memory."""
    memory = ops.where_first(first, algorithm.memory(first.shape), memory)
    key = jax.random.fold_in(key, time)
    action, memory, _ = algorithm.act(policy, obs, memory, key, explore=explore)
    return action, memory


class HostPlayer:
    """Plays in a vector environment; acting is compiled once per number of environments."""

    def __init__(self, algorithm: Algorithm, rules: Rules):
        self.algorithm, self.rules, self.data = algorithm, rules, as_data(algorithm)

    def __call__(self, env: VectorEnv, policy: Any, episodes: int, key: Array) -> Games:
        """Plays `episodes`, each environment its share of them in sequence.

        An environment whose episode was cut waits until all others are done; then all are reset.
        """
        num_envs, rules, limit = env.num_envs, self.rules, self.rules.limit(env.spec)
        act = action_program(exact(env.spec), rules.sample, jax.tree.structure(self.data))
        share = np.full(num_envs, episodes // num_envs)
        share[: episodes % num_envs] += 1
        obs, first = env.reset(), np.ones(num_envs, bool)
        memory = self.algorithm.memory((num_envs,))
        total = np.zeros((num_envs, *env.spec.agent_shape))
        length, resting = np.zeros(num_envs, int), np.zeros(num_envs, bool)
        told = LastNumbers(rules.log_info, (num_envs,))
        played: list[list[tuple]] = [[] for _ in range(num_envs)]
        missing, clock = share.copy(), 0
        while missing.any():
            if rules.stopped():
                raise Stopped
            action, memory = act(self.data, policy, obs, first, memory, key, clock)
            new = env.step(np.asarray(action))
            told.see(env.infos)
            total, length, clock = total + new.reward, length + 1, clock + 1
            obs, ended = new.obs, new.terminated | new.truncated
            cut = (length >= limit) & ~ended
            over = ended | cut
            for i in np.flatnonzero(over & ~resting & (missing > 0)):
                played[i].append((total[i].copy(), length[i], cut[i], told.values[i].copy()))
                missing[i] -= 1
            first, resting = ended, resting | cut
            total[over], length[over] = 0.0, 0
            told.forget(over)
            if missing.any() and not (missing[~resting] > 0).any():
                obs, first = env.reset(), np.ones(num_envs, bool)
                total[:], length[:], resting[:] = 0.0, 0, False
                told.forget(first)
        return games_of([one for mine in played for one in mine], rules.log_info)


def games_of(played: Sequence[tuple], names: Sequence[str]) -> Games:
    """The games of (return, length, cut, numbers) each."""
    returns, lengths, cut, numbers = (np.array(part) for part in zip(*played, strict=True))
    return Games(returns, lengths, cut, {name: numbers[:, i] for i, name in enumerate(names)})


class Board(NamedTuple):
    """Episodes in progress, one per environment."""

    env: Any  # [B, ...]
    obs: Any  # [B, *O]
    memory: Any  # [B, ...]
    returns: Array  # [B, *agent_shape], scaled
    lengths: Array  # [B] int32
    over: Array  # [B] bool
    time: Array  # []


class FusedPlayer:
    """Plays up to `width` episodes of a pure JAX environment in parallel, some steps per call.

    The number of episodes is data, so one program serves any number up to `width`. Results do not
    depend on how steps are divided into calls.
    """

    def __init__(self, env: JaxEnv, algorithm: Algorithm, width: int, rules: Rules):
        self.env, self.algorithm, self.width, self.rules = env, algorithm, width, rules
        self.limit, self.data = rules.limit(env.spec), as_data(algorithm)
        structure = jax.tree.structure(self.data)
        self.start, self.go_on = board_programs(env, width, rules.sample, structure)

    def __call__(self, policy: Any, episodes: int, key: Array) -> Games:
        """Plays `episodes` of at most `width`."""
        board = self.start(self.data, key, episodes)
        until, steps = 0, 64
        while True:
            if self.rules.stopped():
                raise Stopped
            until, begin = min(until + steps, self.limit), time.perf_counter()
            board = self.go_on(self.data, policy, board, key, until)
            if bool(board.over.all()) or until >= self.limit:
                break
            if time.perf_counter() - begin < LOOK_S:
                steps *= 2
        lengths, over = jax.device_get((board.lengths, board.over))
        own = slice(0, episodes)
        return Games(self.returns(board)[own], lengths[own], ~over[own], {})

    def returns(self, board: Board) -> np.ndarray:
        """[width, *agent_shape] float64, so far."""
        return np.asarray(board.returns, np.float64) / EXACT_UNIT


@shared
def board_programs(env: JaxEnv, width: int, explore: bool, structure: Any) -> tuple[Any, Any]:
    """(start, go_on) for `width` episodes and algorithms of this tree structure.

    start: (algorithm, key, episodes) -> Board with `episodes` running and the others over. go_on:
    (algorithm, policy, board, key, until) -> Board at time `until`, or with all episodes over.
    """

    def start(algorithm: Algorithm, key: Array, episodes: Any) -> Board:
        k_reset, _, _ = jax.random.split(key, 3)
        state, obs = jax.vmap(env.reset)(jax.random.split(k_reset, width))
        returns = jnp.zeros((width, *env.spec.agent_shape))
        lengths = jnp.zeros(width, jnp.int32)
        over = jnp.arange(width) >= episodes
        return Board(state, obs, algorithm.memory((width,)), returns, lengths, over, jnp.int32(0))

    def go_on(algorithm: Algorithm, policy: Any, board: Board, key: Array, until: Any) -> Board:
        _, k_act, k_step = jax.random.split(key, 3)
        first = jnp.zeros(width)

        def step(board: Board) -> Board:
            opens = board.time == first
            action, memory = playing_action(
                explore, algorithm, policy, board.obs, opens, board.memory, k_act, board.time
            )
            keys = jax.random.split(jax.random.fold_in(k_step, board.time), width)
            new = jax_vector.step(env, board.env, action, keys)
            state, obs, reward, terminated, truncated = new
            reward = jnp.where(ops.expand_like(board.over, reward), 0.0, reward)
            return Board(
                state,
                obs,
                memory,
                board.returns + EXACT_UNIT * reward,
                board.lengths + ~board.over,
                board.over | terminated | truncated,
                board.time + 1,
            )

        going = lambda board: ~board.over.all() & (board.time < until)
        return jax.lax.while_loop(going, step, board)

    return jax.jit(start), jax.jit(go_on)
