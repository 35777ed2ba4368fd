"""Steps per second of two processes on two cores that step a PettingZoo environment.

    python experiments/bench/actors.py ray    # rollouts by two Ray actors
    python experiments/bench/actors.py bare   # the same in pinned processes of nothing else
    python experiments/bench/actors.py raw    # PettingZoo alone there, with random actions

Each process has eight environments and acts in them with IPPO's policy; nobody learns, and the
driver of the Ray actors does nothing with what they bring. `raw` has no policy, no adapter and
nothing that remembers: only `step`, and `reset` where an episode ended, with actions drawn
beforehand. The last line printed is a JSON object.
"""

import argparse
import importlib
import json
import os
import sys
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1]))

from pool import ENVS, Work, bare_rate, collecting, pooled_rate
from rollouts import Learning

from parl.remote import connect, disconnect

ALGORITHM = "ippo"


def stepping(id: str, length: int, core: int) -> Work:
    """Steps bare parallel environments `length` times at each call."""
    module: Any = importlib.import_module(id.removeprefix("pz:"))
    envs = [module.parallel_env() for _ in range(ENVS)]
    for seed, env in enumerate(envs):
        env.reset(seed=core * ENVS + seed)
    draw = np.random.default_rng(core)
    agents = envs[0].possible_agents
    sizes = [envs[0].action_space(agent).n for agent in agents]
    moves = draw.integers(0, sizes, (length, ENVS, len(agents))).tolist()
    actions = [[dict(zip(agents, row, strict=True)) for row in rows] for rows in moves]

    def work() -> None:
        for rows in actions:
            for env, action in zip(envs, rows, strict=True):
                env.step(action)
                if not env.agents:
                    env.reset()

    return work


def pooled(id: str, length: int, cores: list[int], seconds: float) -> float:
    """Fragments per second of as many Ray actors as there are cores."""
    connect(num_cpus=len(cores))
    learning = Learning(id, ENVS, length, ALGORITHM)
    rate = pooled_rate(learning, length, len(cores), seconds)
    disconnect()
    return rate


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("where", choices=("ray", "bare", "raw"))
    parser.add_argument("--env", default="pz:mpe2.simple_spread_v3")
    parser.add_argument("--length", type=int, default=50, help="steps of each environment at once")
    parser.add_argument("--seconds", type=float, default=10.0)
    arguments = parser.parse_args()
    id, length, seconds = arguments.env, arguments.length, arguments.seconds
    cores = sorted(os.sched_getaffinity(0))[:2]
    if arguments.where == "ray":
        rate = pooled(id, length, cores, seconds)
    elif arguments.where == "bare":
        rate = bare_rate(cores, partial(collecting, id, length, ALGORITHM), seconds)
    else:
        rate = bare_rate(cores, partial(stepping, id, length), seconds)
    summary = {"peer": "parl-jax", **vars(arguments), "processes": len(cores)}
    print(json.dumps(summary | {"steps_per_second": rate * length * ENVS}))


if __name__ == "__main__":
    main()
