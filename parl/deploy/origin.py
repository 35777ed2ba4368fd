"""Where an exported policy is from."""

import sys
from pathlib import Path
from typing import Any

from parl.core.errors import ParlError
from parl.core.rewards import shows_reward
from parl.core.spec import EnvSpec
from parl.envs.factory import EnvFactory, make_factory
from parl.envs.rewards import with_rewards_shown
from parl.runs.config import versions
from parl.runs.directory import RunDir


def of_run(path: Path, checkpoint: str | int, seed_index: int) -> dict[str, Any]:
    """What an artefact says of the run that its policy is from."""
    run = RunDir(path)
    config = run.config()
    found = run.pick(config.run_id, checkpoint, replay=False)
    told = {
        "run": path.name,
        "run_id": config.run_id,
        "algorithm": config.algorithm,
        "env": config.env,
        "seed": config.seed + seed_index,
        "env_steps": found.meta["env_steps"],
        "versions": versions(),
    }
    returns = found.meta.get("return_mean")
    return told if returns is None else told | {"return_mean": returns}


def of_agent(agent: Any) -> dict[str, Any]:
    """What an artefact says of an agent that its policy is from."""
    known = agent.config or {}
    return {
        "algorithm": known.get("algorithm", type(agent.algorithm).__name__),
        "env": known.get("env"),
        "seed": agent.seed,
        "env_steps": agent.env_steps,
        "versions": versions(),
    }


def environment(env: Any, spec: EnvSpec) -> EnvFactory | None:
    """The environment that a policy of `spec` plays in.

    None, and a line that says so, where it cannot be made.
    """
    if env is None:
        return None
    try:
        factory = make_factory(env)
        return with_rewards_shown(factory) if shows_reward(spec.observation_space) else factory
    except ParlError as error:
        print(f"WARNING: {error} No episodes are played.", file=sys.stderr)
        return None
