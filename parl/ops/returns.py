"""Returns, advantages and off-policy targets over time-major arrays [T, ...].

All functions share one convention. `reward`, `value` and `next_value` have the same shape [T, ...];
`discount` = gamma * Step.discount is 0 only where the episode terminated; `last` is True where it
ended for any reason, and cuts the trace there. Both may lack trailing axes of reward, such as [T,
B] for a multi-agent reward [T, B, N]. `next_value` is V at the observation before any reset, so
time limits and the end of the sequence bootstrap and terminations do not.

Values beyond an end or after a discount of 0 contribute nothing, even if they are NaN or infinite.
No gradient is stopped here; a loss that treats the result as a constant stops it. All functions
raise ValueError if shapes do not match or there is no step.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp

from parl.core.types import Array
from parl.ops.finite import weighted
from parl.ops.tree import expand_like

Scalar = float | Array


class VTrace(NamedTuple):
    """Targets of an actor-critic; every field has the shape [T, ...] of reward."""

    target: Array  # [T, ...] v_s, the regression target of the value
    advantage: Array  # [T, ...] min(clip_pg_rho, rho) * (q_value - value), weighs grad log pi
    q_value: Array  # [T, ...] r_s + discount_s * v_{s+1}, the return of the action taken


def gae(
    reward: Array, discount: Array, last: Array, value: Array, next_value: Array, lambda_: Scalar
) -> Array:
    """Generalised advantage estimates [T, ...]. Schulman et al. 2015, arXiv:1506.02438, eq. 16.

    A_t = delta_t + discount_t * lambda * A_{t+1}, and A_t = delta_t at `last`, where
    delta_t = r_t + discount_t * next_value_t - value_t.
    """
    discount, going = _checked(reward, discount, last, value=value, next_value=next_value)
    delta = reward + weighted(discount, next_value) - value
    return _accumulate(delta, discount * lambda_ * going, jnp.zeros_like(delta[0]))


def n_step(reward: Array, discount: Array, last: Array, next_value: Array, n: int) -> Array:
    """n-step returns [T, ...]. Sutton & Barto 2018, eq. 7.1.

    G_t = r_t + discount_t * r_{t+1} + ... + (discount_t ... discount_{t+n-1}) * next_value_{t+n-1}.
    A window that reaches `last` or the end of the sequence stops and bootstraps there.
    """
    if n < 1:
        raise ValueError(f"n must be at least 1, not {n}.")
    discount, going = _checked(reward, discount, last, next_value=next_value)
    cut = (going == 0).at[-1].set(True)
    returns = reward + weighted(discount, next_value)
    for _ in range(1, min(n, len(reward))):
        following = jnp.where(cut, next_value, jnp.roll(returns, -1, axis=0))
        returns = reward + weighted(discount, following)
    return returns


def lambda_returns(
    reward: Array, discount: Array, last: Array, next_value: Array, lambda_: Scalar
) -> Array:
    """Lambda returns [T, ...]. Sutton & Barto 2018, eq. 12.18.

    G_t = r_t + discount_t * ((1 - lambda) * next_value_t + lambda * G_{t+1}), with lambda = 0 at
    `last` and at the end of the sequence. With next_value_t = value_{t+1} it is gae + value.
    """
    discount, going = _checked(reward, discount, last, next_value=next_value)
    weight = lambda_ * going
    bootstrapped = reward + weighted(discount * (1 - weight), next_value)
    return _accumulate(bootstrapped, discount * weight, next_value[-1])


def vtrace(
    log_rhos: Array,
    reward: Array,
    discount: Array,
    last: Array,
    value: Array,
    next_value: Array,
    lambda_: Scalar = 1.0,
    clip_rho: Scalar = 1.0,
    clip_c: Scalar = 1.0,
    clip_pg_rho: Scalar = 1.0,
) -> VTrace:
    """V-trace targets and policy-gradient advantages. Espeholt et al. 2018, arXiv:1802.01561.

    log_rhos [T, ...] is log pi(a) - log mu(a) of the learned over the collecting policy. Eq. 1:
    v_s = value_s + e_s with e_s = rho_s * delta_s + discount_s * c_s * e_{s+1}, and no trace
    beyond `last`; rho_s = min(clip_rho, pi/mu), c_s = lambda * min(clip_c, pi/mu).
    The advantage (section 4.2) is min(clip_pg_rho, pi/mu) * (q_s - value_s), where
    q_s = r_s + discount_s * (lambda * v_{s+1} + (1 - lambda) * next_value_s).
    """
    discount, going = _checked(
        reward, discount, last, log_rhos=log_rhos, value=value, next_value=next_value
    )
    trace = discount * lambda_ * going
    bootstrapped = reward + weighted(discount, next_value)
    delta = _clipped_ratio(log_rhos, clip_rho) * (bootstrapped - value)
    nothing = jnp.zeros_like(delta[:1])
    error = _accumulate(delta, trace * _clipped_ratio(log_rhos, clip_c), nothing[0])
    # Within an episode next_value_s = value_{s+1}, hence v_{s+1} = next_value_s + e_{s+1}.
    next_error = jnp.concatenate([error[1:], nothing])
    q_value = bootstrapped + weighted(trace, next_error)
    advantage = _clipped_ratio(log_rhos, clip_pg_rho) * (q_value - value)
    return VTrace(value + error, advantage, q_value)


def retrace(
    log_rhos: Array,
    reward: Array,
    discount: Array,
    last: Array,
    q: Array,
    next_value: Array,
    lambda_: Scalar = 1.0,
) -> Array:
    """Retrace targets [T, ...] for q [T, ...] = Q(s_t, a_t). Munos et al. 2016, arXiv:1606.02647.

    next_value_t = E_pi Q(s_{t+1}, .) and log_rhos_t = log pi(a_t) - log mu(a_t). Eq. 3 and 4:
    G_t = q_t + e_t with e_t = r_t + discount_t * (next_value_t + c_{t+1} * e_{t+1}) - q_t,
    c = lambda * min(1, pi/mu), and no trace beyond `last`.
    """
    discount, going = _checked(
        reward, discount, last, log_rhos=log_rhos, q=q, next_value=next_value
    )
    delta = reward + weighted(discount, next_value) - q
    # The action at t + 1 cuts the trace of step t; the entry that wraps around meets an error of 0.
    next_c = jnp.roll(lambda_ * _clipped_ratio(log_rhos, 1.0), -1, axis=0)
    return q + _accumulate(delta, discount * going * next_c, jnp.zeros_like(delta[0]))


def _accumulate(delta: Array, weight: Array, end: Array) -> Array:
    """x_t = delta_t + weight_t * x_{t+1} for delta, weight [T, ...] and x_T = end [...]."""
    return jax.lax.scan(_backward, end, (delta, weight), reverse=True)[1]


def _backward(following: Array, step: tuple[Array, Array]) -> tuple[Array, Array]:
    # Not a closure, so that un-jitted calls share one compiled scan.
    delta, weight = step
    following = delta + weighted(weight, following)
    return following, following


def _clipped_ratio(log_ratio: Array, limit: Scalar) -> Array:
    """min(limit, exp(log_ratio)); clipping the logarithm keeps the gradient finite."""
    return jnp.exp(jnp.minimum(log_ratio, jnp.log(limit)))


def _checked(
    reward: Array, discount: Array, last: Array, **like_reward: Array
) -> tuple[Array, Array]:
    """Discount and 1 - last with the rank of reward. Raises ValueError if shapes do not match."""
    shape = jnp.shape(reward)
    if not shape:
        raise ValueError("reward must be time-major [T, ...], not a scalar.")
    if not shape[0]:
        raise ValueError(f"reward {shape} must have at least one step.")
    for name, x in like_reward.items():
        if jnp.shape(x) != shape:
            raise ValueError(f"{name} {jnp.shape(x)} must have the shape of reward {shape}.")
    for name, x in {"discount": discount, "last": last}.items():
        if not jnp.ndim(x) or jnp.shape(x) != shape[: jnp.ndim(x)]:
            raise ValueError(f"{name} {jnp.shape(x)} must have the leading axes of reward {shape}.")
    return expand_like(discount, reward), 1.0 - expand_like(last, reward)
