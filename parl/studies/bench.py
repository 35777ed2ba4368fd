"""Where the time of an iteration goes: the run's speed beside its environment and its update alone.

T rollout length, B environments, K seeds; times are those of all seeds together.
"""

import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from parl.agents.execution.fused import Fused, collect
from parl.agents.execution.pool import InlinePool
from parl.agents.execution.pooled import Pooled, learning_programs
from parl.agents.learner import Learner, LearnerState, OffPolicy, seed_axes
from parl.core.errors import ConfigError
from parl.core.types import Array, Rollout
from parl.envs import jax_vector
from parl.runs.build import Parts, resolve
from parl.runs.config import RUN_FIELDS, RunConfig, profiled
from parl.runs.executions import make_execution
from parl.runs.preparation import prepare
from parl.runs.profile import Profiler

ROUNDS = 5  # of each measurement; the fastest one counts, as other programs only slow it down
# the parts of an iteration; those further in are parts of the one above
PARTS = {
    "iteration": (0, "the run: one iteration"),
    "collect": (1, "collecting"),
    "environment": (2, "the environment alone"),
    "acting": (2, "acting and recording"),
    "learn": (1, "learning"),
    "update": (2, "the update alone"),
    "storing": (2, "replay and checks"),
    "rest": (1, "the rest"),
}


Piece = Callable[[int], Any]  # makes so many calls and waits for their results


class Bench(NamedTuple):
    """The seconds of one iteration and of its parts."""

    algorithm: str
    env: str
    execution: str
    num_seeds: int
    env_steps: int  # of all seeds in one iteration
    updates: int  # of all seeds in one iteration
    seconds: dict[str, float]  # by the names of PARTS
    trace: str = ""  # what was traced, and where that lies

    @property
    def steps_per_s(self) -> float:
        """Environment steps of all seeds a second."""
        return self.env_steps / self.seconds["iteration"]

    @property
    def environment_steps_per_s(self) -> float:
        """Those of the environment alone, with random actions."""
        return self.env_steps / self.seconds["environment"]

    @property
    def share_of_environment(self) -> float:
        """The run's speed as a share of the environment's."""
        return self.steps_per_s / self.environment_steps_per_s

    def share(self, part: str) -> float:
        """The part's share of the iteration."""
        return self.seconds[part] / self.seconds["iteration"]

    def as_json(self) -> dict[str, Any]:
        """All of it, for programs."""
        return {
            **self._asdict(),
            "shares": {part: self.share(part) for part in self.seconds},
            "steps_per_s": self.steps_per_s,
            "environment_steps_per_s": self.environment_steps_per_s,
            "share_of_environment": self.share_of_environment,
            "updates_per_s": self.updates / self.seconds["iteration"],
        }


def bench(
    algorithm: Any, env: Any, seconds: float = 1.0, traces: Path = Path(), **settings: Any
) -> Bench:
    """Measures an algorithm on an environment for about `seconds` each of five times, compiled.

    Settings are those of `parl.train`; as many iterations as `profile` names are traced into
    profile/ of `traces` once all is measured. On Ray and on data there is no such measurement:
    ConfigError.
    """
    given = {name: settings.pop(name) for name in RUN_FIELDS & settings.keys()}
    prepare()
    config = RunConfig(algorithm, env if isinstance(env, str) else "", settings=settings, **given)
    parts = resolve(config, None if isinstance(env, str) else env)
    if parts.layout.execution == "ray" or parts.data is not None:
        raise ConfigError(
            "bench is for fused and host execution on an environment: leave out --actors and "
            "--data."
        )
    execution: Any = make_execution(parts)
    try:
        found = measured(parts, execution, seconds)
        return found._replace(trace=traced(execution, len(profiled(config.profile)), traces))
    finally:
        execution.close()


def measured(parts: Parts, execution: Fused | Pooled, seconds: float) -> Bench:
    """All measurements, after the warm-up and after what compiles."""
    config, seeds = parts.config, len(execution.seeds.values)
    execution.advance(execution.warmup + 1)
    pieces: dict[str, Piece] = {"iteration": execution.advance}
    pieces |= fused_pieces(execution) if isinstance(execution, Fused) else host_pieces(execution)
    found = fastest(pieces, seconds)
    found["acting"] = found["collect"] - found["environment"]
    found["storing"] = found["learn"] - found["update"]
    found["rest"] = found["iteration"] - found["collect"] - found["learn"]
    learner = execution.learner
    updates = learner.updates if isinstance(learner, OffPolicy) else 1
    return Bench(
        config.algorithm,
        config.env,
        parts.layout.execution,
        seeds,
        seeds * execution.steps_per_iteration,
        seeds * updates,
        {name: found[name] for name in PARTS},
    )


def traced(execution: Fused | Pooled, iterations: int, place: Path) -> str:
    """Traces so many iterations by JAX's profiler; says where that lies."""
    if not iterations:
        return ""
    profiler = Profiler(range(iterations), place)
    profiler.at(0)
    try:
        execution.advance(iterations)
    finally:
        said = profiler.end()
    return said


def repeated(piece: Callable[[], Any]) -> Piece:
    """A piece that makes one of its calls after the other."""

    def many(count: int) -> None:
        for _ in range(count - 1):
            piece()
        jax.block_until_ready(piece())

    return many


