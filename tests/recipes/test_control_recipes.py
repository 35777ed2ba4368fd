"""Recipes of continuous control: networks, noise, optimisers and schedules of the papers."""

from functools import partial
from itertools import pairwise
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from marks import quick

from parl.agents.learner import OffPolicy
from parl.algorithms.crossq import CrossQ
from parl.algorithms.flashsac import FlashSAC
from parl.algorithms.oac import OAC
from parl.algorithms.redq import REDQ
from parl.algorithms.sac import SAC
from parl.algorithms.shared.optimizers import annealed_by_cosine
from parl.algorithms.td3 import TD3
from parl.algorithms.tqc import TQC
from parl.algorithms.wrappers.normalized import Normalized
from parl.algorithms.wrappers.resets import Resetting
from parl.core.spec import Box, EnvSpec
from parl.core.types import Step
from parl.models import Ensemble
from parl.models.control import ORTHOGONAL, Critic, DeterministicPolicy, SquashedNormalPolicy
from parl.models.torsos import FlashTorso, SimBa, SimBaV2, SimBaV2Head
from parl.ops.noise import Colored, OrnsteinUhlenbeck, Repeated, White
from parl.ops.value_distributions import HLGauss, Quantiles
from parl.recipes import make_recipe

CHEETAH = EnvSpec("HalfCheetah-v4", Box((17,)), Box((6,), low=-1.0, high=1.0), max_steps=1000)
SHORT = EnvSpec("jax:Pendulum-v1", Box((3,)), Box((1,), low=-1.0, high=1.0), max_steps=200)
KINDS = {
    "sac": SAC,
    "td3": TD3,
    "ddpg": TD3,
    "d4pg": TD3,
    "oac": OAC,
    "tqc": TQC,
    "redq": REDQ,
    "droq": REDQ,
    "crossq": CrossQ,
    "simba": SAC,
    "simbav2": SAC,
    "flashsac": FlashSAC,
}
FROM_DATA = "bc", "td3_bc", "awac", "implicit_q", "cql", "rebrac", "rlpd"


def rule(name: str, spec: EnvSpec = CHEETAH, **changes: Any) -> Any:
    """The algorithm of a recipe, without the wrapper."""
    recipe = make_recipe(name, spec).override(changes)
    learner = recipe.learner(spec, 100_000, recipe.num_envs)
    assert isinstance(learner, OffPolicy)
    algorithm = learner.algorithm
    return algorithm.inner if isinstance(algorithm, Normalized) else algorithm


def weights(name: str, part: str, **changes: Any) -> int:
    """Numbers in the actor's or the critics' parameters."""
    algorithm = rule(name, **changes)
    state = jax.eval_shape(lambda key: algorithm.init(key, CHEETAH), jax.random.key(0))
    params = getattr(state, part).params
    return sum(int(np.prod(x.shape)) for x in jax.tree.leaves(params["params"]))


@pytest.mark.parametrize("name", KINDS)
def test_each_name_is_an_algorithm_with_its_networks(name: str) -> None:
    assert type(rule(name)) is KINDS[name]


def dense(*sizes: int) -> int:
    """Weights and biases of a perceptron."""
    return sum(a * b + b for a, b in pairwise(sizes))


