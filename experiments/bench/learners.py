"""What several learners cost and where they pay: a model, its constants measured, and a picture.

    python experiments/bench/learners.py --out experiments/results/learners

An update on D learners takes  t(D) = fixed + shared / D + s a(bytes, D),  where fixed is what does
not depend on the size of the batch, and s all-reduces of so many bytes each take

    a(bytes, D) = latency (D - 1) + bytes / bandwidth * 2 (D - 1) / D,

a ring's steps. Two processes with gloo on this machine measure, with one thread for computing each.
Fixed and shared are of updates that each makes alone with the whole batch and with a quarter of it,
both at once, as cores may share what they compute with, and the slower counts. Latency and
bandwidth are of all-reduces amid computations; s and bytes are read from PPO's compiled update. The
model is compared with real updates on one process with half of the batch, and on two. Times are
medians. Take it on idle cores. `--draw` makes the picture of what was measured before.
"""

import argparse
import json
import os
import re
import socket
import statistics
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

RANKS = 2
SYNCS = ("step", "flat", "update")
REPEATS = 30
MEETINGS = 20  # all-reduces in a program that measures them
SHORT = {"epochs": 2, "minibatches": 4, "length": 128}
ENVS = (8, 4, 2)  # the whole batch, the half and a quarter
SIZES = (1 << 10, 1 << 18, 1 << 22)  # bytes of an all-reduce
UPDATES = (0.01, 0.1, 1.0)  # seconds of an update on one learner, in the picture
LEARNERS = (1, 2, 4, 8, 32)


class Link(NamedTuple):
    """An all-reduce between two processes."""

    latency: float  # seconds
    bandwidth: float  # bytes a second

    def all_reduce(self, size: float, learners: int) -> float:
        """Seconds among so many learners."""
        steps = learners - 1
        return self.latency * steps + size / self.bandwidth * 2 * steps / learners


class Update(NamedTuple):
    """An update in one way of averaging."""

    calls: int  # all-reduces
    size: float  # bytes of each, on average


class Compute(NamedTuple):
    """Seconds of an update without all-reduces."""

    fixed: float  # whatever the batch is
    shared: float  # of the whole batch

    def of(self, share: float) -> float:
        """With a share of the batch."""
        return self.fixed + self.shared * share

    @classmethod
    def between(cls, whole: float, part: float, share: float) -> "Compute":
        """From the times with the whole batch and with a share of it."""
        shared = max(whole - part, 0.0) / (1 - share)
        return cls(whole - shared, shared)

    def as_long_as(self, seconds: float) -> "Compute":
        """The same in proportion, for another time of the whole batch."""
        factor = seconds / self.of(1.0)
        return Compute(factor * self.fixed, factor * self.shared)


def fitted(seconds: dict[int, float]) -> Link:
    """The link on which all-reduces of so many bytes between two take so long."""
    (small, a), (large, b) = min(seconds.items()), max(seconds.items())
    bandwidth = (large - small) / max(b - a, 1e-9)
    return Link(max(a - small / bandwidth, 1e-6), bandwidth)


def predicted(compute: Compute, update: Update, link: Link, learners: int) -> float:
    """t(D) in seconds."""
    return compute.of(1 / learners) + update.calls * link.all_reduce(update.size, learners)


def all_reduces(text: str, trips: int) -> Update:
    """The all-reduces of a compiled program, those of its loops `trips` times: each operand one."""
    width = {"f32": 4, "f64": 8, "s32": 4, "u32": 4, "pred": 1, "bf16": 2, "f16": 2, "s64": 8}
    calls, size = 0, 0.0
    for line in text.splitlines():
        found = re.search(r"= (.*?) all-reduce(?:-start)?\(", line)
        for kind, shape in re.findall(r"(\w+)\[([\d,]*)\]", found[1]) if found else ():
            count = 1
            for axis in filter(None, shape.split(",")):
                count *= int(axis)
            times = trips if "while" in line else 1
            calls, size = calls + times, size + times * count * width.get(kind, 4)
    return Update(calls, size / max(calls, 1))


