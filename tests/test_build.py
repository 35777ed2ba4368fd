"""From a config to the parts of a run: who collects, how much, and who may lag."""

from typing import Any

import pytest

from parl.agents.learner import OffPolicy
from parl.core.errors import ConfigError
from parl.runs.build import Parts, resolve
from parl.runs.config import RunConfig


def parts(algorithm: str, env: str = "jax:CartPole-v1", **fields: Any) -> Parts:
    settings = fields.pop("settings", {})
    return resolve(RunConfig(algorithm, env, settings=settings, **fields))


def sizes(made: Parts) -> tuple[int, int]:
    """Environments that an iteration learns from, and those of a worker."""
    return made.layout.envs_per_iteration, made.layout.envs_per_worker


def per_step(made: Parts) -> float:
    """Updates for one environment step."""
    assert isinstance(made.learner, OffPolicy)
    return made.learner.updates / (made.layout.envs_per_iteration * made.recipe.length)


def test_mode_is_sync_unless_the_algorithm_was_made_for_async() -> None:
    assert parts("impala", actors=2).config.mode == "async"
    assert parts("appo", actors=2).config.mode == "async"
    assert parts("impala", actors=2, mode="sync").config.mode == "sync"
    assert parts("impala").config.mode == "sync"
    assert parts("ppo", actors=2).config.mode == "sync"
    assert parts("dqn", actors=2).config.mode == "sync"
    assert parts("dqn", actors=2, mode="async").config.mode == "async"
    assert parts("sac", "jax:Pendulum-v1", actors=2, mode="async").config.mode == "async"
    assert parts("dqn").config.mode == "sync"


def test_ppo_refuses_rollouts_of_older_policies() -> None:
    with pytest.raises(ConfigError) as caught:
        parts("ppo", actors=2, mode="async")
    assert str(caught.value) == (
        "ppo cannot learn from rollouts of older policies: use --mode sync, or appo or impala."
    )


def test_actors_do_not_change_updates_per_environment_step() -> None:
    """Each has an environment at least; asynchronous runs learn from one fragment at a time."""
    alone = parts("dqn", settings={"length": 8, "updates": 4})
    assert per_step(alone) == 0.5
    sync = parts("dqn", actors=4, settings={"length": 8, "updates": 4})
    assert (*sizes(sync), per_step(sync)) == (4, 1, 0.5)
    asynchronous = parts("dqn", actors=4, mode="async", settings={"length": 8, "updates": 4})
    assert sizes(asynchronous) == (1, 1)
    assert per_step(asynchronous) == 0.5
    # what is written down is of the whole run, so that a resume divides it the same way
    assert asynchronous.config.settings["updates"] == 16
    again = resolve(asynchronous.config)
    assert (again.recipe, again.layout) == (asynchronous.recipe, asynchronous.layout)


def test_asynchronous_batches_of_on_policy_algorithms_are_those_of_the_recipe() -> None:
    made = parts("impala", actors=2)
    assert sizes(made) == (8, 4)
    assert made.recipe == parts("impala").recipe


def test_fragments_of_an_update_are_whole() -> None:
    """Three updates for six environments of six workers: one for two fragments."""
    settings = {"num_envs": 6, "updates": 3, "length": 4}
    made = parts("dqn", actors=6, mode="async", settings=settings)
    assert isinstance(made.learner, OffPolicy)
    assert (*sizes(made), made.learner.updates) == (2, 1, 1)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"mode": "asinc", "actors": 2}, "unknown mode 'asinc'. Did you mean async?"),
        ({"mode": "async"}, "mode async is for rollout actors: add --actors 2."),
        ({"address": "auto"}, "address auto is for rollout actors: add --actors 2."),
        ({"chaos": "kill=0.1"}, "chaos kill=0.1 is for rollout actors: add --actors 2."),
        ({"chaos": "kil=0.1", "actors": 1}, "chaos knows no 'kil'. Did you mean kill?"),
        ({"max_policy_lag": 3}, "max_policy_lag 3 is for rollout actors"),
        ({"max_policy_lag": 3, "actors": 2}, "max_policy_lag is for --mode async"),
        ({"max_policy_lag": -1, "actors": 2}, "max_policy_lag must not be negative, it is -1."),
        ({"actors": 2, "execution": "host"}, "host execution has no rollout actors"),
    ],
)
def test_what_does_not_fit_is_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parts("dqn", **change)
    assert str(caught.value).startswith(text)
