"""Recipes: settings by flat names, and environments they refuse."""

import dataclasses
from typing import Any

import jax
import numpy as np
import pytest

from parl import recipes
from parl.agents.learner import OffPolicy, OnPolicy
from parl.agents.replay.hindsight import Hindsight
from parl.agents.replay.ring import NumpyReplay, Replay
from parl.agents.replay.sampling import NStep, Prioritized
from parl.algorithms.wrappers.normalized import Normalized
from parl.core.errors import ConfigError, SpaceError
from parl.core.goals import Goals, Within
from parl.core.settings import as_tuple
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete, is_grid
from parl.recipes import RECIPES, make_recipe, recipe_class
from parl.recipes.base import OffPolicyRecipe

VECTOR, IMAGE, GRID = Box((3,)), Box((8, 8, 1), "uint8"), Box((10, 10, 4), "bool")
SPECS = {
    "discrete": EnvSpec("CartPole-v1", VECTOR, Discrete(2), max_steps=500),
    "continuous": EnvSpec("Ant-v5", VECTOR, Box((4,), low=-1.0, high=1.0), max_steps=1000),
    "short": EnvSpec("jax:Pendulum-v1", VECTOR, Box((1,), low=-1.0, high=1.0), max_steps=200),
    "multi": EnvSpec("Tiles-v0", VECTOR, MultiDiscrete((2, 3))),
    "pixels": EnvSpec("ale:Pong", IMAGE, Discrete(6)),
    "grid": EnvSpec("Breakout", GRID, Discrete(3)),
}
ACTOR_CRITICS = ("ppo", "a2c", "impala", "appo")
ON_POLICY = (*ACTOR_CRITICS, "pg")
CONTROL = (
    "sac",
    "td3",
    "ddpg",
    "d4pg",
    "oac",
    "tqc",
    "redq",
    "droq",
    "crossq",
    "simba",
    "simbav2",
    "flashsac",
    "tdmpc2",
)
FROM_VALUES = ("qrdqn", "c51", "iqn", "rainbow", "munchausen", "r2d2", "pqn", "dsac")
SERVED = [
    *((algorithm, name) for algorithm in (*ON_POLICY, "es") for name in SPECS),
    *((algorithm, name) for algorithm in CONTROL for name in ("continuous", "short")),
    *((name, env) for name in ("dqn", *FROM_VALUES) for env in ("discrete", "grid")),
    ("dqn", "pixels"),
    ("r2d2", "pixels"),
]


WITH_HINDSIGHT = {
    name
    for name, kind in ((name, recipe_class(name)) for name in RECIPES)
    if issubclass(kind, OffPolicyRecipe) and "her" not in kind.derived
}

# -- settings -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "env"), SERVED)
def test_settings_are_one_flat_set_of_json_values(algorithm: str, env: str) -> None:
    recipe = make_recipe(algorithm, SPECS[env])
    settings = recipe.settings()
    parts = {"encoder", "dynamics", "reward", "actor", "critic", "q", "optimizer", "noise"}
    hidden = {"algorithm", *parts, *recipe.derived}
    own = {f.name for f in dataclasses.fields(recipe)}
    hyper = {f.name for f in dataclasses.fields(recipe.algorithm)}
    assert not own & hyper, "no name means two things"
    assert settings.keys() == (own | hyper) - hidden == recipe.types().keys()
    assert all(isinstance(x, bool | int | float | str | tuple | None) for x in settings.values())
    assert recipe.override(settings) == recipe


def test_override_reaches_recipe_and_algorithm() -> None:
    recipe = make_recipe("sac", SPECS["continuous"])
    changed = recipe.override({"learning_rate": 1e-3, "batch_size": 64, "hidden": [32, 32]})
    assert changed.algorithm.learning_rate == 1e-3
    assert changed.batch_size == 64 and changed.hidden == (32, 32)  # type: ignore[attr-defined]
    assert changed.settings() == recipe.settings() | {
        "learning_rate": 1e-3,
        "batch_size": 64,
        "hidden": (32, 32),
    }
    assert recipe.settings()["learning_rate"] == 3e-4, "the original stays"
    assert recipe.override({}) == recipe


