"""L2RPN's case14 on grid2op: PPO on actions reduced by simulation, packed and played.

    python -m venv grid && grid/bin/pip install grid2op lightsim2grid gymnasium
    python experiments/competitions/l2rpn.py --python $PWD/grid/bin/python --out runs/l2rpn

grid2op stays in its own interpreter. Its bundled months are also played by doing nothing, and by
the expert, who simulates every action. OUT holds actions.json, adapter.py, the run and submission/;
the last line is one JSON object. See l2rpn_env.py and l2rpn_adapter.py.
"""

import json
import os
import subprocess
from pathlib import Path

import tyro

import parl

HERE = Path(__file__).resolve().parent
EMPTY = "ACTIONS: list = []"  # in the adapter, where the actions go


def main(
    python: Path,
    out: Path = Path("runs/l2rpn"),
    run: Path | None = None,
    steps: int = 6_144,
    minutes: float = 8.0,
    actions: int = 40,
    workers: int = 2,
    seed: int = 0,
    games: int = 2,
) -> None:
    """Reduces actions, trains for at most `minutes` unless there is a `run`, packs and plays."""
    python, out = python.absolute(), out.absolute()  # not resolved: it is a link in a venv
    run = run.absolute() if run else None
    out.mkdir(parents=True, exist_ok=True)
    os.chdir(HERE)  # where the other interpreter finds l2rpn_env
    chosen = out / "actions.json"
    command = [str(python), "l2rpn_env.py"]
    if not chosen.exists():
        subprocess.run([*command, "actions", str(actions), str(chosen)], check=True)
    if run is None:
        run = parl.train(
            "ppo",
            f"venv:{python}!l2rpn_env:Grid?actions={chosen}",
            out / "run",
            steps=steps,
            max_hours=minutes / 60,
            seed=seed,
            env_workers=workers,
            num_envs=2 * workers,
            length=64,
            minibatches=4,
            epochs=8,
            learning_rate=1e-3,
            gamma=0.95,
            hidden=(64, 64),
            normalize_obs=True,
            eval_episodes=0,
        ).path
    adapter = out / "adapter.py"
    source = (HERE / "l2rpn_adapter.py").read_text()
    adapter.write_text(source.replace(EMPTY, f"ACTIONS: list = {chosen.read_text()}"))
    made = parl.submit(
        run,
        "l2rpn",
        out / "submission",
        adapter=adapter,
        python=python,
        games=games,
        weights="float16",
    )
    told = {
        name: made.report[name] for name in ("bytes", "times", "equality", "played", "failures")
    }
    for kind in ("nothing", "expert"):
        done = subprocess.run(
            [*command, "play", kind, str(chosen)], check=True, capture_output=True, text=True
        )
        told[kind] = json.loads(done.stdout.splitlines()[-1])
    print(json.dumps({"package": str(made.package)} | told))


if __name__ == "__main__":
    tyro.cli(main)
