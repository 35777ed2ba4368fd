"""Decision Transformer: actions as what comes next in a sequence that asks for a return.

Chen et al. 2021, arXiv:2106.01345, section 3. Acting lowers the return to go by each reward that
the observation shows as `last_reward`, see core/rewards.py; where it shows none, what is asked for
stays the same. Shapes: T time, B environments or batch, K steps of a window, A action.
"""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from flax import struct

from parl import ops
from parl.algorithms.shared.critics import init_net, learn
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.rewards import apart
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Rollout, Step, Window, static
from parl.models import modes
from parl.models.decision_transformer import History
from parl.ops.distributions import Distribution


class DTState(struct.PyTreeNode):
    """Everything DT learns."""

    actor: Net


class DT(Algorithm):
    """Regression on the actions of a data set given the returns to go; batches are Windows [B, K].

    Of a window the steps of its first episode count.
    """

    actor: Model = static(default=None)  # a DecisionTransformer
    learning_rate: float = 1e-4
    rate_warmup: int = static(default=10_000)  # updates
    weight_decay: float = static(default=1e-4)
    max_grad_norm: float = 0.25
    target_return: float = 0.0  # what acting asks for
    return_scale: float = 1.0  # by which the network sees returns divided

    @property
    def tolerates_lag(self) -> bool:
        return True

    @property
    def transformation(self) -> optax.GradientTransformation:
        """AdamW with clipped gradients, at a rate that rises from 0 in the first updates."""
        rise = max(self.rate_warmup, 1)
        rate = lambda count: self.learning_rate * jnp.minimum((count + 1) / rise, 1.0)
        clip = optax.clip_by_global_norm(self.max_grad_norm)
        return optax.chain(clip, optax.adamw(rate, weight_decay=self.weight_decay))

    def init(self, key: Array, spec: EnvSpec) -> DTState:
        params = modes.init(self.actor, key, self.memory((1,)))
        return DTState(init_net(self.transformation, params))

    def policy(self, state: DTState) -> Params:
        return state.actor.params

    def memory(self, batch_shape: tuple[int, ...]) -> History:
        """An empty history, with the return to ask for."""
        actor: Any = self.actor
        return actor.empty(batch_shape, self.target_return)

    def act(
        self, policy: Params, obs: Any, memory: History, key: Array, explore: bool
    ) -> tuple[Array, History, dict[str, Any]]:
        obs, reward = apart(obs)
        history = self.begun(memory, obs, reward)
        output = jax.tree.map(lambda x: x[:, -1], self.outputs(policy, history))
        if isinstance(output, Distribution):
            output = output.sample(key) if explore else output.mode()
        action = history.action
        return output, history.replace(action=shifted_in(action[:, :-1], output)), {}

    def begun(self, memory: History, obs: Any, reward: Any) -> History:
        """The history with a step more, whose action is not taken yet: zeros stand there."""
        to_go = memory.to_go[:, -1]
        if reward is not None:
            to_go = to_go - reward[:, 0]
        append = lambda x, new: shifted_in(x[:, 1:], new)
        return History(
            append(memory.to_go, to_go),
            jax.tree.map(append, memory.obs, obs),
            append(memory.action, jnp.zeros_like(memory.action[:, 0])),
            append(memory.time, memory.time[:, -1] + 1),
            append(memory.there, jnp.ones_like(memory.there[:, 0])),
        )

    def outputs(self, params: Params, history: History, key: Array | None = None) -> Any:
        """What the network says at each step; with a key as in training."""
        history = history.replace(to_go=history.to_go / self.return_scale)
        if key is None:
            return self.actor.apply(params, history)
        return modes.train(self.actor, params, history, key=key)[0]

    def items(self, rollout: Rollout) -> Any:
        """Single steps with their number in the episode, `time`, and their return `to_go`.

        An episode that goes on after the rollout is taken to be paid nothing there.
        """
        steps = rollout.steps
        found = {"to_go": returns_to_go(steps.reward, steps.last), "time": times(steps.first)}
        return super().items(rollout._replace(steps=steps._replace(extras=steps.extras | found)))

    def update(self, state: DTState, batch: Window, key: Array) -> tuple[DTState, Metrics]:
        actor, metrics = learn(self.transformation, self.loss, state.actor, batch, key)
        return DTState(actor), metrics

    def loss(
        self, params: Params, batch: Window, key: Array
    ) -> tuple[Array, tuple[Metrics, Params]]:
        """The mean over steps of -log pi(a), or of the squared distance from the action."""
        steps: Step = batch.steps
        obs, there = apart(steps.obs)[0], batch.one_episode
        history = History(steps.extras["to_go"], obs, steps.action, steps.extras["time"], there)
        output = self.outputs(params, history, key)
        if isinstance(output, Distribution):
            losses = -output.log_prob(steps.action)
        else:
            losses = jnp.square(output - steps.action).mean(-1)
        loss = ops.masked(losses, there).sum() / jnp.maximum(there.sum(), 1)
        return loss, ({"loss": loss}, {})


def shifted_in(x: Array, new: Array) -> Array:
    """[B, K, ...] of the steps before, x [B, K - 1, ...], and a new one [B, ...]."""
    return jnp.concatenate([x, new[:, None]], 1)


def returns_to_go(reward: Any, last: Any) -> Any:
    """[T, B] what is paid from each step to the end of its episode, that step included."""
    add = lambda after, step: step[0] + (1 - step[1]) * after
    if not isinstance(reward, np.ndarray):
        whole = lambda after, step: (add(after, step),) * 2
        start = jnp.zeros_like(reward[0])
        return jax.lax.scan(whole, start, (reward, last.astype(reward.dtype)), reverse=True)[1]
    found = np.zeros_like(reward)
    after = np.zeros(reward.shape[1:])
    for t in reversed(range(len(reward))):
        found[t] = after = add(after, (reward[t].astype(float), last[t]))
    return found


def times(first: Any) -> Any:
    """[T, B] int32, how many steps of the episode, or of the rollout, came before each."""
    on_host = isinstance(first, np.ndarray)
    xp, latest = (np, np.maximum.accumulate) if on_host else (jnp, jax.lax.cummax)
    number = xp.broadcast_to(xp.arange(len(first), dtype="int32")[:, None], first.shape)
    return number - latest(xp.where(first, number, 0), axis=0)
