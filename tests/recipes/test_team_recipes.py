"""Recipes for several agents: settings, shapes of their actions, and what they refuse."""

import dataclasses
from typing import Any

import jax
import pytest

from parl.agents.learner import OffPolicy, OnPolicy
from parl.core.errors import ConfigError, SpaceError
from parl.core.spec import Box, Discrete, EnvSpec
from parl.models import Agents
from parl.recipes import RECIPES, make_recipe, recipe_class

DISCRETE = (
    "ippo",
    "mappo",
    "iql",
    "vdn",
    "qmix",
    "pqn_vdn",
    "maddpg",
    "matd3",
    "coma",
    "mmd",
    "nfsp",
)
CONTINUOUS = ("ippo", "mappo", "maddpg", "matd3")


def spec(actions: Any, groups: tuple[int, ...] = (0, 0, 1), max_steps: int | None = 25) -> EnvSpec:
    views: dict[str, Any] = {"view": Box((3, 5)), "alive": Box((3,), "bool"), "state": Box((7,))}
    if isinstance(actions, Discrete):
        views["legal"] = Box((3, actions.n), "bool")
    return EnvSpec("jax:team", views, actions, max_steps, 3, ("a", "b", "c"), groups)


SPECS = {"discrete": spec(Discrete(4)), "continuous": spec(Box((2,), low=-1.0, high=1.0))}
SERVED = [(a, "discrete") for a in DISCRETE] + [(a, "continuous") for a in CONTINUOUS]


@pytest.mark.parametrize(("algorithm", "env"), SERVED)
def test_learners_fit_their_environment(algorithm: str, env: str) -> None:
    """Shapes only: acting gives an action for every agent."""
    given = SPECS[env]
    for sharing in ("all", "group", "none"):
        recipe = make_recipe(algorithm, given).override({"sharing": sharing, "hidden": (4,)})
        learner = recipe.learner(given, 100_000, recipe.num_envs)
        on_policy = algorithm in ("ippo", "mappo", "pqn_vdn", "coma", "mmd")
        assert isinstance(learner, OnPolicy if on_policy else OffPolicy)
        rule = learner.algorithm

        def act(key: Any, rule: Any = rule) -> Any:
            policy = rule.policy(rule.init(key, given))
            return rule.act(policy, given.obs, rule.memory((1,)), key, explore=True)[0]

        action = jax.eval_shape(act, jax.random.key(0))
        assert action.shape == given.action.shape and action.dtype == given.action.dtype


@pytest.mark.parametrize(("algorithm", "env"), SERVED)
def test_settings_are_one_flat_set_of_json_values(algorithm: str, env: str) -> None:
    recipe = make_recipe(algorithm, SPECS[env])
    settings = recipe.settings()
    own = {f.name for f in dataclasses.fields(recipe)}
    hyper = {f.name for f in dataclasses.fields(recipe.algorithm)}
    assert not own & hyper, "no name means two things"
    parts = {"algorithm", "encoder", "actor", "critic", "q", "mixer", "noise", "optimizer"}
    hidden = parts | set(recipe.derived)
    assert settings.keys() == (own | hyper) - hidden
    assert {"sharing", "agent_id"} <= settings.keys()
    assert all(isinstance(x, bool | int | float | str | tuple | None) for x in settings.values())
    assert recipe.override(settings) == recipe


@pytest.mark.parametrize(
    ("sharing", "sets"), [("all", ()), ("group", (0, 0, 1)), ("none", (0, 1, 2))]
)
def test_who_shares_parameters(sharing: str, sets: tuple[int, ...]) -> None:
    for algorithm, network in (("ippo", "actor"), ("qmix", "q"), ("maddpg", "actor")):
        recipe = make_recipe(algorithm, SPECS["discrete"]).override({"sharing": sharing})
        rule: Any = recipe.learner(SPECS["discrete"], 10_000, recipe.num_envs).algorithm
        model = getattr(getattr(rule, "inner", rule), network)
        assert isinstance(model, Agents) and model.sets == sets