def test_integers_serve_as_floats_and_lists_as_tuples() -> None:
    recipe = make_recipe("ppo", SPECS["discrete"])
    assert recipe.override({"gamma": 1}).algorithm.gamma == 1
    assert recipe.override({"target_kl": 0.02}).algorithm.target_kl == 0.02
    assert recipe.override({"target_kl": None}).algorithm.target_kl is None
    assert as_tuple([1, 2]) == (1, 2) and as_tuple("ab") == "ab"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("learnin_rate", " Did you mean learning_rate?"),
        ("batchsize", " Did you mean batch_size?"),
        ("zzz", ""),
        ("actor", ""),  # networks and what follows from other settings are no settings
        ("algorithm", " Did you mean length?"),
    ],
)
def test_unknown_names_are_refused_with_the_nearest(name: str, hint: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_recipe("sac", SPECS["continuous"]).override({name: 1})
    message = str(caught.value)
    assert message.startswith(
        f"unknown setting '{name}'.{hint} Known: policy_period, entropy_backup,"
    )
    assert "\n" not in message


def test_what_is_derived_cannot_be_set() -> None:
    with pytest.raises(ConfigError, match="unknown setting 'anneal_updates'"):
        make_recipe("ppo", SPECS["discrete"]).override({"anneal_updates": 3})


@pytest.mark.parametrize(
    ("name", "value", "kind"),
    [
        ("batch_size", "many", "int"),
        ("batch_size", 2.5, "int"),
        ("batch_size", True, "int"),
        ("gamma", "0.9", "float or int"),
        ("gamma", None, "float or int"),
        ("hidden", 64, "tuple"),
        ("replay_on_host", 1, "bool"),
    ],
)
def test_values_of_another_type_are_refused(name: str, value: Any, kind: str) -> None:
    with pytest.raises(ConfigError) as caught:
        make_recipe("sac", SPECS["continuous"]).override({name: value})
    assert str(caught.value) == f"setting '{name}' must be {kind}, not {value!r}."


# -- which environments ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("algorithm", "env", "message"),
    [
        (
            "sac",
            "discrete",
            "sac needs a continuous (Box) action space; CartPole-v1 has Discrete(2). "
            "Try: dqn, ppo.",
        ),
        (
            "dqn",
            "short",
            "dqn needs a discrete action space; Pendulum-v1 has Box(1,). Try: ppo, sac.",
        ),
        (
            "sac",
            "multi",
            "sac needs a continuous (Box) action space; Tiles-v0 has MultiDiscrete([2, 3]). "
            "Try: ppo.",
        ),
    ],
)
def test_refusals_name_who_can(
    algorithm: str, env: str, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    three = {name: RECIPES[name] for name in ("ppo", "sac", "dqn")}
    monkeypatch.setattr(recipes, "RECIPES", three)  # others may serve these too
    with pytest.raises(SpaceError) as caught:
        make_recipe(algorithm, SPECS[env])
    assert str(caught.value) == message


def test_unknown_algorithms_are_refused_with_the_nearest() -> None:
    with pytest.raises(ConfigError, match=r"^unknown algorithm 'sca'. Did you mean sac\? Known: "):
        recipe_class("sca")


def test_every_recipe_is_found_and_frozen() -> None:
    for name in RECIPES:
        recipe = recipe_class(name)
        assert recipe.serves and recipe.__doc__
        assert recipe.__dataclass_params__.frozen  # type: ignore[attr-defined]


# -- what they make -------------------------------------------------------------------------------


@pytest.mark.parametrize(("algorithm", "env"), SERVED)
def test_learners_fit_their_environment(algorithm: str, env: str) -> None:
    """Shapes only: acting gives actions of the space."""
    spec = SPECS[env]
    recipe = make_recipe(algorithm, spec)
    learner = recipe.learner(spec, 100_000, recipe.num_envs)
    on_policy = algorithm in (*ON_POLICY, "es", "pqn")
    assert isinstance(learner, OnPolicy if on_policy else OffPolicy)
    rule = learner.algorithm

    def act(key: Any) -> Any:
        policy = rule.policy(rule.init(key, spec))
        return rule.act(policy, spec.obs, rule.memory((1,)), key, explore=True)[0]

    action = jax.eval_shape(act, jax.random.key(0))
    assert action.shape == spec.action.shape and action.dtype == spec.action.dtype


def test_settings_by_kind_of_environment() -> None:
    ppo = {name: make_recipe("ppo", spec).settings() for name, spec in SPECS.items()}
    assert ppo["continuous"]["normalize_obs"] and ppo["continuous"]["normalize_reward"]
    assert not ppo["discrete"]["normalize_obs"]
    assert (ppo["pixels"]["clip"], ppo["pixels"]["length"]) == (0.1, 128)
    sac = {name: make_recipe("sac", SPECS[name]).settings() for name in ("continuous", "short")}
    assert sac["continuous"]["target_entropy"] == -2.0 and sac["short"]["target_entropy"] == -0.5
    assert (sac["continuous"]["warmup"], sac["short"]["warmup"]) == (5_000, 1_000)
    assert make_recipe("dqn", SPECS["pixels"]).settings()["replay_on_host"]


def test_normalisation_wraps_the_algorithm_with_its_discount() -> None:
    recipe = make_recipe("ppo", SPECS["continuous"]).override({"gamma": 0.9})
    rule: Any = recipe.learner(SPECS["continuous"], 10_000, 8).algorithm
    assert rule.gamma == 0.9 and rule.inner.gamma == 0.9 and isinstance(rule, Normalized)
    plain = recipe.override({"normalize_obs": False, "normalize_reward": False})
    assert not isinstance(plain.learner(SPECS["continuous"], 10_000, 8).algorithm, Normalized)


def test_annealing_spans_the_run() -> None:
    recipe = make_recipe("ppo", SPECS["discrete"]).override({"length": 32, "num_envs": 8})
    updates = lambda r, steps: r.learner(SPECS["discrete"], steps, 8).algorithm.anneal_updates
    assert updates(recipe, 100_000) == 100_000 // 256
    assert updates(recipe.override({"anneal": False}), 100_000) == 0


def test_minibatches_must_divide_the_rollout() -> None:
    recipe = make_recipe("ppo", SPECS["continuous"]).override({"length": 5})
    with pytest.raises(ConfigError, match="8 environments x 5 steps do not divide into 32 minib"):
        recipe.learner(SPECS["continuous"], 10_000, 8)


@pytest.mark.parametrize("cell", ["gru", "lstm"])
@pytest.mark.parametrize("algorithm", ACTOR_CRITICS)
def test_memory_of_any_size_is_one_setting_away(algorithm: str, cell: str) -> None:
    spec = SPECS["discrete"]
    recipe = make_recipe(algorithm, spec)
    assert recipe.settings()["recurrent"] == "none"
    recipe = recipe.override({"recurrent": cell, "memory_size": 5})
    rule = recipe.learner(spec, 10_000, 8).algorithm
    memory = rule.memory((2,))
    shapes = [x.shape for part in (memory.actor, memory.critic) for x in jax.tree.leaves(part)]
    assert shapes == [(2, 5)] * {"gru": 2, "lstm": 4}[cell]


def test_unknown_cells_are_refused() -> None:
    recipe = make_recipe("a2c", SPECS["discrete"]).override({"recurrent": "rnn"})
    with pytest.raises(
        ConfigError, match=r"'recurrent' is 'rnn'; it can be none, gru, lstm, lru\."
    ):
        recipe.learner(SPECS["discrete"], 10_000, 8)


def test_sequences_must_divide_into_minibatches() -> None:
    recipe = make_recipe("ppo", SPECS["continuous"]).override({"recurrent": "gru"})
    with pytest.raises(ConfigError, match="8 environments do not divide into 32 minibatches; cha"):
        recipe.learner(SPECS["continuous"], 10_000, 8)


def test_who_tolerates_lag() -> None:
    spec = SPECS["discrete"]
    learner = lambda name: make_recipe(name, spec).learner(spec, 10_000, 8)
    tolerant = {name: learner(name).algorithm.tolerates_lag for name in (*ON_POLICY, "dqn")}
    assert {name for name in tolerant if tolerant[name]} == {"impala", "appo", "dqn"}
    sac = make_recipe("sac", SPECS["continuous"]).learner(SPECS["continuous"], 10_000, 1)
    assert sac.algorithm.tolerates_lag
    normalized = make_recipe("appo", SPECS["continuous"]).learner(SPECS["continuous"], 10_000, 8)
    assert isinstance(normalized.algorithm, Normalized) and normalized.algorithm.tolerates_lag


def test_asynchronous_ppo_has_the_settings_of_ppo() -> None:
    for spec in SPECS.values():
        ours, theirs = make_recipe("appo", spec), make_recipe("ppo", spec)
        assert ours.settings() == theirs.settings()
        assert ours.algorithm == theirs.algorithm.replace(corrected=True)


def test_es_plays_whole_episodes_with_a_population() -> None:
    es = {name: make_recipe("es", spec) for name, spec in SPECS.items()}
    lengths = {name: recipe.length for name, recipe in es.items()}
    assert lengths | {"discrete": 500, "continuous": 1000, "short": 200, "multi": 1000} == lengths
    assert es["continuous"].normalize_obs and not es["discrete"].normalize_obs
    rule = es["continuous"].learner(SPECS["continuous"], 10_000, 2).algorithm
    assert isinstance(rule, Normalized) and rule.episodic
    with pytest.raises(ConfigError, match="which is --num-envs 1; it needs at least 2"):
        es["short"].learner(SPECS["short"], 10_000, 1)


def test_replay_is_where_it_is_wanted() -> None:
    recipe = make_recipe("sac", SPECS["continuous"]).override({"capacity": 777})
    replay = lambda r: r.learner(SPECS["continuous"], 10_000, 1).replay
    assert replay(recipe) == Replay(777) and type(replay(recipe)) is Replay
    assert type(replay(recipe.override({"replay_on_host": True}))) is NumpyReplay


def with_goals(actions: Any) -> EnvSpec:
    space = {name: Box((2,)) for name in ("observation", "achieved_goal", "desired_goal")}
    return EnvSpec("Reach-v0", space, actions, max_steps=50, goals=Goals(Within(0.1)))


@pytest.mark.parametrize("algorithm", sorted(WITH_HINDSIGHT))
def test_hindsight_is_a_switch_of_what_learns_from_replay(algorithm: str) -> None:
    kinds = recipe_class(algorithm).serves
    spec = with_goals(Discrete(3) if Discrete in kinds else Box((1,), low=-1.0, high=1.0))
    recipe = make_recipe(algorithm, spec)
    learner: Any = recipe.learner(spec, 10_000, 8)
    assert recipe.with_goals(learner, spec) is learner
    recipe = recipe.override({"her": True, "her_share": 0.5})
    found: Any = recipe.with_goals(learner, spec)
    assert found.replay == Hindsight(learner.replay, spec.goals, 0.5, horizon=50)
    with pytest.raises(ConfigError, match="her replaces goals, and CartPole-v1 shows none"):
        recipe.with_goals(learner, SPECS["discrete"])


def test_who_has_hindsight() -> None:
    assert {"dqn", "rainbow", "sac", "td3", "crossq", "bc", "rlpd"} <= WITH_HINDSIGHT
    assert not {"ppo", "qmix", "maddpg", "dagger"} & WITH_HINDSIGHT


def test_critics_are_an_ensemble_of_the_wanted_size() -> None:
    spec = SPECS["short"]
    recipe = make_recipe("sac", spec).override({"num_critics": 5, "hidden": (4,)})
    rule = recipe.learner(spec, 10_000, 1).algorithm
    critic = jax.eval_shape(lambda key: rule.init(key, spec), jax.random.key(0)).critic.params
    assert {np.shape(x)[0] for x in jax.tree.leaves(critic)} == {5}


@pytest.mark.parametrize(
    ("name", "changes", "said"),
    [
        ("redq", {"subset": 3, "num_critics": 2}, "subset 3 critics cannot be drawn from num_crit"),
        ("redq", {"num_critics": 1}, "subset 2 critics cannot be drawn from num_critics 1"),
        ("droq", {"subset": 3}, "subset 3 critics cannot be drawn from num_critics 2"),
        ("tqc", {"drop": 25}, "drop 25 leaves none of the 25 quantiles"),
        ("tqc", {"quantiles": 2}, "drop 2 leaves none of the 2 quantiles"),
    ],
)
def test_critics_that_leave_no_target(name: str, changes: dict[str, int], said: str) -> None:
    spec = SPECS["short"]
    recipe = make_recipe(name, spec).override(changes)
    with pytest.raises(ConfigError, match=said):
        recipe.learner(spec, 10_000, 1)


def test_each_part_of_rainbow_is_a_switch_of_dqn() -> None:
    """With them dqn is rainbow, and without them a descendant is dqn."""
    for spec in (SPECS["discrete"], SPECS["grid"]):
        dqn, rainbow = make_recipe("dqn", spec), make_recipe("rainbow", spec)
        switches = {"noisy": True, "dueling": True, "values": "categorical", "n_step": 3}
        switches |= {"priority": 0.5, "epsilon_start": 0.0, "epsilon_end": 0.0}
        assert dqn.override(switches).settings() == rainbow.settings()
        assert dqn.override(switches).learner(spec, 0, 1) == rainbow.learner(spec, 0, 1)
        scaled = {"normalize_reward": not is_grid(spec.observation_space)}
        for name, changes in (
            ("qrdqn", {"values": "quantile"} | scaled),
            ("c51", {"values": "categorical", "double": False}),
            ("iqn", {"values": "implicit"} | scaled),
        ):
            assert dqn.override(changes).settings() == make_recipe(name, spec).settings()
    soft = make_recipe("munchausen", SPECS["discrete"])
    assert (
        soft.algorithm.learning_rate
        == make_recipe("dqn", SPECS["discrete"]).algorithm.learning_rate
    )
    assert "double" not in soft.settings()


@pytest.mark.parametrize("cell", ["none", "gru"])
def test_pqn_normalises_every_layer_of_its_network_for_grids(cell: str) -> None:
    """A convolution and a layer of 128, and then the values; with memory a cell between them."""
    spec = SPECS["grid"]
    recipe = make_recipe("pqn", spec).override({"recurrent": cell})
    learner = recipe.learner(spec, 10_000_000, recipe.num_envs)
    algorithm: Any = learner.algorithm
    shapes = jax.eval_shape(lambda: algorithm.init(jax.random.key(0), spec)).net.params["params"]
    encoder = shapes["Encoder_0"]["GridCNN_0"]
    assert encoder["LayerNorm_0"]["scale"].shape == (16,), "of each pixel's channels"
    assert encoder["LayerNorm_1"]["scale"].shape == encoder["Dense_0"]["bias"].shape == (128,)
    if cell == "none":
        assert sorted(shapes) == ["Dense_0", "Encoder_0"] and recipe.settings()["length"] == 32


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (
            {"values": "quantiles"},
            "'values' is 'quantiles'; it can be scalar, categorical, quantile",
        ),
        (
            {"values": "categorical", "value_min": 5.0, "value_max": 5.0},
            "value_min 5 must lie below",
        ),
    ],
)
def test_values_that_there_are_not(changes: dict[str, Any], said: str) -> None:
    recipe = make_recipe("dqn", SPECS["discrete"]).override(changes)
    with pytest.raises(ConfigError, match=said):
        recipe.learner(SPECS["discrete"], 10_000, 1)


