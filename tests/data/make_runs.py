"""Writes runs that later versions must go on with: python tests/data/make_runs.py OUT.

Each is trained to its end, then put back to where its middle checkpoint was saved; `end.npz` holds
what the algorithm's state was at the end, by their names in the checkpoint.
"""

import json
import os
import shutil
import sys
from pathlib import Path
from typing import Any

os.environ.setdefault("JAX_PLATFORMS", "cpu")
os.environ.setdefault("XLA_FLAGS", "--xla_backend_optimization_level=0")  # as in the tests

import numpy as np

import parl
from parl.core import checkpoint

TINY: dict[str, Any] = {"hidden": (8,), "eval_episodes": 1, "num_envs": 4, "length": 8}
RING = TINY | {"capacity": 256, "batch_size": 8, "warmup": 64, "updates": 2}
SEGMENTS = {k: v for k, v in RING.items() if k != "length"} | {"capacity": 8}
ON_TEAM = TINY | {"minibatches": 2, "epochs": 2}
RUNS: dict[str, tuple[str, str, dict[str, Any]]] = {
    "ppo-fused": ("ppo", "jax:CartPole-v1", TINY | {"minibatches": 2, "epochs": 2}),
    "ppo-host": ("ppo", "CartPole-v1", TINY | {"minibatches": 2, "epochs": 2}),
    "ppo-normalized": (
        "ppo",
        "jax:Pendulum-v1",
        TINY | {"minibatches": 2, "normalize_obs": True, "normalize_reward": True},
    ),
    "ppo-memory": (
        "ppo",
        "jax:CartPoleMasked-v1",
        TINY | {"minibatches": 2, "recurrent": "gru", "memory_size": 4},
    ),
    "sac-fused": ("sac", "jax:Pendulum-v1", RING),
    "sac-host": ("sac", "Pendulum-v1", RING),
    "dqn-host": ("dqn", "CartPole-v1", RING | {"n_step": 3, "priority": 0.5}),
    "td3-seeds": ("td3", "jax:Pendulum-v1", RING | {"num_seeds": 2}),
    "crossq-host": ("crossq", "Pendulum-v1", RING | {"actor_hidden": (8,)}),
    "es-fused": (
        "es",
        "jax:CartPole-v1",
        {"hidden": (8,), "num_envs": 8, "eval_episodes": 1, "noise_size": 500},
    ),
    "mappo-fused": ("mappo", "jax:simple_spread", ON_TEAM),
    "qmix-fused": ("qmix", "jax:simple_spread", SEGMENTS),
    "maddpg-fused": ("maddpg", "jax:simple_spread", RING | {"capacity": 64}),
    "ippo-self-play": ("ippo", "jax:tic_tac_toe", ON_TEAM | {"opponent": "self"}),
}
STEPS, HALF = 1_024, 512


def learned(path: Path) -> dict[str, np.ndarray]:
    """The algorithm's state in a checkpoint, optimisers included."""
    arrays = checkpoint.read(path).arrays
    return {name: x for name, x in arrays.items() if name.startswith("run/learner/train/")}


def main(out: Path) -> None:
    for name, (algorithm, env, settings) in RUNS.items():
        run, scale = out / name, 64 if algorithm == "es" else 1
        steps, half = STEPS * scale, HALF * scale
        parl.train(
            algorithm,
            env,
            run,
            quiet=True,
            steps=steps,
            eval_every=half,
            keep=9,
            seed=3,
            **settings,
        )
        saved = sorted(int(path.name) for path in (run / "checkpoints").iterdir())
        middle = min(saved, key=lambda step: abs(step - half))
        end: dict[str, Any] = learned(run / "checkpoints" / str(saved[-1]))
        np.savez(run / "end.npz", **end)
        for step in saved:
            if step != middle:
                shutil.rmtree(run / "checkpoints" / str(step))
        lines = (run / "metrics.jsonl").read_text().splitlines(keepends=True)
        kept = [line for line in lines if json.loads(line)["env_steps"] <= middle]
        (run / "metrics.jsonl").write_text("".join(kept))
        for path in run.iterdir():
            if path.name not in {"config.json", "metrics.jsonl", "checkpoints", "end.npz"}:
                shutil.rmtree(path) if path.is_dir() else path.unlink()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
