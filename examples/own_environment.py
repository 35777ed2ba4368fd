"""An environment of one's own in JAX: stepped fused with learning, on the host, and checked.

    python examples/own_environment.py [DIR]

In this folder `parl train ppo --env own_environment:Corridor --env-arg length=12` takes it, too.
"""

import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp

import parl


class State(NamedTuple):
    """Where the walker is, and since when."""

    place: jax.Array  # [] int32
    time: jax.Array  # [] int32


class Corridor:
    """Walk to the right end: a reward of 1 there, -0.01 for each step."""

    def __init__(self, length: int = 8):
        self.length = length
        self.spec = parl.EnvSpec("Corridor", parl.Box((1,)), parl.Discrete(2), max_steps=50)

    def view(self, state: State) -> jax.Array:
        """[1] the share of the way."""
        return jnp.reshape(state.place / self.length, (1,)).astype(jnp.float32)

    def reset(self, key: Any) -> tuple[State, jax.Array]:
        """The left end."""
        state = State(jnp.int32(0), jnp.int32(0))
        return state, self.view(state)

    def step(self, state: State, action: Any, key: Any) -> Any:
        """(state, obs, reward, terminated, truncated) after a step to the left or right."""
        place = jnp.maximum(state.place + jnp.where(action == 1, 1, -1), 0)
        state = State(place, state.time + 1)
        there = place >= self.length
        reward = jnp.where(there, 1.0, -0.01)
        return state, self.view(state), reward, there, state.time >= 50


def main(out: Path, steps: int = 16_384) -> None:
    """Checks the environment, and trains on it fused and on the host."""
    faults = parl.check_env(Corridor())
    print("\n".join(faults) or "nothing is wrong with it")
    for execution in ("fused", "host"):
        run = parl.train(
            "ppo",
            Corridor(),
            out / execution,
            quiet=True,
            execution=execution,
            steps=steps,
            eval_episodes=4,
        )
        print(f"{execution}: a return of {run.result['return']['mean']:.2f} of 0.93")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch))
