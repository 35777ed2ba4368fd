"""MyoChallenge's die in a hand: PPO in MyoSuite's own interpreter, packed for the organisers.

    python -m venv myo && myo/bin/pip install myosuite
    python experiments/competitions/myochallenge.py --python $PWD/myo/bin/python --out runs/die

Trained is on steps in which the die is near its place, REWARD: the task's own reward is negative in
every step, and dropping the die ends it soonest. The package is tested on observations of the task,
see myochallenge_adapter.py; the last line is one JSON object, with mean returns of that reward,
greedy and drawn, beside those of a network that has not learned and of random actions.
"""

import json
from pathlib import Path
from typing import Any

import numpy as np
import tyro

import parl
from parl.envs.factory import make_factory

TASK = "myosuite:myoChallengeDieReorientP1-v0"
REWARD = {"bonus": 1.0, "penalty": 5.0}  # within 5 cm, within 2.5 cm; dropped
ADAPTER = Path(__file__).with_name("myochallenge_adapter.py")


def main(
    python: Path,
    out: Path = Path("runs/die"),
    run: Path | None = None,
    task: str = TASK,
    steps: int = 60_000,
    workers: int = 2,
    seed: int = 0,
    episodes: int = 10,
) -> None:
    """Trains unless there is a `run`, evaluates beside random actions, packs and tests."""
    reward = json.dumps(REWARD, separators=(",", ":"))
    env = f"venv:{python.absolute()}!{task}?weighted_reward_keys={reward}"

    settings: dict[str, Any] = {"seed": seed, "env_workers": workers, "num_envs": 2 * workers}
    settings |= {"hidden": (64, 64), "eval_episodes": 0}
    # one rollout, whose updates change nothing
    still = parl.train("ppo", env, out / "untrained", steps=1, learning_rate=1e-12, **settings)
    if run is None:
        run = parl.train("ppo", env, out / "run", steps=steps, **settings).path
    chance, seen = by_chance(env, episodes)
    recorded = out / "recorded.json"
    recorded.write_text(json.dumps(seen))
    made = parl.submit(run, "myochallenge", out / "submission", adapter=ADAPTER, recorded=recorded)
    told = {name: made.report[name] for name in ("bytes", "times", "equality", "failures")}
    for name, place in (("trained", run), ("untrained", still.path)):
        for how, sample in (("greedy", False), ("drawn", True)):
            found = parl.evaluate(place, episodes=episodes, sample=sample).returns
            told[f"{name}, {how}"] = float(found.mean())
    told["by chance"] = chance
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