def test_networks_have_the_published_width() -> None:
    """HalfCheetah: 17 observations, 6 actions."""
    plain = dense(23, 256, 256, 1)
    assert weights("sac", "critic") == weights("oac", "critic") == 2 * plain
    assert weights("td3", "critic") == 2 * plain and weights("ddpg", "critic") == plain
    assert weights("td3", "actor") == dense(17, 256, 256, 6)
    assert weights("redq", "critic") == 10 * plain
    assert weights("droq", "critic") == 2 * (plain + 4 * 256)  # layer norms
    assert weights("tqc", "critic") == 5 * dense(23, 512, 512, 512, 25)
    assert weights("crossq", "critic") == 2 * (dense(23, 2048, 2048, 1) + 2 * (23 + 2 * 2048))
    block = dense(512, 2048, 512) + 2 * 512
    assert weights("simba", "critic") == 2 * (dense(23, 512) + 2 * block + 2 * 512 + dense(512, 1))
    block = 2 * 512 * 2048 + 2048 + 512  # kernels, scalers of hidden layer and interpolation
    head = 512 * 512 + 512 + 512 * 101 + 101
    assert weights("simbav2", "critic") == 2 * (24 * 512 + 512 + 2 * block + head)
    block = 2 * 256 * 1024 + 2 * (1024 + 256)
    torso = 2 * 23 + 23 * 256 + 2 * block + 256
    assert weights("flashsac", "critic") == 2 * (torso + 256 * 101 + 101)


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("tqc", {"hidden": (8,), "actor_hidden": (8,)}),
        ("crossq", {"hidden": (8, 8), "actor_hidden": (8,)}),
        ("simba", {"width": 8, "actor_width": 4}),
        ("simbav2", {"width": 8, "actor_width": 4}),
        ("flashsac", {"width": 8, "actor_width": 4}),
    ],
)
def test_width_is_a_setting(name: str, changes: dict[str, Any]) -> None:
    for part in ("actor", "critic"):
        assert weights(name, part, **changes) < weights(name, part) / 20


def test_settings_of_the_papers() -> None:
    settings = {name: make_recipe(name, CHEETAH).settings() for name in KINDS}
    per_step = {name: s["updates"] / s["length"] for name, s in settings.items()}
    many = {"redq": 20, "droq": 20, "simba": 2, "simbav2": 2}
    assert per_step == {name: many.get(name, 1) for name in KINDS}
    periods = {"td3": 2, "redq": 20, "droq": 20, "crossq": 3, "flashsac": 2}
    assert {n: s["policy_period"] for n, s in settings.items()} == {
        name: periods.get(name, 1) for name in KINDS
    }
    entropy = {n: s["target_entropy"] for n, s in settings.items() if "target_entropy" in s}
    assert entropy.pop("flashsac") == pytest.approx(6 * -0.4782, abs=1e-3)
    full = {"oac", "tqc", "crossq"}
    assert entropy == {name: -6 if name in full else -3 for name in entropy}
    assert settings["tqc"]["drop"] == 0 and rule("tqc", SHORT).drop == 2
    assert settings["simba"]["gamma"] == settings["simbav2"]["gamma"] == 0.995
    assert rule("simba", SHORT).gamma == pytest.approx(0.975)
    assert settings["flashsac"]["batch_size"] == 512
    normalized = {name for name, s in settings.items() if s["normalize_obs"]}
    assert normalized == {"simba", "simbav2"}


def test_networks_and_settings_of_what_learns_from_data() -> None:
    wide, wider = dense(23, 256, 256, 1), dense(23, 256, 256, 256, 1)
    assert weights("td3_bc", "critic") == weights("implicit_q", "critic") == 2 * wide
    assert weights("awac", "critic") == weights("cql", "critic") == 2 * wider
    assert weights("awac", "actor") == dense(17, 256, 256, 256, 6) + 6
    assert weights("implicit_q", "value") == dense(17, 256, 256, 1)
    assert weights("rebrac", "critic") == 2 * (wider + 3 * 2 * 256)  # layer norms
    assert weights("rlpd", "critic") == 10 * (wide + 2 * 2 * 256)
    assert weights("d4pg", "critic") == dense(23, 256, 256, 51)
    settings = {name: make_recipe(name, CHEETAH).settings() for name in (*FROM_DATA, "d4pg")}
    normalised = {name for name, s in settings.items() if s["normalize_obs"]}
    assert normalised == {"bc", "td3_bc", "awac", "implicit_q", "cql"}
    of = lambda name, *keys: tuple(settings[name][key] for key in keys)
    assert of("cql", "entropy_backup", "conservatism", "samples", "target_entropy") == (
        False, 5.0, 10, -6.0,
    )  # fmt: skip
    assert of("rlpd", "entropy_backup", "subset", "updates", "policy_period", "length") == (
        True, 2, 20, 20, 1,
    )  # fmt: skip
    assert of("rebrac", "batch_size", "learning_rate", "policy_period") == (1_024, 1e-3, 2)
    assert of("implicit_q", "expectile", "inverse_temperature", "largest_weight") == (0.7, 3, 100)
    assert of("awac", "inverse_temperature", "largest_weight", "anneal") == (3, 100, False)
    assert of("d4pg", "n_step", "bins", "policy_period", "smoothing", "exploration") == (
        5, 51, 1, 0.0, 0.3,
    )  # fmt: skip


