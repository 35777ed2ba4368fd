"""Steps per second of PARL-JAX in one setting; the last line printed is a JSON object.

    python experiments/bench/ours.py sac --length 8 --updates 8
    python experiments/bench/ours.py tqc --set "num_critics=2" --set "actor_hidden=[64, 64]"
    python experiments/bench/ours.py sac --bare
    python experiments/bench/ours.py ppo --env CartPole-v1
    python experiments/bench/ours.py fused-ppo --num-seeds 8
    python experiments/bench/ours.py ippo --env jax:simple_spread --set num_envs=16

The clock runs over whole iterations after everything is compiled and learning has begun.
"""

import argparse
import json
import time
from typing import Any, NamedTuple

import jax
import numpy as np

import parl
from parl.agents.execution.protocol import Execution
from parl.agents.learner import OffPolicy
from parl.api import prepare
from parl.core.yaml_text import parse_yaml
from parl.runs.build import resolve
from parl.runs.config import RunConfig
from parl.runs.executions import make_execution


class Timing(NamedTuple):
    """What was done in which time, over all seeds."""

    steps: int  # of environments
    seconds: float
    updates: int = 0  # of off-policy algorithms


def timed(execution: Execution, steps: int) -> Timing:
    """Some iterations of learning."""
    iterations = max(steps // execution.steps_per_iteration, 1)
    start = time.perf_counter()
    execution.advance(iterations)
    jax.block_until_ready(execution.algorithm_state)
    seconds = time.perf_counter() - start
    iterations *= len(execution.seeds.values)
    learner = execution.learner
    updates = iterations * learner.updates if isinstance(learner, OffPolicy) else 0
    return Timing(iterations * execution.steps_per_iteration, seconds, updates)


def warmed(config: RunConfig, iterations: int = 4) -> Execution:
    """An execution that has begun to learn."""
    execution = make_execution(resolve(config))
    execution.advance(execution.warmup + iterations)
    return execution


def chosen(arguments: argparse.Namespace) -> dict[str, Any]:
    """The settings that --set gives."""
    parts = (text.partition("=") for text in arguments.set)
    return {name: parse_yaml(value) for name, _, value in parts}


def off_policy(arguments: argparse.Namespace) -> Timing:
    """An off-policy recipe, one update per environment step unless told otherwise."""
    settings = {
        "length": arguments.length,
        "updates": arguments.updates,
        "capacity": arguments.capacity,
        "warmup": 1_000,
    } | chosen(arguments)
    config = RunConfig(
        arguments.job,
        arguments.env,
        num_seeds=arguments.num_seeds,
        execution=arguments.execution,
        settings=settings,
    )
    return bare(config, arguments) if arguments.bare else timed(warmed(config), arguments.steps)


def ppo(arguments: argparse.Namespace) -> Timing:
    """PPO on eight host environments, with the peer's settings and no normalisation."""
    shapes = {"CartPole-v1": (32, 1, 20), "HalfCheetah-v5": (256, 32, 10)}
    length, minibatches, epochs = shapes[arguments.env]
    settings: dict[str, Any] = {
        "num_envs": 8,
        "length": length,
        "minibatches": minibatches,
        "epochs": epochs,
        "normalize_obs": False,
        "normalize_reward": False,
    }
    config = RunConfig("ppo", arguments.env, steps=10**7, execution="host", settings=settings)
    return timed(warmed(config), arguments.steps)


def fused_ppo(arguments: argparse.Namespace) -> Timing:
    """PPO on CartPole with PureJaxRL's settings, the environment inside the program."""
    settings = {
        "num_envs": 4,
        "length": 128,
        "epochs": 4,
        "minibatches": 4,
        "learning_rate": 2.5e-4,
        "gamma": 0.99,
        "lambda_": 0.95,
        "entropy_cost": 0.01,
    }
    return recipe("ppo", "jax:CartPole-v1", settings, arguments)


def own_settings(arguments: argparse.Namespace) -> Timing:
    """A recipe with the settings of --set and no others."""
    return recipe(arguments.job, arguments.env, chosen(arguments), arguments)


def recipe(name: str, env: str, settings: dict[str, Any], arguments: argparse.Namespace) -> Timing:
    """A recipe with some settings, where auto would run it."""
    steps, seeds = arguments.steps, arguments.num_seeds
    config = RunConfig(name, env, steps=steps, num_seeds=seeds, settings=settings)
    return timed(warmed(config, iterations=8), steps)


def bare(config: RunConfig, arguments: argparse.Namespace) -> Timing:
    """The jitted update alone on one batch: what no loop around it can beat.

    As many updates as the steps would have had.
    """
    parts = resolve(config)
    learner: Any = parts.learner
    algorithm, spec, n = learner.algorithm, parts.factory.spec, learner.batch_size
    draw = np.random.default_rng(0)
    obs = draw.normal(size=(2, n, *spec.obs.shape[1:])).astype(np.float32)
    action = draw.uniform(-1, 1, (n, *spec.action.shape[1:])).astype(np.float32)
    reward, flag = draw.normal(size=n).astype(np.float32), np.zeros(n, bool)
    batch = parl.Step(obs[0], action, reward, np.ones(n, np.float32), obs[1], flag, flag, {})
    batch, key = jax.device_put((batch, jax.random.key(0)))
    state = jax.jit(lambda key: algorithm.init(key, spec))(key)
    update = jax.jit(algorithm.update, donate_argnums=0)
    for _ in range(50):
        state, _ = update(state, batch, key)
    jax.block_until_ready(state)
    updates = arguments.steps * arguments.updates // arguments.length
    start = time.perf_counter()
    for _ in range(updates):
        state, _ = update(state, batch, key)
    jax.block_until_ready(state)
    return Timing(arguments.steps, time.perf_counter() - start, updates)


def main() -> None:
    replayed = "sac td3 tqc crossq droq redq simba simbav2 flashsac dqn"
    jobs = dict.fromkeys(replayed.split(), off_policy) | {"ppo": ppo, "fused-ppo": fused_ppo}
    jobs |= dict.fromkeys(("ippo", "qmix", "pqn"), own_settings)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job", choices=jobs)
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--execution", default="auto")
    parser.add_argument("--steps", type=int, default=3_000)
    parser.add_argument("--length", type=int, default=8)
    parser.add_argument("--updates", type=int, default=8)
    parser.add_argument("--capacity", type=int, default=1_000_000)
    parser.add_argument("--num-seeds", type=int, default=1)
    parser.add_argument("--bare", action="store_true", help="the update alone, without a loop")
    parser.add_argument("--set", action="append", default=[], metavar="NAME=VALUE")
    arguments = parser.parse_args()
    prepare()
    steps, seconds, updates = jobs[arguments.job](arguments)
    summary = {"peer": "parl-jax", "version": parl.__version__} | vars(arguments)
    found = {"steps": steps, "seconds": seconds, "steps_per_second": steps / seconds}
    if updates:
        found["updates_per_second"] = updates / seconds
    print(json.dumps(summary | found))


if __name__ == "__main__":
    main()
