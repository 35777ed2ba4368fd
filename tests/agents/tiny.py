"""Tiny runs of every algorithm in the executions of this process."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import numpy as np
from team_games import Scatter

from parl.agents.execution.collector import Collector
from parl.agents.execution.fused import Fused
from parl.agents.execution.offline import Data, Offline
from parl.agents.execution.pool import InlinePool
from parl.agents.execution.pooled import Pooled
from parl.agents.execution.protocol import Execution, Seeds
from parl.agents.learner import FromData, Learner, OffPolicy
from parl.agents.replay.ring import Layout
from parl.core import checkpoint
from parl.core.algorithm import Algorithm
from parl.core.seeding import env_seed
from parl.core.spec import EnvSpec, example
from parl.core.types import Step
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.adapters.gymnasium_make import make_gymnasium
from parl.envs.classic.bit_flip import BitFlip
from parl.envs.classic.cartpole import CartPole
from parl.envs.classic.pendulum import Pendulum
from parl.envs.factory import from_jax
from parl.envs.jax_vector import JaxVectorEnv
from parl.envs.multi.board_games import TIC_TAC_TOE
from parl.envs.multi.poker import KUHN
from parl.recipes import make_recipe
from parl.runs.data import items_of

OFF_POLICY = {"capacity": 100, "batch_size": 4, "updates": 2, "warmup": 30}
NARROW = OFF_POLICY | {"width": 4, "actor_width": 4, "blocks": 1, "actor_blocks": 1}
CONTROL: dict[str, dict[str, Any]] = {
    "td3": OFF_POLICY | {"noise_color": 1.0},
    "ddpg": OFF_POLICY | {"noise_theta": 0.15},
    "d4pg": OFF_POLICY | {"bins": 5},
    "oac": OFF_POLICY,
    "tqc": OFF_POLICY | {"actor_hidden": (6,), "num_critics": 2, "quantiles": 3, "drop": 1},
    "redq": OFF_POLICY | {"num_critics": 3, "policy_period": 2},
    "droq": OFF_POLICY | {"policy_period": 2, "dropout": 0.2},
    "crossq": OFF_POLICY | {"actor_hidden": (6,), "renorm_after": 5},
    "simba": NARROW,
    "simbav2": NARROW | {"bins": 5},
    "flashsac": NARROW | {"bins": 5},
    "tdmpc2": OFF_POLICY
    | {"width": 4, "latent": 8, "num_critics": 3, "bins": 5, "sequences": 6}
    | {"proposals": 2, "elites": 3, "iterations": 2},
}
FROM_VALUES = OFF_POLICY | {"target_period": 3, "epsilon_steps": 80}
VALUES: dict[str, dict[str, Any]] = {
    "qrdqn": FROM_VALUES | {"quantiles": 3},
    "c51": FROM_VALUES | {"bins": 5},
    "iqn": FROM_VALUES | {"quantiles": 3, "hidden": (4, 4), "noisy": True},
    "rainbow": FROM_VALUES | {"bins": 5},
    "munchausen": FROM_VALUES,
    "r2d2": FROM_VALUES
    | {"window": 7, "burn_in": 3, "n_step": 2, "memory_size": 3, "normalize_obs": True},
    "dsac": OFF_POLICY,
    "her": FROM_VALUES | {"her": True, "n_step": 2},
    "pqn": {"epochs": 2, "minibatches": 2, "epsilon_steps": 80, "recurrent": "gru"}
    | {"memory_size": 3, "hidden": (4,)},
}
FROM_DATA: dict[str, dict[str, Any]] = {
    "bc": OFF_POLICY,
    "dagger": OFF_POLICY,
    "td3_bc": OFF_POLICY,
    "awac": OFF_POLICY,
    "implicit_q": OFF_POLICY,
    "cql": OFF_POLICY | {"samples": 2},
    "rebrac": OFF_POLICY,
    "rlpd": OFF_POLICY | {"num_critics": 3, "policy_period": 2},
    "dt": OFF_POLICY | {"window": 4, "width": 4, "layers": 1, "heads": 2, "target_return": -50.0},
}
CONTROL |= FROM_DATA
WINDOWS = OFF_POLICY | {"window": 7, "burn_in": 3, "memory_size": 3}
CONTROL |= {
    "sac with memory": WINDOWS | {"recurrent": "gru", "normalize_obs": True},
    "td3 with memory": WINDOWS | {"recurrent": "lru", "priority": 0.6, "noise_color": 1.0},
}
SEGMENTS = OFF_POLICY | {"capacity": 10, "target_period": 3, "epsilon_steps": 80}
MEMORY = {"recurrent": "gru", "memory_size": 3, "hidden": (4,)}
TEAM: dict[str, dict[str, Any]] = {
    "ippo": {"epochs": 2, "minibatches": 2, "sharing": "none", "agent_id": True},
    "mappo": {"epochs": 2, "minibatches": 1, "sharing": "group"} | MEMORY,
    "iql": SEGMENTS,
    "vdn": SEGMENTS | {"sharing": "none"},
    "qmix": SEGMENTS | MEMORY,
    "pqn_vdn": {"epochs": 2, "minibatches": 2, "epsilon_steps": 80},
    "maddpg": OFF_POLICY,
    "matd3": OFF_POLICY,
    "coma": {"epochs": 2, "minibatches": 2, "target_period": 2},
}
GAMES: dict[str, dict[str, Any]] = {
    "mmd": {"epochs": 2, "minibatches": 2, "magnet_every": 2, "transform_rewards": True},
    "nfsp": SEGMENTS | {"reservoir": 20, "average_batch": 4, "anticipation": 0.5},
    "psro": {"epochs": 2, "minibatches": 2, "responses": 1}
    | {"response_rollouts": 2, "measure_rollouts": 1},
}
SEARCHING = {"capacity": 100, "batch_size": 4, "updates": 2, "simulations": 3}
SEARCH: dict[str, dict[str, Any]] = {
    "az": SEARCHING | {"random_moves": 0.2},
    "muzero": SEARCHING | {"warmup": 30, "latent": 4, "bins": 5, "unroll": 2, "n_step": 2},
}
SETTINGS: dict[str, dict[str, Any]] = (
    {
        "ppo": {"epochs": 2, "minibatches": 2},
        "dqn": OFF_POLICY | {"target_period": 3, "epsilon_steps": 80},
        "sac": OFF_POLICY,
        "es": {"noise_size": 1_000},
        "normalized": {
            "normalize_obs": True,
            "normalize_reward": True,
            "epochs": 2,
            "minibatches": 2,
        },
        "recurrent": {"recurrent": "gru", "memory_size": 3, "hidden": (), "normalize_obs": True},
        "pg": {},
    }
    | CONTROL
    | VALUES
    | TEAM
    | SEARCH
    | GAMES
)
# where it is not the name above
RECIPE = {"normalized": "ppo", "recurrent": "impala", "her": "dqn"}
RECIPE |= {"sac with memory": "sac", "td3 with memory": "td3"}
NUM_ENVS, LENGTH = 2, 8
# time limits short enough to be met
CARTPOLE, PENDULUM = CartPole(max_steps=13), Pendulum(max_steps=9)
SHORT = Pendulum(max_steps=5)  # within a rollout
ENVS: dict[str, Any] = {
    "ppo": CARTPOLE,
    "dqn": CARTPOLE,
    "sac": PENDULUM,
    "es": SHORT,
    "normalized": PENDULUM,
    "recurrent": CARTPOLE,
    "pg": CARTPOLE,
} | dict.fromkeys(CONTROL, PENDULUM)
ENVS |= dict.fromkeys(VALUES, CARTPOLE) | {"her": BitFlip(5)}
ENVS |= dict.fromkeys(TEAM, Scatter()) | {
    "mappo": Scatter(turns=True),
    "matd3": Scatter(continuous=True),
}
ENVS |= {"az": TIC_TAC_TOE, "muzero": CARTPOLE} | dict.fromkeys(GAMES, KUHN)
GYMNASIUM = {CARTPOLE: "CartPole-v1", PENDULUM: "Pendulum-v1", SHORT: "Pendulum-v1"}
SEEDS = {1: Seeds((5,)), 2: Seeds((5, 6), vmapped=True)}


@dataclass(frozen=True)
class Case:
    """What to run; `execution` is fused, host (of the JAX env), gymnasium or offline."""

    algorithm: str
    execution: str
    num_seeds: int

    def __str__(self) -> str:
        return f"{self.algorithm}-{self.execution}-{self.num_seeds}"


def make_learner(algorithm: str, **changes: Any) -> Learner:
    spec = from_jax(ENVS[algorithm]).spec
    recipe = make_recipe(RECIPE.get(algorithm, algorithm), spec)
    settings = {"hidden": (6,)} if "hidden" in recipe.types() else {}
    settings |= {"length": LENGTH, "num_envs": NUM_ENVS} | SETTINGS[algorithm]
    recipe = recipe.override(settings | changes)
    return recipe.with_goals(recipe.learner(spec, 10_000, NUM_ENVS), spec)


def make_env(case: Case, seed: int) -> Any:
    if case.execution == "host":
        return JaxVectorEnv(ENVS[case.algorithm], NUM_ENVS, seed)
    env = ENVS[case.algorithm]
    maker = make_gymnasium(GYMNASIUM[env], max_episode_steps=env.max_steps)
    return GymnasiumVectorEnv(maker, NUM_ENVS, seed)


def data_for(spec: EnvSpec, algorithm: Algorithm | None = None, count: int = 60) -> Data:
    """Episodes of 6 steps, of which every second one terminates, packed as an algorithm's items."""
    rng, place = np.random.default_rng(0), np.arange(count)
    filled = lambda x: rng.normal(size=x.shape).astype(x.dtype)
    obs, after = (jax.tree.map(filled, example(spec.observation_space, (count,))) for _ in "ab")
    like = example(spec.action_space, (count,))
    action = (
        rng.integers(0, 2, like.shape) if like.dtype.kind == "i" else rng.uniform(-1, 1, like.shape)
    )
    first, last = place % 6 == 0, place % 6 == 5
    discount = np.where(place % 12 == 11, 0.0, 1.0).astype(np.float32)
    reward = rng.normal(size=count).astype(np.float32)
    steps = Step(obs, action.astype(like.dtype), reward, discount, after, first, last, {})
    items = steps if algorithm is None else items_of(algorithm, steps)
    layout = Layout.of(items)
    return Data(layout.pack(items, np), layout, "0" * 64)