def test_rebrac_begins_with_small_last_layers() -> None:
    state = rule("rebrac").init(jax.random.key(0), CHEETAH)
    actor, critics = state.actor.params["params"], state.critic.params["params"]["member"]
    for net, bound in ((actor, 1e-3), (critics, 3e-3)):
        last = jax.tree.leaves(net["Dense_0"])
        largest = max(np.abs(x).max() for x in last)
        assert 0.9 * bound < largest <= bound
        assert all(x.any() for x in last)


def test_the_rate_of_implicit_q_falls_by_half_a_cosine() -> None:
    rate = annealed_by_cosine(2.0, 100)
    np.testing.assert_allclose(
        [rate(n) for n in (0, 25, 50, 100)], [2, 1 + 0.5**0.5, 1, 0], atol=1e-6
    )
    assert annealed_by_cosine(2.0, 0) == 2.0
    assert rule("implicit_q").anneal_updates == 100_000 and rule("awac").anneal_updates == 0


def test_resets_are_inside_of_the_normalisation() -> None:
    recipe = make_recipe("simba", CHEETAH).override({"reset_every": 100})
    algorithm: Any = recipe.learner(CHEETAH, 100_000, 1).algorithm
    assert isinstance(algorithm, Normalized) and isinstance(algorithm.inner, Resetting)
    assert algorithm.inner.period == 100 and algorithm.inner.spec is CHEETAH
    assert type(algorithm.inner.inner) is SAC and not isinstance(rule("sac"), Resetting)


def test_exploration_noise() -> None:
    noise = {name: rule(name).noise for name in KINDS}
    assert noise.pop("flashsac") == Repeated(6, 2.0, 16)
    assert set(noise.values()) == {White()}
    assert rule("sac", noise_color=1.0).noise == Colored(6, 1.0)
    assert rule("flashsac", noise_color=1.0).noise == Colored(6, 1.0)
    assert rule("ddpg", noise_theta=0.15).noise == OrnsteinUhlenbeck(6, 0.15)


def rates(optimizer: Any, steps: int) -> np.ndarray:
    """Learning rates of an Adam under a constant gradient: the sizes of its steps."""
    params = jnp.zeros(1)
    step = lambda state, _: optimizer.update(jnp.ones(1), state, params)[::-1]
    run = jax.jit(lambda: jax.lax.scan(step, optimizer.init(params), length=steps)[1])
    return -np.asarray(run())[:, 0]


def test_learning_rates_fall_to_half_over_the_run() -> None:
    """SimbaV2 linearly, FlashSAC along a cosine; here over 8 and 16 updates."""
    for name, middle in (("simbav2", 0.75), ("flashsac", 0.75), ("sac", 1.0)):
        recipe: Any = make_recipe(name, CHEETAH)
        seen = rates(recipe.optimizer(8)(0.1), 10)
        end = 1.0 if name == "sac" else 0.5
        np.testing.assert_allclose(
            seen[[0, 4, 8, 9]], np.array([1, middle, end, end]) / 10, rtol=1e-4
        )
    quarter = rates(make_recipe("flashsac", CHEETAH).optimizer(8)(0.1), 3)[2]  # type: ignore
    np.testing.assert_allclose(quarter, 0.1 * (0.5 + 0.25 * (1 + np.cos(np.pi / 4))), rtol=1e-4)
    steps = make_recipe("simbav2", CHEETAH).override({"warmup": 100, "length": 4, "updates": 2})
    algorithm: Any = steps.learner(CHEETAH, 120, 1).algorithm
    np.testing.assert_allclose(rates(algorithm.inner.optimizer(1.0), 11)[10], 0.5, rtol=1e-4)


