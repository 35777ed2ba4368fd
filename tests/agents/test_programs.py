"""Programs that all runs of a process share: what differs between runs is data."""

from pathlib import Path
from typing import Any, get_args

import jax
import numpy as np
import pytest
from compiling import compilations
from marks import quick, slow
from tiny import CARTPOLE, ENVS, LENGTH, NUM_ENVS, SETTINGS, Case, make, make_learner, params_of

import parl
from parl.agents.execution.fused import Fused
from parl.agents.execution.joined import joined
from parl.agents.execution.protocol import Seeds
from parl.core.programs import as_data, forget, is_value, shared
from parl.core.spec import Discrete
from parl.recipes import RECIPES, recipe_class
from parl.runs.build import resolve
from parl.runs.config import RunConfig

IDS = {"continuous": "jax:Pendulum-v1", "discrete": "jax:CartPole-v1", "team": "jax:simple_spread"}
IDS |= {"game": "jax:tic_tac_toe"}
# one of each kind of recipe
KINDS = "ppo", "dqn", "sac", "es", "crossq", "tdmpc2", "dt", "mappo", "qmix", "maddpg", "az", "psro"


def env_for(algorithm: str) -> str:
    recipe: Any = recipe_class(algorithm)
    if recipe.multi_agent:
        return IDS["game" if recipe.needs_simulator or recipe.for_two else "team"]
    return IDS["discrete" if Discrete in recipe.serves else "continuous"]


@pytest.mark.parametrize("algorithm", quick(RECIPES, *KINDS))
def test_two_resolves_of_a_recipe_have_one_structure(algorithm: str) -> None:
    """Whatever the learning rate: it is a leaf, and so is every other number with a fraction."""

    def learner(**settings: Any) -> Any:
        config = RunConfig(algorithm, env_for(algorithm), steps=10_000, settings=settings)
        return resolve(config).learner

    one, two, other = learner(), learner(), learner(learning_rate=0.0123)
    structures = [jax.tree.structure(x) for x in (one, two, other)]
    assert structures[0] == structures[1] == structures[2]
    assert jax.tree.leaves(one) == jax.tree.leaves(two) != jax.tree.leaves(other)
    assert 0.0123 in jax.tree.leaves(other)


# numbers that shape the program, so that a sweep has one for each value: they say what is computed,
# or how a distribution's support lies
SHAPING = {"dropout", "her_share", "huber_delta", "noise_color", "priority", "return_bound"}
SHAPING |= {"noise_theta", "target_kl", "value_max", "value_min", "weight_decay"}


@pytest.mark.parametrize("algorithm", quick(RECIPES, "ppo", "crossq"))
def test_every_number_can_be_swept(algorithm: str) -> None:
    """As a leaf of the learner, or with a program for each value."""
    learner = lambda **settings: resolve(
        RunConfig(algorithm, env_for(algorithm), steps=10_000, settings=settings)
    )
    parts = learner()
    structure, leaves = jax.tree.structure(parts.learner), jax.tree.leaves(parts.learner)
    for name, kind in parts.recipe.types().items():
        if float not in (get_args(kind) or (kind,)):
            continue
        declared, value = parts.recipe.declared(name), parts.recipe.settings()[name]
        low, high = max(declared.low, 0.0), min(declared.high, 1.0)
        other = next(x for x in (low + 0.37 * (high - low), low + 0.0123) if x != value)
        changed = learner(**{name: other})
        assert changed.recipe.settings()[name] == other
        if name not in SHAPING:
            assert jax.tree.structure(changed.learner) == structure, name
            assert jax.tree.leaves(changed.learner) != leaves, name


@pytest.mark.slow
@pytest.mark.parametrize("algorithm", SETTINGS)
def test_rows_with_numbers_of_their_own_are_one_program(algorithm: str) -> None:
    """All leaves are batched; tracing finds what cannot be."""
    case = Case(algorithm, "fused", 1)
    alone = make(case)
    run = joined([make(case), make(case, learning_rate=0.0123)])
    assert all(leaf.shape[:1] == (2,) for leaf in jax.tree.leaves(run.data))
    for program in run.programs.values():
        after, _ = jax.eval_shape(program, run.data, run.run, 3)
        shapes = lambda tree: [leaf.shape for leaf in jax.tree.leaves(tree)]
        own = alone.state.algorithm_state
        assert shapes(after.learner.algorithm_state) == [(2, *x) for x in shapes(own)]


