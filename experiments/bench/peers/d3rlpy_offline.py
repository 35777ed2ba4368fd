"""Speed of d3rlpy's offline updates on made-up steps of HalfCheetah's shapes: updates per second.

    python3 -m venv peers-d3rlpy
    peers-d3rlpy/bin/pip install d3rlpy
    peers-d3rlpy/bin/python d3rlpy_offline.py td3_bc --updates 200

Batches of 256 and networks of 256 x 256, its defaults; drawing the batch counts, as it does for
ours, and is also left out. The last line printed is one JSON object.
"""

import argparse
import json
import time
from importlib.metadata import version

import d3rlpy
import numpy as np
import torch

STEPS = 20_000  # it is slow to make more of them


def made_up(count):
    """A replay buffer of random steps."""
    rng = np.random.default_rng(0)
    return d3rlpy.dataset.MDPDataset(
        observations=rng.normal(size=(count, 17)).astype(np.float32),
        actions=np.clip(rng.normal(size=(count, 6)), -1, 1).astype(np.float32),
        rewards=rng.normal(size=count).astype(np.float32),
        terminals=np.zeros(count, np.float32),
        timeouts=(np.arange(count) % 1000 == 999).astype(np.float32),
    )


def main():
    parser = argparse.ArgumentParser(description="speed of d3rlpy's offline updates")
    parser.add_argument("algorithm", choices=("td3_bc", "implicit_q"))
    parser.add_argument("--updates", type=int, default=20)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--cpu", action="store_true", help="processor seconds, of one thread")
    args = parser.parse_args()
    kinds = {"td3_bc": d3rlpy.algos.TD3PlusBCConfig, "implicit_q": d3rlpy.algos.IQLConfig}
    data = made_up(STEPS)
    algorithm = kinds[args.algorithm](batch_size=256).create(device="cpu:0")
    algorithm.build_with_dataset(data)

    if args.cpu:
        torch.set_num_threads(1)  # several spin while they wait for each other
    clock = time.process_time if args.cpu else time.perf_counter

    def rate(draw):
        """Updates per second on the batches of a function, the best of some runs."""
        runs = []
        for _ in range(args.repeats + 1):  # the first one warms up
            begin = clock()
            for _ in range(args.updates):
                algorithm.update(draw())
            runs.append(clock() - begin)
        return args.updates / min(runs[1:])

    batch = data.sample_transition_batch(256)
    result = {
        "peer": "d3rlpy",
        "version": version("d3rlpy"),
        "torch": version("torch"),
        "algorithm": args.algorithm,
        "updates_per_second": rate(lambda: data.sample_transition_batch(256)),
        "updates_per_second_without_drawing": rate(lambda: batch),
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main()
