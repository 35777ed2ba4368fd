"""Moves of self-play with a search: az in fused execution beside a loop of mctx and pgx by hand.

    python experiments/bench/search.py --simulations 16

Both play pgx' connect four in 64 games at once with a network of two layers of 128 units, in one
program of some moves; the loop does nothing but search and play. CPU seconds, in turn, the best of
each. It needs pgx.
"""

import time
from collections.abc import Callable
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import mctx
import pgx  # pyright: ignore[reportMissingImports]
import tyro

from parl.agents.execution.fused import ActorState, collect
from parl.envs import jax_vector
from parl.envs.factory import make_factory, with_simulator
from parl.recipes import make_recipe

GAMES, HIDDEN = 64, (128, 128)


def ours(simulations: int, length: int, **settings: Any) -> tuple[Callable[..., Any], Any]:
    """(a program of `length` moves in each game, its arguments)."""
    factory = with_simulator(make_factory("pgx:connect_four"))
    assert factory.jax is not None
    changes = {"hidden": HIDDEN, "simulations": simulations, "num_envs": GAMES} | settings
    recipe = make_recipe("az", factory.spec).override(changes)
    algorithm = recipe.learner(factory.spec, 1, GAMES).algorithm
    policy = algorithm.policy(algorithm.init(jax.random.key(0), factory.spec))
    vector = jax_vector.reset(factory.jax, jax.random.key(1), GAMES)
    fresh = jnp.ones(GAMES, bool), (), jnp.zeros(GAMES), jnp.zeros(GAMES, jnp.int32)
    program = jax.jit(partial(collect, factory.jax, algorithm, length=length))
    return program, (policy, ActorState(vector, *fresh), jax.random.key(2))


def by_hand(simulations: int, length: int) -> tuple[Callable[..., Any], Any]:
    """The same, written for this game alone."""
    game, sizes = pgx.make("connect_four"), (84, *HIDDEN)
    keys = jax.random.split(jax.random.key(0), 4)
    layer = lambda key, size, out: (
        jax.random.normal(key, (size, out)) * size**-0.5,
        jnp.zeros(out),
    )
    body = [layer(*x) for x in zip(keys, sizes, HIDDEN, strict=False)]
    params = body, layer(keys[2], HIDDEN[-1], 7), layer(keys[3], HIDDEN[-1], 1)

    def network(params: Any, state: Any) -> tuple[Any, Any]:
        layers, policy, value = params
        x = state.observation.reshape(-1, 84).astype(jnp.float32)
        for w, b in layers:
            x = jax.nn.relu(x @ w + b)
        logits = jnp.where(state.legal_action_mask, x @ policy[0] + policy[1], -1e9)
        return logits, jnp.tanh(x @ value[0] + value[1])[:, 0]

    def recurrent(params: Any, key: Any, action: Any, state: Any) -> Any:
        mover = state.current_player
        state = jax.vmap(game.step)(state, action)
        logits, value = network(params, state)
        told = {
            "reward": jnp.take_along_axis(state.rewards, mover[:, None], 1)[:, 0],
            "discount": jnp.where(state.terminated, 0.0, -1.0),
            "prior_logits": logits,
            "value": jnp.where(state.terminated, 0.0, value),
        }
        return mctx.RecurrentFnOutput(**told), state

    def play(params: Any, state: Any, key: Any) -> Any:
        def step(state: Any, key: Any) -> Any:
            k_search, k_reset = jax.random.split(key)
            logits, value = network(params, state)
            told: Any = {"prior_logits": logits, "value": value, "embedding": state}
            found: Any = mctx.gumbel_muzero_policy(
                params, k_search, mctx.RootFnOutput(**told), recurrent, simulations,
                invalid_actions=~state.legal_action_mask,
            )  # fmt: skip
            after = jax.vmap(game.step)(state, found.action)
            fresh = jax.vmap(game.init)(jax.random.split(k_reset, GAMES))
            choose = lambda a, b: jnp.where(after.terminated.reshape(-1, *[1] * (a.ndim - 1)), a, b)
            kept = state.observation, found.action_weights, after.rewards, after.terminated
            return jax.tree.map(choose, fresh, after), kept

        return jax.lax.scan(step, state, jax.random.split(key, length))

    state = jax.vmap(game.init)(jax.random.split(keys[0], GAMES))
    return jax.jit(play), (params, state, jax.random.key(1))


def cpu_seconds(program: Callable[..., Any], arguments: Any) -> float:
    """Of one call."""
    before = time.process_time()
    jax.block_until_ready(program(*arguments))
    return time.process_time() - before


def main(simulations: int = 16, length: int = 32, rounds: int = 5) -> None:
    """Prints the moves per CPU second of both, and their ratio."""
    found = {"ours": ours(simulations, length), "by hand": by_hand(simulations, length)}
    for case in found.values():
        cpu_seconds(*case)  # compiles
    best = dict.fromkeys(found, float("inf"))
    for _ in range(rounds):
        for who, case in found.items():
            best[who] = min(best[who], cpu_seconds(*case))
    rate = {who: GAMES * length / seconds for who, seconds in best.items()}
    print(", ".join(f"{who} {x:,.0f}" for who, x in rate.items()), "moves per CPU second")
    print(f"ratio {rate['ours'] / rate['by hand']:.2f}")


if __name__ == "__main__":
    tyro.cli(main)
