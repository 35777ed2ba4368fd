"""The card of a run or of an exported policy in a hub: README.md, for people and for indexes."""

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from parl.deploy.contract import CONTRACT
from parl.report.plotting import read_json
from parl.runs.told import command

PICTURES = ("video.gif", "video.mp4", "curve.png", "parity.png")


def about_run(place: Path) -> dict[str, Any]:
    """What a hub says of a run, plain values."""
    config, result = read_json(place / "config.json"), read_json(place / "result.json")
    return {
        "kind": "run",
        "algorithm": config["algorithm"],
        "env": config["env"],
        "seeds": result.get("seeds", [config.get("seed", 0)]),
        "env_steps": result.get("env_steps"),
        "return": result.get("return"),
        "of": result.get("of"),
        "episodes": result.get("episodes"),
        "params_sha256": result.get("params_sha256"),
        "command": command(config),
        "versions": config.get("versions", {}),
    }


def about_policy(place: Path) -> dict[str, Any]:
    """What a hub says of an exported policy, plain values."""
    contract = read_json(place / CONTRACT)
    told = contract.get("provenance", {})
    returned = told.get("return_mean")
    return {
        "kind": "policy",
        "algorithm": told.get("algorithm"),
        "env": told.get("env"),
        "seeds": [told.get("seed")],
        "env_steps": told.get("env_steps"),
        "return": None if returned is None else {"mean": returned},
        "params_sha256": None,
        "command": None,
        "versions": told.get("versions", {}),
    }


def card(name: str, about: Mapping[str, Any], files: Iterable[str]) -> str:
    """README.md: a header as Hugging Face reads it, then what a reader wants to know."""
    title = f"{about['algorithm']} on {about['env']}"
    lines = [*header(title, about), f"# {title}", ""]
    lines += [f"A {about['kind']} of PARL-JAX, `{name}`. {told_return(about)}", ""]
    for picture in PICTURES:
        if picture in files:
            lines += [f"![{picture.partition('.')[0]}]({picture})", ""]
    if about["command"]:
        lines += ["Trained by", "", "```sh", about["command"], "```", ""]
    use = (
        f'agent = parl.load("HUB/{name}")  # or its directory, once it is pulled'
        if about["kind"] == "run"
        else f'policy = parl.Policy.load("{name}")  # its directory, once it is pulled'
    )
    lines += ["```sh", f"parl hub pull HUB/{name}", "```", "", "```python", use, "```", ""]
    lines += ["| made with | version |", "|---|---|"]
    lines += [f"| {package} | {version} |" for package, version in about["versions"].items()]
    if about["params_sha256"]:
        lines += ["", f"sha256 of the parameters: `{about['params_sha256']}`"]
    return "\n".join(lines) + "\n"


def told_return(about: Mapping[str, Any]) -> str:
    """The return with its interval, in a sentence."""
    found = about["return"]
    if not found or found.get("mean") is None:
        return "Its return was not measured."
    steps = "" if about["env_steps"] is None else f" after {about['env_steps']:,} steps"
    if "low" not in found:
        return f"Return {found['mean']:.6g}{steps}."
    kind = "greedy" if about.get("of") == "evaluation" else "training"
    over = f"{about.get('episodes')} {kind} episodes"
    if len(about["seeds"]) > 1:
        over = f"{found['over']}, {over} each"
    interval = f"95 % interval {found['low']:.6g} to {found['high']:.6g} over {over}"
    return f"Return {found['mean']:.6g}{steps}, {interval}."


def header(title: str, about: Mapping[str, Any]) -> list[str]:
    """Metadata in YAML between two lines of dashes; JSON is YAML."""
    quoted = lambda x: json.dumps(str(x))
    lines = ["---", "library_name: parl-jax", "tags:", "- reinforcement-learning"]
    lines += [f"- {quoted(about[name])}" for name in ("algorithm", "env")]
    found = about["return"]
    if found and found.get("mean") is not None:
        lines += [
            "model-index:",
            f"- name: {quoted(title)}",
            "  results:",
            "  - task: {type: reinforcement-learning, name: reinforcement-learning}",
            f"    dataset: {{name: {quoted(about['env'])}, type: {quoted(about['env'])}}}",
            f"    metrics: [{{type: mean_reward, name: mean_reward, value: {found['mean']:.6g}}}]",
        ]
    return [*lines, "---", ""]