@pytest.mark.parametrize("execution", ["fused", slow("host")])
def test_a_second_run_with_another_learning_rate_compiles_nothing(
    execution: str, tmp_path: Path
) -> None:
    """Nor does another seed."""

    def train(name: str, **changes: Any) -> Any:
        settings = {"hidden": (4,), "num_envs": 2, "length": 8, "epochs": 1, "minibatches": 1}
        settings |= {"steps": 64, "eval_episodes": 1, "eval_max_steps": 20, "execution": execution}
        run = parl.train("ppo", IDS["discrete"], tmp_path / name, quiet=True, **settings | changes)
        return run.result["params_sha256"]

    with compilations() as compiled:
        first = train("first", learning_rate=1e-3)
    assert compiled
    with compilations() as compiled:
        second = train("second", learning_rate=2e-3)
        third = train("third", learning_rate=1e-3, seed=1)
    assert not compiled
    assert len({first, second, third}) == 3


@pytest.mark.slow
@pytest.mark.parametrize("execution", ["fused", "host"])
@pytest.mark.parametrize("algorithm", SETTINGS)
def test_no_algorithm_compiles_for_another_learning_rate(algorithm: str, execution: str) -> None:
    case = Case(algorithm, execution, 1)
    warmup = make(case).warmup

    def train(learning_rate: float) -> Any:
        run = make(case, learning_rate=learning_rate)
        run.advance(warmup + 2)
        return run.policy  # by a program of its own

    first = train(1e-3)
    with compilations() as compiled:
        second = train(2e-3)
    assert not compiled
    assert jax.tree.structure(first) == jax.tree.structure(second)


@pytest.mark.slow
def test_learners_of_a_sweep_are_stacked_along_the_seeds() -> None:
    """Four learning rates of two seeds each in one program, as each rate by itself."""
    rates = (1e-4, 1e-3, 3e-3, 1e-2)
    learners = [make_learner("ppo", learning_rate=rate) for rate in rates]
    together = Seeds((5, 6) * 4, vmapped=True, own_learners=True)
    stacked = together.stack([learner for learner in learners for _ in range(2)])
    assert stacked.algorithm.learning_rate.shape == (8,)
    run = Fused(CARTPOLE, stacked, together, NUM_ENVS, LENGTH)
    run.advance(4)
    all_of = params_of(run)
    assert jax.tree.leaves(run.policy)[0].shape[0] == 8
    for i in (0, 3):
        alone = Fused(CARTPOLE, learners[i], Seeds((5, 6), vmapped=True), NUM_ENVS, LENGTH)
        alone.advance(4)
        for name, x in params_of(alone).items():
            np.testing.assert_allclose(
                all_of[name][2 * i : 2 * i + 2], x, rtol=2e-5, atol=1e-6, err_msg=name
            )
    different = [not np.array_equal(x[0], x[6]) for x in all_of.values()]
    assert any(different)


def test_programs_are_made_once_for_equal_values() -> None:
    made: list[Any] = []

    @shared
    def program(*values: Any) -> int:
        made.append(values)
        return len(made)

    class Mutable:
        """Compared by identity, and what it does may change."""

    env, own = ENVS["sac"], Mutable()
    assert [program(env, 1), program(type(env)(max_steps=9), 1), program(env, True)] == [1, 1, 2]
    assert program(own) != program(own)
    assert program([1]) != program([1])
    assert not is_value(own) and is_value(env) and is_value(None)
    forget()
    assert program(env, 1) > 2


def test_hyperparameters_are_weak_numbers_of_one_structure() -> None:
    one, two = as_data(make_learner("ppo")), as_data(make_learner("ppo", gamma=0.5))
    assert one.algorithm.actor is two.algorithm.actor
    assert float(two.algorithm.gamma) == 0.5 and one.algorithm.gamma.weak_type
