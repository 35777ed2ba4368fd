"""Algorithms for several agents in fused and host execution: they agree, and resume bit for bit.

IPPO (networks of each agent) in every run, the others with `-m slow`: their programs take long to
compile.
"""

from functools import partial
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick, slow
from same import assert_alone_as_among_several, assert_fused_is_host, assert_resumes
from team_games import Scatter
from tiny import ENVS, NUM_ENVS, SEEDS, TEAM, Case, make, make_learner

from parl.agents.execution.fused import Fused
from parl.agents.execution.protocol import act
from parl.core.errors import EnvError
from parl.envs.factory import from_jax
from parl.runs.evaluation import Evaluator


@pytest.mark.parametrize("name", quick(TEAM, "ippo"))
def test_fused_and_host_learn_the_same(name: str) -> None:
    moved, report, _ = assert_fused_is_host(name)
    assert moved and report.metrics
    ended = report.ended
    assert ended.return_sum.shape == () and ended.return_sum < 0 and ended.count >= 4


@pytest.mark.parametrize("execution", ["fused", slow("host")])
@pytest.mark.parametrize("name", quick(TEAM, "ippo"))
def test_resume_changes_no_bit(name: str, execution: str, tmp_path: Path) -> None:
    case = Case(name, execution, 1)
    assert_resumes(make(case), make(case), tmp_path)


@pytest.mark.parametrize("name", quick(TEAM))
def test_a_seed_among_several_is_that_seed_alone(name: str) -> None:
    assert_alone_as_among_several(name)


def test_random_actions_of_all_agents_are_legal() -> None:
    env, learner = ENVS["qmix"], make_learner("qmix")
    algorithm = learner.algorithm

    @jax.jit
    def draw(key: Any) -> Any:
        policy = algorithm.policy(algorithm.init(key, env.spec))
        _, obs = jax.vmap(env.reset)(jax.random.split(key, 50))
        first, memory = jnp.ones(50, bool), algorithm.memory((50,))
        return obs, act(algorithm, env.spec, policy, obs, first, memory, key, random=True)[0]

    obs, action = draw(jax.random.key(0))
    assert action.shape == (50, 3) and len(np.unique(action)) == 3
    assert np.take_along_axis(np.asarray(obs["legal"]), np.asarray(action)[..., None], -1).all()


def test_evaluation_keeps_each_agents_return() -> None:
    """Both ways of playing agree; an agent that is not there is paid nothing."""
    env = ENVS["maddpg"]
    algorithm = make_learner("maddpg").algorithm
    start = jax.jit(lambda key: algorithm.policy(algorithm.init(key, env.spec)))
    policy = start(jax.random.key(0))
    evaluator = Evaluator(from_jax(env), algorithm, 100)
    games = [evaluator(policy, 0), evaluator.play_host(policy, 0)]
    fused, host = (one.returns for one in games)
    assert fused.shape == host.shape == (100, 3)
    error = fused.std(0) / 10 + host.std(0) / 10
    assert (np.abs(fused.mean(0) - host.mean(0)) < 3 * error).all()
    both = evaluator.summary(games)
    np.testing.assert_allclose(both.returns, np.stack([fused, host]).sum(-1))
    assert both.agents is not None and both.agents.shape == (2, 100, 3)
    alone = evaluator.summary(games[:1])
    assert alone.returns.shape == (100,) and isinstance(alone.mean, float)
    assert evaluator.summary([games[0]._replace(returns=fused[:, 0])]).agents is None


class Stuck(Scatter):
    """Leaves agent 1 without a legal action in its fifth step."""

    def observe(self, state: Any) -> dict[str, Any]:
        obs = super().observe(state)
        none = (jnp.arange(3) == 1)[:, None] & (state.time == 4)
        return obs | {"legal": obs["legal"] & ~none}


@pytest.mark.parametrize("execution", [slow("fused"), "host"])
def test_a_mask_without_a_legal_action_is_an_error(execution: str) -> None:
    run: Any = make(Case("ippo", execution, 1))
    message = "jax:scatter has an observation whose mask `legal` leaves no legal action"
    if execution == "fused":
        stuck = Fused(Stuck(), run.learner, SEEDS[1], NUM_ENVS, 8)
        with pytest.raises(EnvError, match=message):
            stuck.advance(1)
    else:
        (collector,) = run.pool.collectors
        collector.envs = [from_jax(Stuck()).vector(NUM_ENVS, 0)]
        collector.restart()
        with pytest.raises(EnvError, match=message):
            partial(collector.collect, run.policy, 8)()
