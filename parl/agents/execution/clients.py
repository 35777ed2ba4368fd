"""Clients of federated learning: each learns in environments of its own, some in every round.

A client is a run with a seed of its own, as seeds of one program are. It keeps its environments
from round to round; its learner starts each round as the server's. Clients that take part are
computed in waves, vmapped. Shapes: W clients of a wave, K clients in all, B environments of each.
"""

import os
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parl import ops
from parl.agents.execution.ended import Ended, nothing, total, unscaled
from parl.agents.execution.fused import (
    ActorState,
    RunState,
    Tally,
    at_start,
    iterate,
    iterate_many,
)
from parl.agents.learner import Learner, LearnerState
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import is_key
from parl.core.programs import as_data, shared
from parl.core.seeding import env_seed, run_keys
from parl.core.types import Array
from parl.envs import jax_vector
from parl.envs.protocol import JaxEnv
from parl.envs.randomized import Randomized

PARAMETERS = 1  # folded into the key of a client's environments for their parameters
ROUNDS = 2_000_003  # keeps the draws of rounds apart from all other seeds


class Clients(NamedTuple):
    """Who takes part in a round, and how."""

    number: int  # K
    participate: float = 1.0  # share of the clients that begins a round
    iterations: int = 1  # of each between two averages
    drop_out: float = 0.0  # share of those that never sends anything
    straggle: float = 0.0  # share of those that sends less than all its iterations
    at_once: int = 1024  # most clients of a wave
    seed: int = 0  # the first client's

    @property
    def begun(self) -> int:
        """Clients that begin a round."""
        return max(round(self.participate * self.number), 1)


class Plan(NamedTuple):
    """One round: who sends a result after how many iterations."""

    clients: np.ndarray  # [n] int, in order
    iterations: np.ndarray  # [n] int
    dropped: int  # clients that began and sent nothing
    stragglers: int


class Part(NamedTuple):
    """Sums over clients that sent a result, numpy arrays."""

    floats: list[np.ndarray]  # of the algorithm's state, each times its client's weight
    others: list[np.ndarray]  # the largest of each
    weight: float  # iterations of all, in those of a whole round
    metrics: dict[str, np.ndarray]
    counted: dict[str, np.ndarray]
    ended: Ended
    skipped: int  # updates thrown away
    bad_in_row: int  # fewest over the clients
    broken: bool  # whether an environment gave NaN or infinity
    no_legal_action: bool


def plan(clients: Clients, index: int) -> Plan:
    """The round of this index: the same each time it is asked for."""
    draw = np.random.default_rng([clients.seed, ROUNDS, index])
    begun = clients.begun
    chosen = np.arange(clients.number)
    if begun < clients.number:
        chosen = np.sort(draw.choice(clients.number, begun, replace=False))
    sends = draw.random(begun) >= clients.drop_out
    slow = draw.random(begun) < clients.straggle
    less = draw.integers(1, max(clients.iterations, 2), begun)
    made = np.where(slow, less, clients.iterations)
    return Plan(chosen[sends], made[sends], int((~sends).sum()), int((slow & sends).sum()))


