"""An algorithm of one's own with its recipe: trained fused, on the host and on Ray, and resumed.

    python examples/own_algorithm.py [DIR]

In this folder `parl train own_algorithm:Recipe --env jax:CartPole-v1` trains it as well, and
`parl resume`, `parl eval` and `parl.load` find it again by that name.
"""

import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import flax.linen as nn
import jax
import jax.numpy as jnp
import optax

import parl
from parl.recipes.base import OnPolicyRecipe


class Reinforce(parl.Algorithm):
    """Williams 1992: log-probabilities weighted by what was paid after them, less its mean."""

    actor: parl.Model = parl.static(default=None)  # obs [..., O] -> logits [..., A]
    learning_rate: float = 3e-3
    gamma: float = 0.99

    def init(self, key: Any, spec: parl.EnvSpec) -> parl.Net:
        params = self.actor.init(key, spec.obs)
        return parl.Net(params, optax.adam(self.learning_rate).init(params))

    def policy(self, state: parl.Net) -> Any:
        return state.params

    def act(self, policy: Any, obs: Any, memory: Any, key: Any, explore: bool) -> Any:
        logits = self.actor.apply(policy, obs)
        action = jax.random.categorical(key, logits) if explore else logits.argmax(-1)
        return action.astype(jnp.int32), memory, {}

    def update(self, state: parl.Net, batch: parl.Rollout, key: Any) -> Any:
        steps = batch.steps  # [T, B, ...]

        def earlier(after: Any, step: Any) -> Any:
            paid = step[0] + self.gamma * step[1] * after
            return paid, paid

        goes_on = steps.discount * (1.0 - steps.last)
        start = jnp.zeros_like(steps.reward[0])
        _, paid = jax.lax.scan(earlier, start, (steps.reward, goes_on), reverse=True)

        def loss(params: Any) -> Any:
            log_probs = jax.nn.log_softmax(self.actor.apply(params, steps.obs))
            taken = jnp.take_along_axis(log_probs, steps.action[..., None], -1)[..., 0]
            return -(taken * (paid - paid.mean())).mean(), {"paid": paid.mean()}

        return parl.descend(optax.adam(self.learning_rate), loss, state)


class Network(nn.Module):
    """Logits of one hidden layer."""

    actions: int
    hidden: int

    @nn.compact
    def __call__(self, obs: Any) -> Any:
        return nn.Dense(self.actions)(nn.tanh(nn.Dense(self.hidden)(obs)))


@dataclass(frozen=True)
class Recipe(OnPolicyRecipe):
    """REINFORCE with a mean for a baseline; its settings are flags of `parl train`."""

    serves: ClassVar[tuple[type, ...]] = (parl.Discrete,)

    algorithm: Reinforce = Reinforce()  # noqa: RUF009
    hidden: int = 32

    @classmethod
    def for_env(cls, spec: parl.EnvSpec) -> "Recipe":
        return cls(num_envs=8, length=64)

    def learner(self, spec: parl.EnvSpec, steps: int, num_envs: int) -> parl.OnPolicy:
        assert isinstance(spec.action_space, parl.Discrete)
        actor = Network(spec.action_space.n, self.hidden)
        return self.on_policy(self.algorithm.replace(actor=actor))


def main(out: Path, steps: int = 20_000) -> None:
    """Trains in all three executions, resumes, and acts."""
    ways = {
        "fused": ("jax:CartPole-v1", {}),
        "host": ("CartPole-v1", {}),
        "ray": ("CartPole-v1", {"actors": 2}),
    }
    for name, (env, settings) in ways.items():
        run = parl.train(Recipe, env, out / name, quiet=True, steps=steps, **settings)
        print(f"{name}: a return of {run.result['return']['mean']:.0f}")
        more = parl.resume(run.path, steps=2 * steps, quiet=True, algorithm=Recipe)
        print(f"{name}, resumed: a return of {more.result['return']['mean']:.0f}")
    agent = parl.load(out / "host", algorithm=Recipe)
    print(agent, agent.predict(agent.spec.obs[0]))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch))