def from_data(learner: Learner, share: float = 1.0) -> FromData:
    """The learner with batches of which a share is from data."""
    assert isinstance(learner, OffPolicy)
    return FromData(**vars(learner), share=share)


def make(case: Case, **changes: Any) -> Execution:
    """A new run at its start."""
    learner, seeds = make_learner(case.algorithm, **changes), SEEDS[case.num_seeds]
    if case.execution == "offline":
        spec = ENVS[case.algorithm].spec
        return Offline(spec, from_data(learner), seeds, data_for(spec, learner.algorithm))
    if case.execution == "fused":
        return Fused(ENVS[case.algorithm], learner, seeds, NUM_ENVS, LENGTH)
    envs = [make_env(case, env_seed(seed, 0)) for seed in seeds.values]
    collector = Collector(envs, learner.algorithm, seeds)
    return Pooled(InlinePool([collector], LENGTH), envs[0].spec, learner, seeds, NUM_ENVS, LENGTH)


def save(run: Execution, path: Path) -> checkpoint.Checkpoint:
    """The run's snapshot by way of the disk."""
    snapshot = run.snapshot()
    checkpoint.save(path, snapshot.tree, snapshot.meta)
    return checkpoint.read(path)


def state_of(run: Execution) -> dict[str, Any]:
    """Everything the run is, by name, as numpy arrays."""
    leaves = checkpoint.named_leaves(run.snapshot().tree)
    return {name: checkpoint.to_numpy(leaf).copy() for name, leaf in leaves.items()}


def params_of(run: Execution) -> dict[str, Any]:
    """All that is learned, by name, as numpy arrays."""
    return checkpoint.named_leaves(jax.device_get(run.algorithm_state))
