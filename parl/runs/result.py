"""The results of a run in result.json, and as text for people."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from parl import ops
from parl.agents.execution.ended import Ended
from parl.agents.execution.protocol import Execution
from parl.core.checkpoint import named_leaves, params_sha256
from parl.report.progress import short, spread
from parl.runs.books import Books, env_steps_of, skipped_updates
from parl.runs.clock import Clock
from parl.runs.config import RunConfig
from parl.runs.evaluation import Evaluation
from parl.runs.meter import told_of


def counts(config: RunConfig, execution: Execution, books: Books, clock: Clock) -> dict[str, Any]:
    """The part of result.json on what was run, how much of it and in what time."""
    rate = clock.rate()
    return {
        "algorithm": config.algorithm,
        "env": config.env,
        "seeds": list(config.seeds),
        "env_steps": env_steps_of(execution),
        "updates": books.updates(execution),
        "skipped_updates": skipped_updates(execution),
        "wall_s": round(clock.total, 3),
        **clock.told(),
        "sps": None if rate is None else round(rate * config.num_seeds, 1),
        "params_sha256": params_sha256(named_leaves(execution.snapshot(False).tree)),
    }


def told_at_end(
    evaluation: Evaluation | None, ended: Ended | None, names: Sequence[str]
) -> dict[str, Any]:
    """Results of the last evaluation, or without one, of the last training episodes.

    `return` has the same form for any number of seeds, see `summary`; the others are numbers for
    one seed and lists for several.
    """
    if evaluation is None:
        told = told_of(ended, names)
        mean = told["return_mean"]
        return {**told, "return_std": None, "of": "training", "return": summary(mean)}
    played = evaluation.returns.shape[-1]
    several = evaluation.returns.ndim > 1
    told = {
        **evaluation.metrics(),
        "episodes": played,
        "of": "evaluation",
        "return": summary(evaluation.mean if several else evaluation.returns.tolist(), several),
        "returns": evaluation.returns.tolist(),
    }
    if evaluation.agents is not None:  # means of each agent's own
        told["agent_returns"] = evaluation.agents.mean(-2).tolist()
    if evaluation.sides is not None:
        told["side_returns"] = evaluation.sides.tolist()
    return told


def summary(scores: Any, of_seeds: bool = True) -> dict[str, Any] | None:
    """Mean and 95 % interval of scores, one for each seed or for each episode of one seed.

    The interval is Student's t, or a point for a single score. None if there are no scores.
    """
    if scores is None:
        return None
    values = np.atleast_1d(np.array(scores, float))
    mean, low, high = ops.t_interval(values)
    count = len(values)
    over = f"{count} {'seed' if of_seeds else 'episode'}{'s' * (count > 1)}"
    means = values.tolist() if of_seeds else [mean]
    return {"mean": mean, "low": low, "high": high, "over": over, "seeds": means}


def returns_line(result: dict[str, Any], how: str = "greedy") -> str:
    """A line with mean and deviation of the returns; `how` says how actions were chosen."""
    of = result["return"]
    if of is None:
        return "return unknown: no episode ended"
    episodes = int(np.max(result["episodes"]))
    kind = how if result["of"] == "evaluation" else "training"
    played = f"{episodes:,} {kind} episode{'s' * (episodes != 1)}"
    if len(of["seeds"]) > 1:
        each = ", ".join(map(short, of["seeds"]))
        return (
            f"return {short(of['mean'])} (95% t interval over {of['over']}: {short(of['low'])} to "
            f"{short(of['high'])}; {each}), {played} each"
        )
    std = result["return_std"]
    value = short(of["mean"]) if std is None else spread(of["mean"], std)
    return f"return {value} over {played}"


def time_line(result: dict[str, Any]) -> str:
    """A line with the number of steps and the time spent on each phase."""
    parts = {"training": "train_s", "compiling": "compile_s", "evaluating": "eval_s"}
    spent = ", ".join(f"{what} {result[name]:.1f} s" for what, name in parts.items())
    rate = "" if result["sps"] is None else f", {short(result['sps'])} steps/s"
    return f"{result['env_steps']:,} steps in {result['wall_s']:.1f} s ({spent}{rate})"
