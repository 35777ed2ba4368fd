"""MyoChallenge's die in a hand: PPO in MyoSuite's own interpreter, packed for the organisers.

    python -m venv myo && myo/bin/pip install myosuite
    python experiments/competitions/myochallenge.py --python $PWD/myo/bin/python --out runs/die

The package is tested on observations of the task, see myochallenge_adapter.py; the last line is one
JSON object.
"""

import json
from pathlib import Path

import numpy as np
import tyro

import parl
from parl.envs.factory import make_factory

TASK = "myosuite:myoChallengeDieReorientP1-v0"
ADAPTER = Path(__file__).with_name("myochallenge_adapter.py")


def main(
    python: Path,
    out: Path = Path("runs/die"),
    run: Path | None = None,
    task: str = TASK,
    steps: int = 1_000_000,
    workers: int = 2,
    seed: int = 0,
    episodes: int = 10,
) -> None:
    """Trains unless there is a `run`, evaluates beside random actions, packs and tests."""
    env = f"venv:{python.absolute()}!{task}"
    if run is None:
        run = parl.train(
            "ppo",
            env,
            out / "run",
            steps=steps,
            seed=seed,
            env_workers=workers,
            num_envs=2 * workers,
            normalize_obs=True,
            eval_episodes=0,
        ).path
    chance, seen = by_chance(env, episodes)
    recorded = out / "recorded.json"
    recorded.write_text(json.dumps(seen))
    made = parl.submit(run, "myochallenge", out / "submission", adapter=ADAPTER, recorded=recorded)
    told = {name: made.report[name] for name in ("bytes", "times", "equality", "failures")}
    returns = parl.evaluate(run, episodes=episodes).returns
    told |= {"return": float(returns.mean()), "return_by_chance": chance}
    print(json.dumps({"package": str(made.package)} | told))


def by_chance(env: str, episodes: int, kept: int = 24) -> tuple[float, list[list[float]]]:
    """(the mean return of random actions, the first observations)."""
    vector = make_factory(env).vector(1, 1, 0)
    rng, returns, total = np.random.default_rng(0), [], 0.0
    obs = vector.reset()
    seen = [obs[0].tolist()]
    while len(returns) < episodes:
        action = rng.uniform(-1, 1, vector.spec.action.shape).astype(np.float32)
        step = vector.step(action)
        total += float(step.reward[0])
        if len(seen) < kept:
            seen.append(step.obs[0].tolist())
        if step.terminated[0] or step.truncated[0]:
            returns.append(total)
            total = 0.0
    vector.close()
    return float(np.mean(returns)), seen


if __name__ == "__main__":
    tyro.cli(main)
