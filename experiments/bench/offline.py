"""Updates on a data set beside the bare jitted update, and d3rlpy's: their ratios.

python experiments/bench/offline.py [--updates 100] [--repeats 5] [--cpu] [--d3rlpy PYTHON]

PYTHON is the interpreter of a throw-away environment, see peers/d3rlpy_offline.py. With
--cpu all seconds are the processor's, for a machine that others share.
"""

import argparse
import time
from collections.abc import Callable
from typing import Any

import jax
import numpy as np
from compare import HERE, report

from parl.agents.execution.offline import Data, Offline
from parl.agents.execution.protocol import Seeds
from parl.agents.learner import FromData
from parl.agents.replay.ring import Layout
from parl.core.spec import Box, EnvSpec
from parl.core.types import Step
from parl.recipes import make_recipe

SPEC = EnvSpec("HalfCheetah", Box((17,)), Box((6,), low=-1.0, high=1.0))
STEPS = 100_000


def made_up(count: int) -> Data:
    """Steps of the shapes of HalfCheetah's."""
    rng = np.random.default_rng(0)
    normal = lambda *shape: rng.normal(size=shape).astype(np.float32)
    last = np.arange(count) % 1000 == 999
    steps = Step(
        normal(count, 17),
        np.clip(normal(count, 6), -1, 1),
        normal(count),
        np.ones(count, np.float32),
        normal(count, 17),
        np.roll(last, 1),
        last,
        {},
    )
    layout = Layout.of(steps)
    return Data(layout.pack(steps, np), layout, "")


def seconds(work: Callable[[], Any], clock: Callable[[], float]) -> float:
    """Of one call."""
    begin = clock()
    work()
    return clock() - begin


def compared(algorithm: str, updates: int, repeats: int, clock: Any) -> tuple[float, float]:
    """(seconds of updates on data, of bare ones), the least of `repeats` each."""
    data, settings = made_up(STEPS), {"length": 10, "updates": 10, "warmup": 0, "num_envs": 1}
    recipe = make_recipe(algorithm, SPEC).override(settings)
    learner = recipe.learner(SPEC, updates, 1)
    fields = {name: getattr(learner, name) for name in type(learner).__dataclass_fields__}
    run = Offline(SPEC, FromData(**fields), Seeds((0,)), data)
    own = learner.algorithm
    batch = data.layout.unpack({k: jax.numpy.asarray(x[:256]) for k, x in data.rows.items()})
    update = jax.jit(own.update, donate_argnums=0)
    state = [jax.tree.map(jax.numpy.copy, own.init(jax.random.key(0), SPEC))]

    def bare() -> None:
        for i in range(updates):
            state[0], _ = update(state[0], batch, jax.random.key(i))
        jax.block_until_ready(state[0])

    ours = lambda: run.advance(updates // 10)
    ours(), bare()
    pairs = [(seconds(ours, clock), seconds(bare, clock)) for _ in range(repeats)]
    return min(a for a, _ in pairs), min(b for _, b in pairs)


def main() -> None:
    """Prints a line for each algorithm."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--updates", type=int, default=100)
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--algorithms", nargs="*", default=["td3_bc", "implicit_q"])
    parser.add_argument("--d3rlpy", default="")
    parser.add_argument("--cpu", action="store_true")
    given = parser.parse_args()
    clock = time.process_time if given.cpu else time.perf_counter
    for algorithm in given.algorithms:
        ours, bare = compared(algorithm, given.updates, given.repeats, clock)
        rate = given.updates / ours
        print(f"{algorithm}: {rate:.0f} updates/s on data, {bare / ours:.2f} of the bare update")
        if given.d3rlpy:
            script = str(HERE / "peers" / "d3rlpy_offline.py")
            told = report([given.d3rlpy, script, algorithm, *(["--cpu"] if given.cpu else [])])
            whole, alone = (told[f"updates_per_second{x}"] for x in ("", "_without_drawing"))
            print(
                f"{algorithm}: {rate / whole:.2f} of d3rlpy's, {rate / alone:.2f} if it draws none"
            )


if __name__ == "__main__":
    main()