def test_weight_decay_and_momentum() -> None:
    """AdamW shrinks a weight without a gradient; beta1 = 0.5 forgets sooner than 0.9."""
    optimizer = rule("simba").optimizer(0.1)
    params = {"kernel": jnp.ones((2, 2)), "alpha": jnp.ones(())}
    updates, _ = optimizer.update(
        jax.tree.map(jnp.zeros_like, params), optimizer.init(params), params
    )
    np.testing.assert_allclose(updates["kernel"], np.full((2, 2), -0.1 * 0.01), rtol=1e-5)
    assert updates["alpha"] == 0.0

    def second(optimizer: Any) -> float:
        """The step after a gradient of 1 was followed by one of 0."""
        state = optimizer.init(jnp.zeros(()))
        _, state = optimizer.update(jnp.ones(()), state)
        return float(optimizer.update(jnp.zeros(()), state)[0])

    root = np.sqrt((1 - 0.999**2) / (0.999 * 0.001))  # of the second moment's bias correction
    np.testing.assert_allclose(
        second(rule("crossq").optimizer(1.0)), -(0.25 / 0.75) * root, rtol=1e-3
    )
    np.testing.assert_allclose(second(rule("sac").optimizer(1.0)), -(0.09 / 0.19) * root, rtol=1e-3)


def test_scaled_rewards_know_the_environments_that_collect() -> None:
    for name in ("simbav2", "flashsac"):
        recipe = make_recipe(name, CHEETAH).override({"num_envs": 3, "return_bound": 4.0})
        algorithm: Any = recipe.learner(CHEETAH, 1000, 3).algorithm
        assert algorithm.num_envs == 3 and algorithm.return_bound == 4.0
        assert algorithm.normalize_reward and algorithm.gamma == algorithm.inner.gamma
        values = jax.eval_shape(
            lambda key, inner=algorithm.inner: inner.critic.apply(
                inner.init(key, CHEETAH).critic.params, CHEETAH.obs, CHEETAH.action
            ),
            jax.random.key(0),
        )
        assert (values.low, values.high, values.logits.shape) == (-4.0, 4.0, (2, 1, 101))


SPACE = CHEETAH.observation_space
OTHER_BODIES = {
    "td3 on simba": TD3(
        actor=DeterministicPolicy(SPACE, 6, SimBa(4, 1), ORTHOGONAL),
        critic=Ensemble(Critic(SPACE, SimBa(8, 1), linear=ORTHOGONAL)),
    ),
    "tqc on simbav2": TQC(
        actor=SquashedNormalPolicy(SPACE, 6, SimBaV2(4, 1), partial(SimBaV2Head, width=4)),
        critic=Ensemble(Critic(SPACE, SimBaV2(8, 1), 5, Quantiles, partial(SimBaV2Head, width=8))),
    ),
    "redq on flash": REDQ(
        actor=SquashedNormalPolicy(SPACE, 6, FlashTorso(4, 1)),
        critic=Ensemble(Critic(SPACE, FlashTorso(8, 1), 5, HLGauss), 3),
    ),
}


@pytest.mark.parametrize("name", quick(OTHER_BODIES, "tqc on simbav2"))
def test_any_algorithm_takes_any_body_and_head(name: str) -> None:
    """Shapes only: an update gives a state like the one it got."""
    algorithm: Any = OTHER_BODIES[name]
    number, flag = jnp.zeros(2), jnp.zeros(2, bool)
    obs, action = jnp.zeros((2, 17)), jnp.zeros((2, 6))
    batch = Step(obs, action, number, number, obs, flag, flag, {})

    def two(key: Any) -> Any:
        state = algorithm.init(key, CHEETAH)
        after, metrics = algorithm.update(state, batch, key)
        return state, after, metrics

    before, after, metrics = jax.eval_shape(two, jax.random.key(0))
    assert jax.tree.structure(before) == jax.tree.structure(after)
    jax.tree.map(
        lambda a, b: np.testing.assert_equal((a.shape, a.dtype), (b.shape, b.dtype)), before, after
    )
    assert {"critic_loss", "actor_loss"} <= metrics.keys()
