"""What several learners cost and where they pay: a model, its constants measured, and a picture.

    python experiments/bench/learners.py --out experiments/results/learners

An update on D learners takes  t(D) = compute / D + s a(bytes, D),  where s all-reduces of so many
bytes each take

    a(bytes, D) = latency (D - 1) + bytes / bandwidth * 2 (D - 1) / D,

a ring's steps. Latency and bandwidth are measured between two processes with gloo on this machine,
s and bytes are read from PPO's compiled update, and the model is compared with the time of real
updates on one and on two processes. All ranks share this machine: take it on idle cores.
"""

import argparse
import json
import os
import re
import socket
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

SYNCS = ("step", "flat", "update")
REPEATS = 10
SHORT = {"epochs": 2, "minibatches": 4, "num_envs": 8, "length": 128}
SIZES = (1 << 10, 1 << 18, 1 << 22)  # bytes of an all-reduce
UPDATES = (0.01, 0.1, 1.0)  # seconds of an update on one learner, in the picture
LEARNERS = (1, 2, 4, 8, 16, 32)


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


def fitted(seconds: dict[int, float]) -> Link:
    """The link on which all-reduces of so many bytes between two take so long."""
    (small, a), (large, b) = min(seconds.items()), max(seconds.items())
    bandwidth = (large - small) / max(b - a, 1e-9)
    return Link(max(a - small / bandwidth, 1e-6), bandwidth)


def predicted(compute: float, update: Update, link: Link, learners: int) -> float:
    """t(D) in seconds."""
    return compute / learners + update.calls * link.all_reduce(update.size, learners)


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


def rank(index: int, ranks: int, meeting: str, width: int) -> dict[str, Any]:
    """Measures all-reduces and updates as one of `ranks` processes."""
    import jax

    if ranks > 1:
        jax.config.update("jax_cpu_collectives_implementation", "gloo")
        jax.config.update("jax_enable_preemption_service", False)  # SIGTERM ends it
        jax.distributed.initialize(meeting, ranks, index, local_device_ids=[0])
    found: dict[str, Any] = {
        "updates": {s: updated(s, ranks, width) for s in SYNCS[: 1 + 2 * (ranks > 1)]}
    }
    if ranks > 1:
        found["seconds"] = {size: reduced(size) for size in SIZES}
    return found


def reduced(size: int) -> float:
    """The fastest all-reduce of so many bytes, in seconds."""
    import jax
    import jax.numpy as jnp
    import numpy as np

    from parl.core.sharding import AXIS, PartitionSpec, mesh_for, replicated

    mesh = mesh_for(jax.device_count())
    assert mesh is not None
    common = PartitionSpec()
    mean = lambda x: jax.lax.pmean(x, AXIS)
    program = jax.jit(
        jax.shard_map(mean, mesh=mesh, in_specs=common, out_specs=common, check_vma=False)
    )
    x = replicated(mesh, jnp.asarray(np.ones(size // 4, np.float32)))
    return fastest(lambda: program(x))


def updated(sync: str, ranks: int, width: int) -> dict[str, Any]:
    """The fastest update of PPO, and the all-reduces in it."""
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

    averaging = {"step": None, "flat": Averaging(gradients=True), "update": Averaging()}[sync]
    spec = make_factory("jax:Pendulum-v1").spec
    recipe = make_recipe("ppo", spec).override(SHORT | {"hidden": (width, width)})
    learner, seeds = recipe.learner(spec, 100_000, 8), Seeds((0,))
    state = init_learner(learner, spec, seeds, 128, 8)
    mesh = batch_mesh(learner, 8)
    algorithm = learner.algorithm
    shapes = example_rollout(algorithm, state.algorithm_state, spec, 128, 8 // ranks)
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

    seconds = fastest(once)
    here(held[0])
    trips = recipe.algorithm.epochs * recipe.algorithm.minibatches
    return {"seconds": seconds, **all_reduces(text, trips)._asdict()}


def fastest(call: Any) -> float:
    """Seconds of the fastest of REPEATS calls."""
    import jax

    jax.block_until_ready(call())
    times = []
    for _ in range(REPEATS):
        begin = time.perf_counter()
        jax.block_until_ready(call())
        times.append(time.perf_counter() - begin)
    return min(times)


# --- the study ----------------------------------------------------------------------------------


def measured(ranks: int, width: int) -> dict[str, Any]:
    """What the first of `ranks` processes measured."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        meeting = f"127.0.0.1:{free.getsockname()[1]}"
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    command = [sys.executable, __file__, "--meeting", meeting, "--ranks", str(ranks)]
    command += ["--width", str(width)]
    running = [
        subprocess.Popen(
            [*command, "--rank", str(i)], stdout=subprocess.PIPE, env=environment, text=True
        )
        for i in range(ranks)
    ]
    said = [process.communicate()[0] for process in running]
    return json.loads(said[0].splitlines()[-1])


def picture(path: Path, link: Link, updates: dict[str, Update]) -> None:
    """Draws how much sooner an update ends on D learners."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(UPDATES), figsize=(12, 3.6), sharey=True)
    for each, compute in zip(axes, UPDATES, strict=True):
        for sync, update in updates.items():
            speed = [compute / predicted(compute, update, link, d) for d in LEARNERS]
            each.plot(LEARNERS, speed, marker="o", label=f"{sync}: {update.calls} all-reduces")
        each.plot(LEARNERS, LEARNERS, color="grey", linewidth=0.8)
        each.axhline(1.0, color="grey", linewidth=0.8, linestyle=":")
        each.set(
            xscale="log", yscale="log", xlabel="learners", title=f"update of {1000 * compute:g} ms"
        )
        each.set_xticks(LEARNERS, [str(d) for d in LEARNERS])
    axes[0].set_ylabel("times sooner (model)")
    axes[0].legend(fontsize=8)
    figure.tight_layout()
    figure.savefig(path, dpi=120)


def main() -> None:
    """Measures, compares and draws; or is a rank."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--out", type=Path, default=Path("learners"))
    parser.add_argument("--width", type=int, default=256, help="of both hidden layers")
    parser.add_argument("--rank", type=int, default=None)
    parser.add_argument("--ranks", type=int, default=2)
    parser.add_argument("--meeting", default="")
    given = parser.parse_args()
    if given.rank is not None:
        print(json.dumps(rank(given.rank, given.ranks, given.meeting, given.width)))
        return
    one, two = measured(1, given.width), measured(2, given.width)
    link = fitted({int(size): seconds for size, seconds in two["seconds"].items()})
    compute = one["updates"]["step"]["seconds"]
    updates = {s: Update(each["calls"], each["size"]) for s, each in two["updates"].items()}
    rows = [
        {
            "sync": sync,
            **update._asdict(),
            "one_s": compute,
            "two_s": two["updates"][sync]["seconds"],
            "model_s": predicted(compute, update, link, 2),
        }
        for sync, update in updates.items()
    ]
    given.out.mkdir(parents=True, exist_ok=True)
    content = {"load": os.getloadavg()[0], "cores": os.cpu_count(), "width": given.width}
    content |= {"link": link._asdict(), "all_reduce_s": two["seconds"], "rows": rows}
    (given.out / "learners.json").write_text(json.dumps(content, indent=1))
    picture(given.out / "learners.png", link, updates)
    print(json.dumps(content, indent=1))


if __name__ == "__main__":
    main()