class ClientShard:
    """Some of the clients: their environments [k, B, ...], and their shares of rounds."""

    def __init__(
        self,
        env: JaxEnv,
        learner: Learner,
        clients: Clients,
        owned: range,
        num_envs: int,
        length: int,
    ):
        self.learner, self.clients, self.owned = as_data(learner), clients, owned
        self.env = env.env if isinstance(env, Randomized) else env
        self.size = min(clients.at_once, len(owned), clients.begun)
        self.kind = self.env, length, self.size, clients.straggle > 0
        algorithm = self.learner.algorithm
        begin = actors_program(env, num_envs, self.size, jax.tree.structure(algorithm))
        keys = np.array([env_seed(clients.seed + k, 0) for k in owned])
        waves = [
            to_host(begin(algorithm, jnp.asarray(padded(keys[i], self.size))))
            for i in slices(len(keys), self.size)
        ]
        joined = jax.tree.map(lambda *x: np.concatenate(x)[: len(keys)], *waves)
        self.actors: Any = joined

    @property
    def process(self) -> int:
        """The id of the process that computes them."""
        return os.getpid()

    def round(
        self, state: LearnerState, chosen: np.ndarray, iterations: np.ndarray, at: int
    ) -> list[Part]:
        """The parts of a round, of one wave each; `chosen` are of its own, `at` the iteration."""
        rows = (chosen - self.owned.start) // self.owned.step
        program = wave_program(*self.kind, jax.tree.structure(self.learner))
        return [
            self.wave(program, state, chosen[i], rows[i], iterations[i], at)
            for i in slices(len(chosen), self.size)
        ]

    def wave(
        self,
        program: Any,
        state: LearnerState,
        chosen: np.ndarray,
        rows: np.ndarray,
        iterations: np.ndarray,
        at: int,
    ) -> Part:
        """One wave; a short one is padded with copies that count nothing."""
        sent = len(rows)
        fill = lambda x: padded(x, self.size)
        weights = np.zeros(self.size, np.float32)
        weights[:sent] = iterations / self.clients.iterations
        actors = to_device(jax.tree.map(lambda x: fill(x[rows]), self.actors))
        seeds = self.clients.seed + fill(chosen)
        runs = fill(iterations) if self.clients.straggle > 0 else self.clients.iterations
        sums, actors, tally = program(self.learner, state, actors, seeds, weights, runs, at)
        kept = to_host(actors)
        for held, new in zip(jax.tree.leaves(self.actors), jax.tree.leaves(kept), strict=True):
            held[rows] = new[:sent]
        floats, others, skipped, bad = jax.device_get(sums)
        tally = jax.device_get(tally)
        ended = tally.ended._replace(info_sum=np.zeros(0), info_count=np.zeros(0, np.int32))
        return Part(
            [np.asarray(x, np.float64) for x in floats],
            others,
            float(weights.sum()),
            tally.metrics,
            tally.counted,
            unscaled(ended),
            int(skipped),
            int(bad),
            bool(tally.broken),
            bool(tally.no_legal_action),
        )


def slices(count: int, size: int) -> list[slice]:
    """Slices of at most `size` that cover `count`."""
    return [slice(i, min(i + size, count)) for i in range(0, count, size)]


def padded(x: np.ndarray, size: int) -> np.ndarray:
    """[n, ...] as [size, ...], with copies of the first row at the end."""
    return np.concatenate([x, np.repeat(x[:1], size - len(x), 0)]) if len(x) < size else x


def to_host(tree: Any) -> Any:
    """Writable numpy arrays; keys as their words."""
    return jax.tree.map(lambda x: np.array(jax.random.key_data(x) if is_key(x) else x), tree)


def to_device(actors: ActorState) -> ActorState:
    """The inverse of `to_host`."""
    key = jax.random.wrap_key_data(jnp.asarray(actors.vector.key))
    return actors.replace(vector=actors.vector.replace(key=key))


def over_clients(size: int, one: Any, in_axes: Any) -> Any:
    """`one` vmapped; for a single client as it is, between arrays with an axis of 1."""
    if size > 1:
        return jax.vmap(one, in_axes)

    def alone(*arguments: Any) -> Any:
        first = lambda x, axis: x if axis is None else jax.tree.map(lambda leaf: leaf[0], x)
        answer = one(*(first(x, axis) for x, axis in zip(arguments, in_axes, strict=True)))
        return jax.tree.map(lambda leaf: leaf[None], answer)

    return alone


@shared
def actors_program(env: JaxEnv, num_envs: int, size: int, structure: Any) -> Any:
    """(algorithm, seeds [W]) -> the environments of these clients at their start, [W, ...]."""

    def begin(algorithm: Algorithm, seed: Array) -> ActorState:
        key = jax.random.key(seed)
        inner, parameters = env, ()
        if isinstance(env, Randomized):
            parameters = env.draw_parameters(jax.random.fold_in(key, PARAMETERS))
            inner = jax_vector.with_parameters(env.env, parameters)
        vector = jax_vector.reset(inner, key, num_envs).replace(parameters=parameters)
        return at_start(algorithm, vector, num_envs)

    return jax.jit(over_clients(size, begin, (None, 0)))


