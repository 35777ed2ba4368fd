"""A dozen policies after a short training, in every form that can be written here, beside JAX.

    python experiments/exports.py --out runs/exports [--only sac gru]

Forms whose package or compiler is missing are named. Each policy is compared on 1,000 observations
of its episodes and 100 adversarial ones, sampled on 256 keys, and by the returns of two episodes;
tflite, which only acts greedily, lies in a directory of its own. Prints a line for each form as it
comes, and a table; the last line is one JSON object. Exit code 1 where anything differs.
"""

import json
import sys
import time
from pathlib import Path
from typing import Any, NamedTuple

import tyro

import parl
from parl.deploy.parity import parts_of

MASKED = "jax:CartPoleMasked-v1"
SPREAD = "jax:simple_spread"
SMALL = {"num_envs": 4, "hidden": (64, 64)}


class Trained(NamedTuple):
    """A run: enough of it that statistics, targets and memories have moved."""

    recipe: str
    env: str
    settings: dict[str, Any]
    steps: int = 4000
    sample: bool = True


RUNS = {
    "ppo Discrete": Trained("ppo", "CartPole-v1", SMALL),
    "sac Box, normalised": Trained("sac", "Pendulum-v1", {"normalize_obs": True}, 1500),
    "dqn Discrete": Trained("dqn", "CartPole-v1", {}, 3000, False),
    "rainbow Discrete": Trained("rainbow", "CartPole-v1", {}, 1500, False),
    "ppo gru": Trained("ppo", MASKED, {"recurrent": "gru"}),
    "ppo lstm": Trained("ppo", MASKED, {"recurrent": "lstm"}),
    "ppo lru": Trained("ppo", MASKED, {"recurrent": "lru"}),
    "r2d2": Trained("r2d2", MASKED, {}, 3000, False),
    "mappo agents": Trained("mappo", SPREAD, {}),
    "mappo gru groups": Trained(
        "mappo", "jax:simple_tag", {"recurrent": "gru", "sharing": "group"}
    ),
    "qmix gru": Trained("qmix", SPREAD, {"recurrent": "gru", "warmup": 1000}, 3000, False),
    "az masks and turns": Trained("az", "jax:tic_tac_toe", {"hidden": (64, 64)}, 4000, False),
}


class Line(NamedTuple):
    """How one form of one policy acts."""

    policy: str
    form: str
    observations: int
    error: float  # the largest, as a part of the numbers' scale
    equal: str  # choices that are JAX's
    drawn: str  # likewise, of the sampled
    microseconds: float
    bytes: int

    def __str__(self) -> str:
        cells = self._replace(error=f"{self.error:.1e}", bytes=f"{self.bytes:,}")  # pyright: ignore
        return "| " + " | ".join(map(str, cells)) + " |"


def lines_of(name: str, report: dict[str, Any]) -> list[Line]:
    """A line for each form of an artefact."""
    made = []
    for form, told in report["forms"].items():
        cases, sampled = parts_of(told), told.get("sampled")
        plain = [case for case in cases if case is not sampled]
        made.append(
            Line(
                name,
                form,
                sum(case["observations"] for case in plain),
                max(case["max_error"] for case in cases),
                share(plain),
                share([sampled]) if sampled else "",
                told["microseconds"],
                told["bytes"],
            )
        )
    return made


def share(cases: list[dict[str, Any]]) -> str:
    """How many choices are equal, of how many that are clear; empty for numbers."""
    choices = sum(case["choices"] for case in cases)
    return f"{choices - sum(case['unequal'] for case in cases)} / {choices}" if choices else ""


def exported(name: str, place: Path) -> tuple[list[Line], list[str], dict[str, str]]:
    """(lines, what differs, what could not be written) of a policy that is trained here."""
    given = RUNS[name]
    run = parl.train(
        given.recipe, given.env, place / "run", quiet=True, steps=given.steps, eval_episodes=0,
        **given.settings,
    ).path  # fmt: skip
    artefacts = [
        parl.export(run, place / "policy", "all", sample=given.sample, episodes=2),
        parl.export(run, place / "greedy", "tflite", episodes=0),
    ]
    made = {line.form: line for each in reversed(artefacts) for line in lines_of(name, each.report)}
    failures = [f"{name}: {line}" for each in artefacts for line in each.failures]
    lacking = {form: why for each in artefacts for form, why in each.report["missing"].items()}
    return list(made.values()), failures, {f: w for f, w in lacking.items() if f not in made}


def main(out: Path = Path("runs/exports"), only: tuple[str, ...] = ()) -> None:
    """Trains and exports all, or those whose names contain one of `only`."""
    lines, failures, lacking = [], [], {}
    for name in RUNS:
        if only and not any(part in name for part in only):
            continue
        began = time.process_time()
        made, wrong, missing = exported(name, out / name.replace(" ", "_").replace(",", ""))
        print(
            *made, *wrong, f"{name}: {time.process_time() - began:.0f} CPU s", sep="\n", flush=True
        )
        lines, failures, lacking = lines + made, failures + wrong, lacking | missing
    told = {"lines": [line._asdict() for line in lines], "failures": failures, "missing": lacking}
    print(json.dumps(told))
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    tyro.cli(main)