def fastest(pieces: dict[str, Piece], seconds: float) -> dict[str, float]:
    """Seconds of one call of each piece, in the fastest of ROUNDS rounds.

    Each round measures all of them, one after the other, about `seconds` / ROUNDS each, so that
    what else the machine does meets all alike.
    """
    counts, found = {}, dict.fromkeys(pieces, float("inf"))
    for name, piece in pieces.items():
        piece(1)  # compiles
        counts[name] = max(1, int(seconds / ROUNDS / took(piece, 1)))
    for _ in range(ROUNDS):
        for name, piece in pieces.items():
            found[name] = min(found[name], took(piece, counts[name]) / counts[name])
    return found


def took(piece: Piece, count: int) -> float:
    """Seconds of so many calls."""
    begin = time.perf_counter()
    piece(count)
    return time.perf_counter() - begin


def fused_pieces(execution: Fused) -> dict[str, Piece]:
    """The parts of an iteration that is one program, each as a program of its own."""
    env, seeds, data = execution.env, execution.seeds, execution.data
    num_envs = jax.tree.leaves(execution.run.actor.first)[0].shape[-1]
    length = execution.steps_per_iteration // num_envs
    over = partial(seeds.vmap, out_axes=0)

    def collecting(learner: Learner, policy: Any, actor: Any, keys: Any) -> tuple[Any, Rollout]:
        after, rollout, _ = collect(env, learner.algorithm, policy, actor, keys.act, length)
        return after, rollout

    def stepping(vector: Any, actions: Any) -> Any:
        step = lambda vector, action: (jax_vector.autostep(env, vector, action)[0], None)
        return jax.lax.scan(step, vector, actions)[0]

    act = jax.jit(over(collecting, (seeds.learner_axis, 0, 0, 0)))
    step = jax.jit(over(stepping))
    run = copied(execution.run.replace(learner=None))  # that of the execution goes on
    policy = copied(execution.policy)
    _, rollout = act(data, policy, run.actor, run.keys)
    _, learn = learning_programs(execution.learner, env.spec, seeds)

    def learning() -> Any:
        now = execution.run
        state, _, metrics = learn(data, now.learner, rollout, now.keys.learn, np.int32(0))
        execution.run = now.replace(learner=state)
        return metrics

    return {
        "collect": repeated(lambda: act(data, policy, run.actor, run.keys)),
        "environment": repeated(lambda: step(run.actor.vector, rollout.steps.action)),
        "learn": repeated(learning),
        "update": repeated(update_of(execution, execution.run.learner, rollout)),
    }


def host_pieces(execution: Pooled) -> dict[str, Piece]:
    """The parts of an iteration on the host, as the run calls them."""
    pool = execution.pool
    assert isinstance(pool, InlinePool)
    collector = pool.collectors[0]
    rollout = execution.join([part.rollout for part in execution.collect(random=False)])
    rollout = execution.divide(rollout)
    lead = len(execution.seeds.lead)
    at = lambda time: jax.tree.map(lambda x: np.take(x, time, lead), rollout.steps.action)
    actions = [at(time) for time in range(pool.length)]

    def stepping() -> None:
        for action in actions:
            collector.step(action)

    def learning() -> Any:
        learned = execution.learn(
            execution.data, execution.state, rollout, execution.keys, np.int32(0)
        )
        execution.state, _, metrics = learned
        return metrics

    return {
        "collect": repeated(lambda: execution.collect(random=False)),
        "environment": repeated(stepping),
        "learn": repeated(learning),
        "update": repeated(update_of(execution, execution.state, rollout)),
    }


def update_of(
    execution: Fused | Pooled, state: LearnerState, rollout: Rollout
) -> Callable[[], Any]:
    """The algorithm's updates of one iteration, always on the same rollout or the same batches."""
    learner, seeds, keys = execution.learner, execution.seeds, execution.seeds.keys().learn
    batches: Any = rollout
    bare = copied(state.replace(replay=None, data=()))
    if isinstance(learner, OffPolicy):
        batches = batches_of(learner, state, seeds, keys)

    def update(learner: Learner, state: LearnerState, batches: Any, key: Array) -> Any:
        if isinstance(learner, OffPolicy):
            return learner.update_many(state, batches, key)[0]
        updated, _ = learner.algorithm.update(state.algorithm_state, batches, key)
        return state.replace(algorithm_state=updated)

    program = jax.jit(seeds.vmap(update, (seeds.learner_axis, 0, 0, 0)))
    return lambda: program(execution.data, bare, batches, keys)


def copied(tree: Any) -> Any:
    """Arrays that stay when those of the run are given to the next program."""
    return jax.tree.map(jnp.copy, tree)


def batches_of(learner: OffPolicy, state: LearnerState, seeds: Any, keys: Any) -> Any:
    """[*lead, updates, batch_size, ...] drawn from replay once."""
    if learner.on_host:
        return jax.tree.map(jnp.asarray, learner.sample(state, keys)[1])
    draw = lambda state, key: learner.sample(state, key)[1]
    return jax.jit(seeds.vmap(draw, (seed_axes(state), 0)))(state, keys)
