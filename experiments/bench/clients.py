"""What a round of federated clients costs, and what averaging is worth on unlike poles.

    python experiments/bench/clients.py cost --clients 64 1024 10000 100000
    python experiments/bench/clients.py learn --rates 3e-4 1e-3 3e-3 --first-seed 10 --seeds 2
    python experiments/bench/clients.py learn --rates 1e-3 --rates-alone 3e-4 --first-seed 30

`cost`: client-rounds per CPU second of PPO 32x32, 2 environments x 64 steps, 2 updates a round, a
wave of clients at a time, and the peak of memory. `learn`: on poles of 0.1 to 3 m, the return of
the average of 16 clients, and the mean return of 16 clients that learn alone as many steps, both
over the poles of all. An average of 16 has less noise than one client and bears larger steps, so
the learning rate of each side is chosen on seeds of their own, before the reported ones.
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

OUT = Path(__file__).parent.parent / "results"
ENV, RANGE = "jax:CartPole-v1", "length=0.05:1.5"
COST: dict[str, Any] = {"num_envs": 2, "length": 64, "hidden": (32, 32), "epochs": 4}
LEARN: dict[str, Any] = {"num_envs": 2, "length": 64, "hidden": (32, 32), "target_kl": 0.02}
CLIENTS, EPISODES = 16, 100


def one_cost(count: int, at_once: int) -> dict[str, float]:
    """CPU seconds and memory of rounds with half of the clients, compilation apart."""
    from parl.runs.build import resolve
    from parl.runs.config import RunConfig
    from parl.runs.executions import make_execution

    config = RunConfig(
        "ppo",
        ENV,
        settings=COST,
        clients=count,
        participate=0.5,
        average_every=2,
        randomize=(RANGE,),
        clients_at_once=at_once,
    )
    run = make_execution(resolve(config))
    run.advance(1)  # compiles
    sent, begin, spent = run.stats()["clients/sent"], time.perf_counter(), 0.0
    cpu = time.process_time()
    while spent < 10 and run.iteration < 40:
        run.advance(1)
        spent = time.process_time() - cpu
    made = run.stats()["clients/sent"] - sent
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    return {
        "clients": count,
        "client_rounds_per_cpu_s": made / spent,
        "client_rounds_per_s": made / (time.perf_counter() - begin),
        "peak_gib": peak,
        "rounds": run.iteration - 1,
    }


def cost(counts: list[int], at_once: int) -> None:
    """Each number of clients in a process of its own, a table and a picture."""
    rows = []
    for count in counts:
        command = [sys.executable, __file__, "one", "--clients", str(count)]
        command += ["--at-once", str(at_once)]
        answer = subprocess.run(command, capture_output=True, text=True, check=True)
        rows.append(json.loads(answer.stdout.splitlines()[-1]))
        print(
            f"{count:>8,} clients: {rows[-1]['client_rounds_per_cpu_s']:8,.0f} client-rounds per "
            f"CPU second, {rows[-1]['peak_gib']:.2f} GiB",
            flush=True,
        )
    draw(rows, OUT / "clients.png")
    (OUT / "clients.json").write_text(json.dumps(rows, indent=1) + "\n")


def draw(rows: list[dict[str, float]], path: Path) -> None:
    """Client-rounds per CPU second over the number of clients."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(figsize=(6, 3.6), layout="constrained")
    x = [row["clients"] for row in rows]
    axes.plot(x, [row["client_rounds_per_cpu_s"] for row in rows], "o-", color="#2b6cb0")
    axes.set(xscale="log", xlabel="clients", ylabel="client-rounds per CPU second")
    axes.set_ylim(bottom=0)
    axes.set_title("PPO 32x32 on jax:CartPole-v1, half of the clients take part")
    figure.savefig(path, dpi=120)


def learn(given: argparse.Namespace) -> None:
    """FedAvg and learning alone on the same poles, with 95 % intervals over seeds."""
    rows: dict[str, list[float]] = {}
    for seed in range(given.first_seed, given.first_seed + given.seeds):
        for rate in given.rates:
            found = together(1000 * seed, rate, given.steps, given.out)
            rows.setdefault(f"FedAvg {rate:g}", []).append(found)
        for rate in given.rates if given.rates_alone is None else given.rates_alone:
            found = alone(1000 * seed, rate, given.steps)
            rows.setdefault(f"alone {rate:g}", []).append(found)
        print(seed, {name: round(x[-1], 1) for name, x in rows.items()}, flush=True)
    from parl.ops import t_interval

    for name, values in rows.items():
        mean, low, high = t_interval(np.array(values))
        print(f"{name:14} {mean:6.1f}  [{low:.1f}, {high:.1f}]  {given.seeds} seeds")


def together(seed: int, rate: float, steps: int, folder: Path) -> float:
    """The mean return, over all poles, of the average of clients."""
    import parl

    run = parl.train(
        "ppo",
        ENV,
        folder / f"fedavg-{rate:g}-{seed}",
        True,
        curve=False,
        steps=steps,
        eval_episodes=0,
        clients=CLIENTS,
        average_every=2,
        randomize=(RANGE,),
        seed=seed,
        learning_rate=rate,
        **LEARN,
    )
    return float(np.mean(parl.evaluate(run.path, EPISODES).returns))


def alone(seed: int, rate: float, steps: int) -> float:
    """The mean return, over all poles, of clients that learn as many steps on their own.

    They are the clients of one round that is as long as the run, each as a wave of its own.
    """
    import jax

    from parl.agents.execution.clients import Clients, ClientShard, averaged
    from parl.agents.execution.protocol import Seeds, init_learner
    from parl.runs.build import make_evaluator, resolve
    from parl.runs.config import RunConfig
    from parl.runs.episodes import Rules

    settings = LEARN | {"learning_rate": rate}
    config = RunConfig("ppo", ENV, settings=settings, randomize=(RANGE,), seed=seed, steps=steps)
    parts = resolve(config)
    env: Any = parts.factory.jax
    size = LEARN["num_envs"], LEARN["length"]
    updates = steps // (size[0] * size[1])
    clients = Clients(CLIENTS, iterations=updates, at_once=1, seed=seed)
    shard = ClientShard(env, parts.learner, clients, range(CLIENTS), *size)
    state = init_learner(parts.learner, env.spec, Seeds((seed,)), size[1], size[0])
    ends = shard.round(state, np.arange(CLIENTS), np.full(CLIENTS, updates), 0)
    algorithm = parts.learner.algorithm
    evaluator = make_evaluator(parts, algorithm, EPISODES, Rules(None, (), False))
    found = []
    for client, end in enumerate(ends):
        policy = jax.device_get(algorithm.policy(averaged(state, [end]).algorithm_state))
        found.append(float(np.mean(evaluator.summary([evaluator(policy, client)]).returns)))
    return float(np.mean(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("what", choices=("cost", "one", "learn"))
    parser.add_argument("--clients", type=int, nargs="+", default=[64, 1024, 10_000, 100_000])
    parser.add_argument("--at-once", type=int, default=1024)
    parser.add_argument("--first-seed", type=int, default=10)
    parser.add_argument("--seeds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=204_800, help="of each client")
    parser.add_argument("--rates", type=float, nargs="+", default=[3e-4])
    parser.add_argument("--rates-alone", type=float, nargs="+")
    parser.add_argument("--out", type=Path, default=Path("runs/clients"))
    given = parser.parse_args()
    if given.what == "one":
        print(json.dumps(one_cost(given.clients[0], given.at_once)))
    elif given.what == "cost":
        cost(given.clients, given.at_once)
    else:
        learn(given)


if __name__ == "__main__":
    main()