# --- a rank ---------------------------------------------------------------------------------------


def rank(index: int, meeting: str, width: int) -> dict[str, Any]:
    """Measures updates alone and together, and all-reduces, as one of RANKS processes."""
    from parl.remote.rank import Place, join

    join(meeting, Place(index, RANKS, 0, ("", 0), b"", True))
    return {
        "seconds": [updated("alone", width, envs)["seconds"] for envs in ENVS],
        "updates": {sync: updated(sync, width, ENVS[0]) for sync in SYNCS},
        "all_reduces": {size: reduced(size) for size in SIZES},
    }


def reduced(size: int) -> float:
    """Seconds of an all-reduce of so many bytes, each after a computation as in an update."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from parl.core.sharding import AXIS, PartitionSpec, mesh_for, replicated

    mesh = mesh_for(jax.device_count())
    assert mesh is not None
    common = PartitionSpec()

    def program(meet: bool) -> Any:
        def turn(_: Any, carry: Any) -> Any:
            matrix, x = carry
            for _ in range(4):
                matrix = jnp.tanh(matrix @ matrix)
            x = x + matrix[0, 0]
            return matrix, jax.lax.pmean(x, AXIS) if meet else x

        loop = lambda *carry: jax.lax.fori_loop(0, MEETINGS, turn, carry)
        sharded = jax.shard_map(loop, mesh=mesh, in_specs=common, out_specs=common, check_vma=False)
        return jax.jit(sharded)

    ones = lambda *shape: replicated(mesh, jnp.asarray(np.ones(shape, np.float32)))
    arguments = ones(128, 128), ones(size // 4)
    with_, without = (median(partial(program(meet), *arguments)) for meet in (True, False))
    return max(with_ - without, 1e-9) / MEETINGS


def updated(sync: str, width: int, envs: int) -> dict[str, Any]:
    """The median update of PPO on so many environments in all, and the all-reduces in it."""
    import jax
    import numpy as np

    from parl.agents.execution.pooled import learn_programs
    from parl.agents.execution.protocol import Seeds, batch_mesh, init_learner
    from parl.agents.learner import example_rollout
    from parl.core.programs import as_data
    from parl.core.sharding import Averaging, here, replicated, shared_out
    from parl.core.spec_json import exact
    from parl.core.types import Rollout
    from parl.envs.factory import make_factory
    from parl.recipes import make_recipe

    averaging = {"flat": Averaging(gradients=True), "update": Averaging()}.get(sync)
    spec = make_factory("jax:Pendulum-v1").spec
    recipe = make_recipe("ppo", spec).override(SHORT | {"hidden": (width, width), "num_envs": envs})
    learner, seeds = recipe.learner(spec, 100_000, envs), Seeds((0,))
    state = init_learner(learner, spec, seeds, 128, envs)
    mesh = None if sync == "alone" else batch_mesh(learner, envs)
    share = envs if mesh is None else envs // RANKS
    algorithm = learner.algorithm
    shapes = example_rollout(algorithm, state.algorithm_state, spec, 128, share)
    draw = np.random.default_rng(0)
    fill = lambda x: draw.normal(size=x.shape).astype(x.dtype)
    rollout = jax.tree.map(fill, shapes)
    if mesh is not None:
        state = replicated(mesh, state)
        rollout = Rollout(shared_out(mesh, rollout.steps, 1), shared_out(mesh, rollout.memory))
    data = as_data(learner)
    _, program = learn_programs(seeds, exact(spec), mesh, averaging, jax.tree.structure(data))
    arguments = rollout, seeds.keys().learn, np.int32(0)
    text = program.lower(data, state, *arguments).compile().as_text()
    held = [state]

    def once() -> Any:
        held[0], policy, _ = program(data, held[0], *arguments)
        return policy

    seconds = median(once)
    here(held[0])
    trips = recipe.algorithm.epochs * recipe.algorithm.minibatches
    return {"seconds": seconds, **all_reduces(text, trips)._asdict()}


def median(call: Any) -> float:
    """The median seconds of REPEATS calls."""
    import jax

    jax.block_until_ready(call())
    together()
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begin)
    return statistics.median(times)


def together() -> None:
    """Returns when all ranks have come here."""
    from jax.experimental import multihost_utils

    multihost_utils.sync_global_devices("measure")


# --- the study ----------------------------------------------------------------------------------


def measured(width: int) -> list[dict[str, Any]]:
    """What each of the ranks measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu", "NPROC": "1"}
    command = [sys.executable, __file__, "--meeting", meeting, "--width", str(width)]
    running = [
        subprocess.Popen(
            [*command, "--rank", str(i)], stdout=subprocess.PIPE, env=environment, text=True
        )
        for i in range(RANKS)
    ]
    said = [process.communicate()[0] for process in running]
    return [json.loads(text.splitlines()[-1]) for text in said]