def test_roles_decide_who_shares_by_default() -> None:
    alike = spec(Discrete(4), groups=(0, 0, 0))
    for algorithm in DISCRETE:
        assert make_recipe(algorithm, SPECS["discrete"]).settings()["sharing"] == "group"
        assert make_recipe(algorithm, alike).settings()["sharing"] == "all"
    recipe = make_recipe("ippo", alike).override({"sharing": "some"})
    with pytest.raises(ConfigError, match=r"'sharing' is 'some'; it can be all, group, none\."):
        recipe.learner(alike, 10_000, 128)


def test_settings_by_length_of_episodes() -> None:
    lengths = {n: spec(Discrete(4), max_steps=n) for n in (2, 25, 500, None)}
    mappo = {n: make_recipe("mappo", s).settings() for n, s in lengths.items()}
    assert {n: (s["num_envs"], s["length"]) for n, s in mappo.items()} == {
        2: (16, 16), 25: (16, 25), 500: (32, 128), None: (32, 128),
    }  # fmt: skip
    qmix = {n: make_recipe("qmix", s).settings() for n, s in lengths.items()}
    assert qmix[2]["epsilon_end"] == 1 and qmix[25]["epsilon_end"] == 0.05
    assert [qmix[n]["length"] for n in lengths] == [2, 25, 50, 50]


def test_games_by_turns_have_settings_of_their_own() -> None:
    """Entropy costs more, nothing is discounted; a team's critic stays a team's."""
    alike = spec(Discrete(4), (0, 0, 0))
    assert isinstance(alike.observation_space, dict) and not alike.takes_turns
    parts = alike.observation_space | {"turn": Box((3,), "bool")}
    by_turns = dataclasses.replace(alike, observation_space=parts)
    assert by_turns.takes_turns
    for algorithm, team in (("ippo", False), ("mappo", True)):
        recipe: Any = make_recipe(algorithm, by_turns)
        settings = recipe.settings()
        assert recipe.algorithm.team_reward is team
        assert (settings["gamma"], settings["entropy_cost"]) == (1.0, 0.3)
        assert make_recipe(algorithm, alike).settings()["entropy_cost"] == 0.01


def test_refusals_tell_one_agent_from_several() -> None:
    several = "ippo, maddpg, mappo, matd3"
    with pytest.raises(SpaceError) as caught:
        make_recipe("ppo", SPECS["continuous"])
    assert str(caught.value) == f"ppo is for one agent; team has 3 of them. Try: {several}."
    with pytest.raises(SpaceError) as caught:
        make_recipe("qmix", SPECS["continuous"])
    expected = f"qmix needs a discrete action space; team has Box(2,). Try: {several}."
    assert str(caught.value) == expected
    one = EnvSpec("CartPole-v1", Box((4,)), Discrete(2))
    with pytest.raises(SpaceError) as caught:
        make_recipe("mappo", one)
    message = str(caught.value)
    assert message.startswith("mappo is for several agents; CartPole-v1 has a single one. Try: ")
    assert "ppo" in message.split("Try: ")[1] and "mappo" not in message.split("Try: ")[1]


def test_every_recipe_is_for_one_or_for_several() -> None:
    several = {name for name in RECIPES if recipe_class(name).multi_agent}
    assert several == {*DISCRETE, "az", "psro"}


def test_unknown_cells_and_uneven_minibatches_are_refused() -> None:
    given = SPECS["discrete"]
    for algorithm in ("mappo", "qmix", "pqn_vdn"):
        recipe = make_recipe(algorithm, given).override({"recurrent": "rnn"})
        with pytest.raises(
            ConfigError, match=r"'recurrent' is 'rnn'; it can be none, gru, lstm, lru\."
        ):
            recipe.learner(given, 10_000, recipe.num_envs)
    recipe = make_recipe("pqn_vdn", given).override({"minibatches": 7})
    with pytest.raises(ConfigError, match="do not divide into 7 minibatches"):
        recipe.learner(given, 10_000, recipe.num_envs)
    recipe = make_recipe("coma", given).override({"num_envs": 3, "length": 5})
    with pytest.raises(ConfigError, match="3 environments x 5 steps do not divide into 4 minib"):
        recipe.learner(given, 10_000, 3)
