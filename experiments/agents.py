"""What more agents cost: time per step and memory of learning, beside the environment alone.

    python experiments/agents.py [--algorithm mappo] [--seconds 5]

simple_spread with 2 to 32 agents, whose parameters are shared, each number of agents in a process
of its own. Every agent sees every other one there and may collide with it, so that the cost of
the environment grows with the square of their number: learning should grow no faster. Prints a
Markdown table, writes it and a picture.
"""

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
from rollouts import Line, write

from parl import ops
from parl.agents.execution.fused import Fused
from parl.api import prepare
from parl.core.types import Array
from parl.envs import jax_vector
from parl.runs.build import resolve
from parl.runs.config import RunConfig
from parl.runs.executions import make_execution

AGENTS = (2, 4, 8, 16, 32)
NUM_ENVS = 16


def timed(advance: Callable[[Any], Any], start: Any, seconds: float) -> float:
    """Seconds of one x = advance(x), over at least `seconds`, once it has been compiled."""
    x = jax.block_until_ready(advance(jax.block_until_ready(advance(start))))
    count, begun = 0, time.perf_counter()
    while (spent := time.perf_counter() - begun) < seconds:
        x = jax.block_until_ready(advance(x))
        count += 1
    return spent / count


def measure(algorithm: str, agents: int, seconds: float) -> dict[str, float]:
    """Microseconds of a step of the environment alone and of learning, MB that learning holds."""
    prepare()
    settings: dict[str, Any] = {"num_envs": NUM_ENVS}
    config = RunConfig(algorithm, f"jax:simple_spread-{agents}", steps=10**9, settings=settings)
    execution = make_execution(resolve(config))
    assert isinstance(execution, Fused)
    env, steps = execution.env, execution.steps_per_iteration
    shape, space = (NUM_ENVS, *env.spec.agent_shape), env.spec.action_space

    def step(vector: jax_vector.VectorState, key: Array) -> tuple[jax_vector.VectorState, None]:
        action = ops.uniform_action(key, space, shape, ops.legal_actions(vector.obs))
        return jax_vector.autostep(env, vector, action)[0], None

    @jax.jit
    def rollout(vector: jax_vector.VectorState) -> jax_vector.VectorState:
        keys = jax.random.split(jax.random.fold_in(vector.key, vector.time), steps // NUM_ENVS)
        return jax.lax.scan(step, vector, keys)[0]

    def learn(_: Any) -> Any:
        execution.advance(1)
        return execution.algorithm_state

    program = execution.programs[False].lower(execution.run, jnp.int32(1)).compile()
    held = program.memory_analysis()
    size = held.argument_size_in_bytes + held.temp_size_in_bytes
    vector = jax_vector.reset(env, jax.random.key(0), NUM_ENVS)
    alone, whole = timed(rollout, vector, seconds), timed(learn, None, seconds)
    return {"env": 1e6 * alone / steps, "learning": 1e6 * whole / steps, "memory": size / 2**20}


def lines_of(costs: dict[int, dict[str, float]]) -> list[Line]:
    """The table: what each number of agents costs, and how both grow from the least to the most."""
    lines = []
    for agents, cost in costs.items():
        lines += [
            Line(f"{agents} agents: the environment alone, us a step", cost["env"]),
            Line(f"{agents} agents: with learning, us a step", cost["learning"]),
            Line(f"{agents} agents: memory of the learning program, MB", cost["memory"]),
        ]
    few, many = costs[min(costs)], costs[max(costs)]
    growth = {name: many[name] / few[name] for name in few}
    lines.append(Line("growth of the environment alone, times", growth["env"]))
    fine = growth["learning"] <= growth["env"]
    goal = f"<= {growth['env']:.1f}"
    return [*lines, Line("growth with learning, times", growth["learning"], goal, fine)]


def draw(costs: dict[int, dict[str, float]], algorithm: str, out: Path) -> None:
    """Time and memory against the number of agents."""
    from matplotlib.figure import Figure

    figure = Figure((9, 4), layout="constrained")
    left, right = figure.subplots(1, 2)
    of = lambda name: [cost[name] for cost in costs.values()]
    left.loglog(list(costs), of("learning"), "o-", label=f"{algorithm}, learning")
    left.loglog(list(costs), of("env"), "o-", label="the environment alone")
    left.set(xlabel="agents", ylabel="microseconds per environment step")
    left.legend()
    right.loglog(list(costs), of("memory"), "o-")
    right.set(xlabel="agents", ylabel="memory of the learning program, MB")
    for axes in (left, right):
        axes.set_xscale("log", base=2)
        axes.set_xticks(list(costs), [str(n) for n in costs])
        axes.grid(alpha=0.3)
    figure.suptitle(f"simple_spread, {NUM_ENVS} environments, shared parameters", fontsize=11)
    figure.savefig(out, dpi=150)


def main() -> None:
    parser = argparse.ArgumentParser(description=str(__doc__).partition("\n")[0])
    parser.add_argument("--algorithm", default="mappo")
    parser.add_argument("--seconds", type=float, default=5.0, help="of each measurement")
    parser.add_argument("--only", type=int, help="measure one number of agents, print JSON")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "agents")
    settings = parser.parse_args()
    if settings.only:
        print(json.dumps(measure(settings.algorithm, settings.only, settings.seconds)))
        return
    costs = {}
    words = ["--algorithm", settings.algorithm, "--seconds", str(settings.seconds)]
    for agents in AGENTS:
        command = [sys.executable, __file__, "--only", str(agents), *words]
        done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True)
        costs[agents] = json.loads(done.stdout.splitlines()[-1])
        print(f"{agents} agents: {costs[agents]}", flush=True)
    fine = write(lines_of(costs), settings)
    draw(costs, settings.algorithm, settings.out.with_suffix(".png"))
    sys.exit(not fine)


if __name__ == "__main__":
    main()