def picture(path: Path, link: Link, compute: Compute, updates: dict[str, Update]) -> None:
    """Draws how much sooner an update ends on D learners."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(UPDATES), figsize=(12, 3.6), sharey=True)
    for each, seconds in zip(axes, UPDATES, strict=True):
        alike = compute.as_long_as(seconds)
        for sync, update in updates.items():
            speed = [seconds / predicted(alike, update, link, d) for d in LEARNERS]
            each.plot(LEARNERS, speed, marker="o", label=f"{sync}: {update.calls} all-reduces")
        each.plot(LEARNERS, LEARNERS, color="grey", linewidth=0.8)
        each.axhline(1.0, color="grey", linewidth=0.8, linestyle=":")
        each.set(
            xscale="log", yscale="log", xlabel="learners", title=f"update of {1000 * seconds:g} ms"
        )
        each.set_xticks(LEARNERS, [str(d) for d in LEARNERS])
    axes[0].set_ylabel("times sooner (model)")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def study(width: int) -> dict[str, Any]:
    """What was measured on one process and on two, and what the model says of it."""
    load = os.getloadavg()[0]
    ranks = measured(width)
    two = ranks[0]
    whole, half, quarter = map(max, zip(*(each["seconds"] for each in ranks), strict=True))
    link = fitted({int(size): seconds for size, seconds in two["all_reduces"].items()})
    compute = Compute.between(whole, quarter, ENVS[2] / ENVS[0])
    rows = []
    for sync, found in two["updates"].items():
        update = Update(found["calls"], found["size"])
        model = predicted(compute, update, link, 2)
        times = {
            "two_s": found["seconds"],
            "model_s": model,
            "model_of_real": model / found["seconds"],
        }
        rows.append({"sync": sync, **update._asdict(), **times})
    return {
        "load": load,
        "cores": os.cpu_count(),
        "width": width,
        "one_s": {"whole": whole, "half": half, "quarter": quarter},
        "half_model_of_real": compute.of(0.5) / half,
        "compute": compute._asdict(),
        "link": link._asdict(),
        "all_reduce_s": two["all_reduces"],
        "rows": rows,
    }


def main() -> None:
    """Measures, compares and draws; or is a rank."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("learners"))
    parser.add_argument("--width", type=int, default=256, help="of both hidden layers")
    parser.add_argument("--draw", action="store_true", help="of the file in --out")
    parser.add_argument("--rank", type=int, default=None)
    parser.add_argument("--meeting", default="")
    given = parser.parse_args()
    if given.rank is not None:
        print(json.dumps(rank(given.rank, given.meeting, given.width)))
        return
    path = given.out / "learners.json"
    content = json.loads(path.read_text()) if given.draw else study(given.width)
    given.out.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(content, indent=1) + "\n")
    updates = {row["sync"]: Update(row["calls"], row["size"]) for row in content["rows"]}
    link, compute = Link(**content["link"]), Compute(**content["compute"])
    picture(given.out / "learners.png", link, compute, updates)
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
