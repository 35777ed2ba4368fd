"""TD-MPC2: planning with a model of latent states, and values that go on where plans end.

Hansen et al. 2024, "TD-MPC2: Scalable, Robust World Models for Continuous Control",
arXiv:2310.16828. Shapes: B batch, T steps of a window and of a plan, L latent state, A action, C
critics, N samples.
"""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from flax import struct

from parl.algorithms.shared.optimizers import clipped
from parl.core.algorithm import Algorithm
from parl.core.model import Model
from parl.core.spec import EnvSpec
from parl.core.types import Array, Metrics, Net, Params, Window, descend, static
from parl.models import modes
from parl.ops.value_distributions import Histogram, least
from parl.planning.mppi import following, mppi

SUBSET = 2  # critics drawn for each value
LOW, HIGH = 5.0, 95.0  # percentiles of values that span their scale


class TDMPC2State(struct.PyTreeNode):
    """Everything TD-MPC2 learns."""

    model: Net  # encoder, dynamics, reward, critic
    actor: Net
    target: Params  # averaged copy of the critics' parameters
    scale: Array  # [] running spread of the values
    updates: Array  # [] int32


class TDMPC2(Algorithm):
    """Model predictive control in a latent space; batches are windows of `horizon` steps."""

    encoder: Model = static(default=None)  # obs -> latent [.., L]
    dynamics: Model = static(default=None)  # latent, action -> latent
    reward: Model = static(default=None)  # latent, action -> Histogram [...]
    critic: Model = static(default=None)  # latent, action -> Histogram [C, ...]
    actor: Model = static(default=None)  # latent -> TanhNormal over [..., A]
    action_size: int = static(default=1)
    planning: bool = static(default=True)  # else the policy acts alone
    horizon: int = static(default=3)  # steps of windows and of plans
    sequences: int = static(default=512)  # of actions in each iteration of planning
    proposals: int = static(default=24)  # of them by the policy
    elites: int = static(default=64)
    iterations: int = static(default=6)
    planning_temperature: float = 0.5
    min_std: float = 0.05
    max_std: float = 2.0
    learning_rate: float = 3e-4
    encoder_rate: float = 0.3  # of the learning rate
    max_grad_norm: float = 20.0
    gamma: float = 0.99
    tau: float = 0.01
    decay: float = 0.5  # of the losses' weights along a window
    consistency_cost: float = 20.0
    reward_cost: float = 0.1
    value_cost: float = 0.1
    entropy_cost: float = 1e-4

    @property
    def tolerates_lag(self) -> bool:
        return True

    @property
    def network(self) -> Algorithm | None:
        return self.replace(planning=False) if self.planning else None

    # --- acting -------------------------------------------------------------------------------

    def init(self, key: Array, spec: EnvSpec) -> TDMPC2State:
        keys = jax.random.split(key, 5)
        encoder = modes.init(self.encoder, keys[0], spec.obs)
        latent, action = self.encoder.apply(encoder, spec.obs), jnp.asarray(spec.action)
        model = {
            "encoder": encoder,
            "dynamics": modes.init(self.dynamics, keys[1], latent, action),
            "reward": modes.init(self.reward, keys[2], latent, action),
            "critic": modes.init(self.critic, keys[3], latent, action),
        }
        actor = modes.init(self.actor, keys[4], latent)
        target = jax.tree.map(jnp.copy, model["critic"])  # a donated buffer may not appear twice
        nets = Net(model, self.optimizer().init(model)), Net(actor, self.policy_rule().init(actor))
        return TDMPC2State(*nets, target, jnp.ones(()), jnp.zeros((), jnp.int32))

    def optimizer(self) -> optax.GradientTransformation:
        """That of the model, whose encoder learns slower."""
        is_encoder = dict.fromkeys(("encoder", "dynamics", "reward", "critic"), False)
        slower = optax.masked(optax.scale(self.encoder_rate), is_encoder | {"encoder": True})
        return optax.chain(clipped(optax.adam(self.learning_rate), self.max_grad_norm), slower)

    def policy_rule(self) -> optax.GradientTransformation:
        """The optimiser of the policy."""
        return clipped(optax.adam(self.learning_rate, eps=1e-5), self.max_grad_norm)

    def policy(self, state: TDMPC2State) -> dict[str, Params]:
        return {"actor": state.actor.params, **state.model.params}

    def memory(self, batch_shape: tuple[int, ...]) -> Array:
        """The mean of the plan that the next step starts from: [*batch_shape, T, A]."""
        return jnp.zeros((*batch_shape, self.horizon, self.action_size))

    def act(
        self, policy: Any, obs: Any, memory: Array, key: Array, explore: bool
    ) -> tuple[Array, Any, dict[str, Any]]:
        """The first action of one of the best plans; to explore, with noise of their deviation."""
        if not self.planning:
            pi = self.actor.apply(policy["actor"], self.encoder.apply(policy["encoder"], obs))
            return (pi.sample_and_log_prob(key)[0] if explore else pi.mode()), memory, {}
        k_propose, k_critics, k_value, k_plan, k_elite, k_noise = jax.random.split(key, 6)
        latent = self.encoder.apply(policy["encoder"], obs)
        critic = self.drawn(policy["critic"], k_critics)
        plan = mppi(
            partial(self.returns, policy, critic, latent, key=k_value),
            memory,
            k_plan,
            proposals=self.proposed(policy, latent, k_propose),
            samples=self.sequences,
            elites=self.elites,
            iterations=self.iterations,
            temperature=self.planning_temperature,
            min_std=self.min_std,
            max_std=self.max_std,
        )
        action = plan.drawn(k_elite)
        if explore:
            noise = jax.random.normal(k_noise, action.shape)
            action = jnp.clip(action + plan.std[:, 0] * noise, -1.0, 1.0)
        return action, following(plan.mean), {}

    def proposed(self, policy: Any, latent: Array, key: Array) -> Array:
        """Sequences of actions [M, B, T, A] that the policy takes in the model from latents [B]."""

        def step(latent: Array, key: Array) -> tuple[Array, Array]:
            action, _ = self.actor.apply(policy["actor"], latent).sample_and_log_prob(key)
            return self.dynamics.apply(policy["dynamics"], latent, action), action

        latents = jnp.broadcast_to(latent, (self.proposals, *latent.shape))
        _, actions = jax.lax.scan(step, latents, jax.random.split(key, self.horizon))
        return jnp.moveaxis(actions, 0, 2)

    def returns(
        self, policy: Any, critic: Params, latent: Array, actions: Array, key: Array
    ) -> Array:
        """Discounted returns [N, B] of sequences [N, B, T, A] from latents [B, L], eq. 6."""
        latents = jnp.broadcast_to(latent, (actions.shape[0], *latent.shape))
        total, discount = jnp.zeros(actions.shape[:2]), 1.0
        for t in range(self.horizon):
            action = actions[:, :, t]
            reward = self.reward.apply(policy["reward"], latents, action).mean
            latents = self.dynamics.apply(policy["dynamics"], latents, action)
            total, discount = total + discount * reward, discount * self.gamma
        action, _ = self.actor.apply(policy["actor"], latents).sample_and_log_prob(key)
        return total + discount * self.critic.apply(critic, latents, action).mean.mean(0)

    def drawn(self, critics: Params, key: Array) -> Params:
        """The parameters of SUBSET of the critics."""
        count = jax.tree.leaves(critics)[0].shape[0]
        chosen = jax.random.permutation(key, count)[:SUBSET]
        return jax.tree.map(lambda x: x[chosen], critics)

    # --- learning -----------------------------------------------------------------------------

    def update(self, state: TDMPC2State, batch: Window, key: Array) -> tuple[TDMPC2State, Metrics]:
        k_model, k_policy = jax.random.split(key)
        model, info = descend(self.optimizer(), self.model_loss, state.model, state, batch, k_model)
        latents = info.pop("latents")
        critic = model.params["critic"]
        values, scale = self.policy_loss, state.scale
        actor, more = descend(
            self.policy_rule(), values, state.actor, critic, latents, scale, batch, k_policy
        )
        spread = more.pop("spread")
        state = state.replace(
            model=model,
            actor=actor,
            target=optax.incremental_update(critic, state.target, self.tau),
            scale=jnp.maximum(state.scale + self.tau * (spread - state.scale), 1.0),
            updates=state.updates + 1,
        )
        return state, info | more

    def model_loss(
        self, params: Any, state: TDMPC2State, batch: Window, key: Array
    ) -> tuple[Array, Metrics]:
        """Consistency of latents, rewards and values along windows, eq. 3 and 4."""
        steps, weights = self.steps_of(batch)
        seen = jax.lax.stop_gradient(self.encoder.apply(params["encoder"], steps.next_obs))
        target = jax.lax.stop_gradient(self.value_target(state, steps, seen, key))  # [T, B, K]
        latent = self.encoder.apply(params["encoder"], jax.tree.map(lambda x: x[0], steps.obs))

        def forward(latent: Array, action: Array) -> tuple[Array, tuple[Array, Array]]:
            after = self.dynamics.apply(params["dynamics"], latent, action)
            return after, (latent, after)

        _, (latents, after) = jax.lax.scan(forward, latent, steps.action)  # [T, B, L] each
        reward: Histogram = self.reward.apply(params["reward"], latents, steps.action)
        values: Histogram = self.critic.apply(params["critic"], latents, steps.action)
        losses = {
            "consistency_loss": ((after - seen) ** 2).mean(-1),
            "reward_loss": reward.loss(reward.backup(steps.reward, jnp.zeros_like(steps.reward))),
            "critic_loss": values.loss(target).mean(0),
        }  # [T, B] each
        costs = self.consistency_cost, self.reward_cost, self.value_cost
        importance = batch.extras.get("weight", 1.0)
        mean = {name: (weights * x).sum(0) / self.horizon for name, x in losses.items()}  # [B]
        loss = sum(cost * x for cost, x in zip(costs, mean.values(), strict=True))
        metrics = {name: x.mean() for name, x in mean.items()}
        metrics |= {"q": values.mean.mean(), "td_error": jnp.sqrt(2 * mean["critic_loss"])}
        latents = jax.lax.stop_gradient(jnp.concatenate([latents, after[-1:]]))
        return (importance * loss).mean(), metrics | {"latents": latents}

    def steps_of(self, batch: Window) -> tuple[Any, Array]:
        """(steps [T, B, ...], weights of their losses [T, B]): 0 beyond the first episode."""
        steps = jax.tree.map(lambda x: jnp.moveaxis(jnp.asarray(x), 1, 0), batch.steps)
        decay = self.decay ** jnp.arange(self.horizon)[:, None]
        return steps, decay * jnp.moveaxis(batch.one_episode, 1, 0)

    def value_target(self, state: TDMPC2State, steps: Any, latents: Array, key: Array) -> Array:
        """Targets [T, B, K] of values, from the least of two critics in the latents [T, B, L]."""
        k_action, k_critics = jax.random.split(key)
        pi = self.actor.apply(state.actor.params, latents)
        action, _ = pi.sample_and_log_prob(k_action)
        values = self.critic.apply(self.drawn(state.target, k_critics), latents, action)
        return least(values).backup(steps.reward, self.gamma * steps.discount)

    def policy_loss(
        self,
        params: Params,
        critic: Params,
        latents: Array,
        scale: Array,
        batch: Window,
        key: Array,
    ) -> tuple[Array, Metrics]:
        """Values of the policy's actions and its entropy in the latents [T + 1, B, L]."""
        k_action, k_critics = jax.random.split(key)
        action, log_prob = self.actor.apply(params, latents).sample_and_log_prob(k_action)
        q = self.critic.apply(self.drawn(critic, k_critics), latents, action).mean.mean(0)
        there = jnp.moveaxis(batch.one_episode, 1, 0)
        there = jnp.concatenate([there, there[-1:]])  # what follows a step is of its episode
        weight = there * self.decay ** jnp.arange(self.horizon + 1)[:, None]
        loss = (weight * (self.entropy_cost * log_prob - q / scale)).mean()
        spread = jnp.percentile(q[0], HIGH) - jnp.percentile(q[0], LOW)
        spread = jax.lax.stop_gradient(spread)
        return loss, {"actor_loss": loss, "entropy": -log_prob.mean(), "spread": spread}