def test_how_replay_is_sampled_is_two_settings() -> None:
    spec, gamma = SPECS["continuous"], 0.9
    recipe = make_recipe("sac", spec).override({"capacity": 777, "gamma": gamma})
    learner: Any = lambda changes: recipe.override(changes).learner(spec, 10_000, 1)
    replay = lambda **changes: learner(changes).replay
    assert replay(n_step=3) == NStep(Replay(777), 3, gamma)
    assert replay(priority=0.6) == Prioritized(Replay(777), 0.6)
    both = replay(n_step=5, priority=0.5, replay_on_host=True)
    assert both == Prioritized(NStep(NumpyReplay(777), 5, gamma), 0.5) and both.on_host


@pytest.mark.parametrize("name", ACTOR_CRITICS)
def test_actor_and_critic_share_what_looks_at_images(name: str) -> None:
    spec = SPECS["pixels"]
    shared: Any = make_recipe(name, spec).learner(spec, steps=1_000, num_envs=16).algorithm
    state = jax.eval_shape(lambda: shared.init(jax.random.key(0), spec))
    assert [stats.mean.shape for stats in state.obs.values()] == [(8, 8, 1)]  # pixels are centred
    shapes = state.inner.net.params
    size = lambda part: sum(x.size for x in jax.tree.leaves(shapes[part]))
    assert (size("actor"), size("critic")) == (512 * 6 + 6, 512 + 1)
    assert size("encoder") == (9 * 32 + 32) + (16 * 32 * 64 + 64) + (4 * 4 * 64 * 512 + 512)
    with pytest.raises(ConfigError, match="share_encoder"):
        vector = make_recipe(name, SPECS["discrete"]).override({"share_encoder": True})
        vector.learner(SPECS["discrete"], steps=1_000, num_envs=8)
