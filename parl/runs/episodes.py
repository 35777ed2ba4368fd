"""Whole episodes of one policy, played on the host or as a program: what evaluation counts.

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
MAX_STEPS = 10_000  # of an episode whose environment knows no time limit
LOOK_S = 0.25  # between two looks at whether to stop
EXACT_UNIT = 2.0**-24  # of float32 sums of rewards: exact, and sums of the largest stay finite


class Stopped(Exception):
    """Playing ended before its last episode, because it was asked to."""


class Rules(NamedTuple):
    """How episodes are played."""

    max_steps: int | None = None  # after which an episode is cut; None: see `limit`
    log_info: tuple[str, ...] = ()  # numbers of `info` to keep; on the host only
    sample: bool = False  # actions are sampled instead of greedy
    first: int = 0  # index of the first environment, for makers that ask for it
    stopped: Callable[[], bool] = lambda: False  # asked often; raises Stopped once it is true

    def limit(self, spec: EnvSpec) -> int:
        """Steps after which an episode is cut.

        Not before the environment's own time limit, and after MAX_STEPS where there is none.
        """
        return self.max_steps or max(spec.max_steps or 0, MAX_STEPS)


RULES = Rules()


class Games(NamedTuple):
    """Episodes that were played."""

    returns: np.ndarray  # [E, *agent_shape] float64
    lengths: np.ndarray  # [E] steps
    cut: np.ndarray  # [E] bool: after `max_steps`, not by the environment
    infos: dict[str, np.ndarray]  # [E] float64 of the episode's last; NaN where nothing was told


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
    """Plays in a vector environment; its program is compiled once for each number of those."""

    def __init__(self, algorithm: Algorithm, rules: Rules):
        self.algorithm, self.rules, self.data = algorithm, rules, as_data(algorithm)

    def __call__(self, env: VectorEnv, policy: Any, episodes: int, key: Array) -> Games:
        """Plays `episodes`, environment i its share of them one after the other.

        An environment that was cut rests until all others are done, and all start anew.
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
    """Episodes under way, each in an environment of its own."""

    env: Any  # [B, ...]
    obs: Any  # [B, *O]
    memory: Any  # [B, ...]
    returns: Array  # [B, *agent_shape], scaled
    lengths: Array  # [B] int32
    over: Array  # [B] bool
    time: Array  # []


class FusedPlayer:
    """Plays `width` episodes of a pure JAX environment side by side, some steps a call.

    Their number is data, so that one program serves any up to `width`; where the calls are parted
    changes no number.
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
        returns, lengths, over = jax.device_get((board.returns, board.lengths, board.over))
        own = slice(0, episodes)
        return Games(returns[own].astype(np.float64) / EXACT_UNIT, lengths[own], ~over[own], {})


@shared
def board_programs(env: JaxEnv, width: int, explore: bool, structure: Any) -> tuple[Any, Any]:
    """(starting, going on) with `width` episodes, for algorithms of a structure.

    starting: (algorithm, key, episodes) -> the start of so many, the others are over; going on:
    (algorithm, policy, board, key, until) -> the board at that time or with all of them over.
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