@shared
def wave_program(env: JaxEnv, length: int, size: int, uneven: bool, structure: Any) -> Any:
    """(learner, state, actors, seeds, weights, iterations, at) -> (sums, actors, tally).

    `sums` are over the clients: of floats of the algorithm's state times `weights` [W], the largest
    of its other leaves, updates skipped, and the fewest that were bad in a row.
    """

    def wave(
        learner: Learner,
        state: LearnerState,
        actors: ActorState,
        seeds: Array,
        weights: Array,
        iterations: Array,
        at: Array,
    ) -> Any:
        start = state.replace(algorithm_state=ops.recentered(state.algorithm_state))

        def client(actor: ActorState, seed: Array, iterations: Array) -> Any:
            run = RunState(start, actor, run_keys(seed), at)
            step = lambda run: iterate(env, learner, length, False, run)
            run, tally = iterate_many(step, run, iterations)
            return run.learner, run.actor, tally

        many = over_clients(size, client, (0, 0, 0 if uneven else None))
        states, actors, tally = many(actors, seeds, iterations)
        counts = weights > 0
        leaves = jax.tree.leaves(states.algorithm_state)
        mean = partial(jnp.tensordot, weights, axes=1, precision=jax.lax.Precision.HIGHEST)
        floats = [mean(x) for x in leaves if is_float(x)]
        others = [largest(x, counts) for x in leaves if not is_float(x)]
        skipped = jnp.where(counts, states.skipped - state.skipped, 0).sum()
        bad = jnp.where(counts, states.bad_in_row, jnp.iinfo(jnp.int32).max).min()
        return (floats, others, skipped, bad), actors, summed(tally, counts)

    return jax.jit(wave)


def is_float(x: Array) -> bool:
    """Whether averages of x make sense."""
    return jnp.issubdtype(x.dtype, jnp.floating)


def largest(x: Array, counts: Array) -> Array:
    """The largest [...] of x [W, ...] over the clients that count."""
    low = jnp.bool_(False) if x.dtype == bool else jnp.iinfo(x.dtype).min
    return jnp.where(ops.expand_like(counts, x), x, low).max(0)


def summed(tally: Tally, counts: Array) -> Tally:
    """The sums [] of tallies [W] over the clients that count."""
    total_of = lambda x: jnp.where(ops.expand_like(counts, x), x, 0).sum(0)
    sums: Tally = jax.tree.map(total_of, tally)
    ended = tally.ended
    return sums._replace(
        ended=sums.ended._replace(
            return_min=jnp.where(counts, ended.return_min, jnp.inf).min(),
            return_max=jnp.where(counts, ended.return_max, -jnp.inf).max(),
        )
    )


def averaged(state: LearnerState, parts: list[Part]) -> LearnerState:
    """The server's state after a round: means of floats, weighted by iterations."""
    weight = sum(part.weight for part in parts)
    if not weight:
        return state
    leaves, structure = jax.tree.flatten(state.algorithm_state)
    means = iter([sum(x) / weight for x in zip(*(part.floats for part in parts), strict=True)])
    others = iter([np.max(x, 0) for x in zip(*(part.others for part in parts), strict=True)])
    new = [jnp.asarray(next(means) if is_float(x) else next(others), x.dtype) for x in leaves]
    return state.replace(
        algorithm_state=jax.tree.unflatten(structure, new),
        skipped=state.skipped + sum(part.skipped for part in parts),
        bad_in_row=jnp.int32(min(part.bad_in_row for part in parts)),
    )


def ended_of(parts: list[Part]) -> Ended:
    """The episodes that ended in a round."""
    return total([part.ended for part in parts]) if parts else nothing()
