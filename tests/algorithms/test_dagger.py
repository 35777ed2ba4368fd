"""DAgger: the teacher's actions in the learner's states, and who acts when."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import parl
from parl.agents.execution.fused import Fused
from parl.agents.execution.protocol import Seeds
from parl.algorithms.bc import BC
from parl.algorithms.dagger import DAgger, DAggerPolicy, Teacher
from parl.api.training import Run, as_text
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.core.spec import Discrete
from parl.core.types import Rollout, Step
from parl.envs.classic.cartpole import CartPole
from parl.models import MLP, CategoricalPolicy
from parl.recipes import make_recipe
from parl.runs.config import RunConfig
from parl.runs.directory import RunDir
from parl.runs.teaching import check_taught

ENV = CartPole(max_steps=200)
RUNS = Path(__file__).parents[1] / "data" / "runs"


class Balances(Algorithm):
    """Pushes to where the pole falls to."""

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        return (obs[..., 2] + 0.3 * obs[..., 3] > policy).astype(jnp.int32), memory, {}


TEACHER = Teacher(Balances(), jnp.float32(0.0))


def test_replay_holds_the_teachers_actions() -> None:
    """Actions of a Box within the bounds."""
    obs = np.random.default_rng(0).normal(size=(6, 4)).astype(np.float32)
    actor = CategoricalPolicy(ENV.spec.observation_space, Discrete(2), MLP((2,)))
    algorithm = DAgger(BC(actor=actor), TEACHER)
    state = algorithm.init(jax.random.key(0), ENV.spec)
    key = jax.random.key(1)
    _, _, extras = algorithm.act(algorithm.policy(state), obs, (), key, True)
    flags, number = np.zeros(6, bool), np.zeros(6, np.float32)
    steps = Step(obs, np.full(6, 7), number, number, obs, flags, flags, extras)
    rollout = Rollout(jax.tree.map(lambda x: np.asarray(x)[None], steps), ())
    items = algorithm.items(rollout)
    np.testing.assert_array_equal(items.action, obs[:, 2] + 0.3 * obs[:, 3] > 0)


@pytest.mark.parametrize(("share", "theirs"), [(0.0, 0.0), (1.0, 1.0), (0.25, 0.25)])
def test_the_teacher_acts_with_its_share(share: float, theirs: float) -> None:
    """Here it always pushes right, the learner left; evaluated, the learner alone acts."""
    actor = CategoricalPolicy(ENV.spec.observation_space, Discrete(2), MLP((2,)))
    algorithm = DAgger(BC(actor=actor), Teacher(Balances(), jnp.float32(-1e6)))
    params = actor.init(jax.random.key(0), ENV.spec.obs)
    params = jax.tree.map(jnp.zeros_like, params)
    params["params"]["Dense_0"]["bias"] = jnp.array([50.0, -50.0])
    obs, policy = jnp.zeros((2_000, 4)), DAggerPolicy(params, jnp.float32(share))
    act = lambda explore: algorithm.act(policy, obs, (), jax.random.key(1), explore)[0]
    assert np.mean(act(True)) == pytest.approx(theirs, abs=0.03)
    assert not np.any(act(False))


def test_its_share_falls_with_the_steps() -> None:
    recipe = make_recipe("dagger", ENV.spec).override(
        {"teacher_steps": 64, "hidden": (16,), "learning_rate": 0.01}
    )
    learner: Any = recipe.learner(ENV.spec, 1_000, 4)
    learner = learner.replace(algorithm=learner.algorithm.replace(teacher=TEACHER))
    run = Fused(ENV, learner, Seeds((0,)), 4, 8)
    assert float(run.policy.share) == 1.0
    run.advance(1)
    assert float(run.policy.share) == 0.5
    run.advance(60)
    assert float(run.policy.share) == 0.0
    obs = jax.random.normal(jax.random.key(3), (500, 4)) * jnp.array([0.5, 0.5, 0.05, 0.5])
    act = lambda a, policy: np.asarray(a.act(policy, obs, (), jax.random.key(0), False)[0])
    agreed = act(learner.algorithm, run.policy) == act(*TEACHER)
    assert agreed.mean() > 0.9


def test_a_teacher_is_for_dagger_and_dagger_needs_one() -> None:
    recipe = make_recipe("dagger", ENV.spec)
    learner = recipe.learner(ENV.spec, 1_000, 4)
    with pytest.raises(ConfigError, match="dagger learns from a teacher: add --teacher RUN"):
        check_taught(learner, RunConfig("dagger", "jax:CartPole-v1"))
    other = make_recipe("dqn", ENV.spec).learner(ENV.spec, 1_000, 1)
    with pytest.raises(ConfigError, match="teacher is for dagger"):
        check_taught(other, RunConfig("dqn", "jax:CartPole-v1", teacher="x"))


def test_a_teacher_may_be_a_path_or_a_finished_run(tmp_path: Path) -> None:
    done = Run(RUNS / "ppo-fused", {})
    assert as_text(done) == as_text(done.path) == as_text(str(done.path)) == str(done.path)
    assert as_text(3) == 3 and as_text((8, 8)) == (8, 8)


@pytest.mark.slow
def test_a_finished_run_teaches(tmp_path: Path) -> None:
    given: dict[str, Any] = {"steps": 64, "warmup": 16, "hidden": (4,), "eval_episodes": 0}
    for i, teacher in enumerate((RUNS / "ppo-fused", Run(RUNS / "ppo-fused", {}))):
        run = parl.train(
            "dagger", "jax:CartPole-v1", tmp_path / str(i), True, teacher=teacher, **given
        )
        assert RunDir(run.path).config().teacher == str(RUNS / "ppo-fused")
