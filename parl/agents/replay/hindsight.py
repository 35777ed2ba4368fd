"""Hindsight experience replay: what an episode achieved counts as what it was asked for."""

from functools import partial
from typing import Any

import jax.numpy as jnp
import numpy as np

from parl.agents.replay.ring import ReplayState, instead
from parl.agents.replay.sampling import Sampler
from parl.agents.replay.windows import stored, unbroken, window
from parl.core.draws import Source, split, uniform
from parl.core.errors import ConfigError
from parl.core.goals import ACHIEVED, DESIRED, Goals
from parl.core.types import Array, Step, static


class Hindsight(Sampler):
    """Replaces the goals of sampled steps by ones that the same episode achieved later.

    Andrychowicz et al. 2017, arXiv:1707.01495, section 3.3, with the strategy "future": a new goal
    is what a uniformly drawn step achieved, of this one and those that followed it in the episode.
    k replayed goals for each original one are a share of k / (k + 1). Reward and discount are those
    of the new goal; time limits do not depend on it. All steps of a window get the same goal.

    It wraps all other samplers, as in Hindsight(Prioritized(NStep(Replay(capacity)))).
    """

    goals: Goals | None = static(default=None)  # how rewards follow; None: not known
    share: float = 0.8
    horizon: int = static(default=1_000)  # steps of an episode that are looked through for a goal

    def draw(self, state: ReplayState, key: Source, shape: tuple[int, ...]) -> tuple[Any, Any]:
        k_index, k_goal = split(key)
        index = self.index(state, k_index, shape)
        rows = instead(index, self.usable(state, index))
        goal, chosen = self.later(state, rows, k_goal)
        return index, self.at(state, rows, partial(self.relabeled, goal=goal, chosen=chosen))

    def later(self, state: ReplayState, index: Any, key: Source) -> tuple[Array, Array]:
        """(goals [..., G] achieved later, whether to take them [...]) for the rows [...]."""
        k_place, k_share = split(key)
        ahead = window(state, index, self.horizon)  # [H, ...]
        first, last = state.part(ahead, first_of), state.part(ahead, last_of)
        count = unbroken(first, last, stored(state, index, self.horizon)).sum(0)
        place = uniform(k_place, count.shape) * count
        place = jnp.minimum(place.astype(jnp.int32), count - 1)  # the product may be rounded up
        if self.on_host:
            place = np.asarray(place)
        goal = jnp.asarray(state.part((index + place * state.stride) % state.capacity, achieved_in))
        known = jnp.isfinite(goal).all(-1)
        return goal, known & (uniform(k_share, known.shape) < self.share)

    def relabeled(self, steps: Step, goal: Array, chosen: Array) -> Step:
        """Steps [..., *shape] with the goals [*shape, G] where `chosen` [*shape]."""
        if self.goals is None:
            raise ConfigError("the rule by which rewards follow from goals is not known here.")
        old, achieved = steps.obs[DESIRED], steps.next_obs[ACHIEVED]
        desired = jnp.where(chosen[..., None], goal.astype(old.dtype), old)
        reward = self.goals.reward(achieved, desired)
        reward = jnp.where(chosen, reward, steps.reward).astype(jnp.float32)
        discount, terminated = steps.discount, self.goals.terminated
        if terminated is not None:
            # where the episode ended at the old goal, it would have gone on
            ends = lambda goal: jnp.asarray(terminated(achieved, goal), bool)
            goes_on = jnp.where(ends(desired), 0.0, jnp.where(ends(old), 1.0, discount))
            discount = jnp.where(chosen, goes_on, discount)
        return steps._replace(
            obs=steps.obs | {DESIRED: desired},
            next_obs=steps.next_obs | {DESIRED: desired},
            reward=reward,
            discount=discount,
        )


def first_of(steps: Step) -> Any:
    """The flag of an episode's first step."""
    return steps.first


def last_of(steps: Step) -> Any:
    """The flag of an episode's last step."""
    return steps.last


def achieved_in(steps: Step) -> Any:
    """What a step achieved."""
    return steps.next_obs[ACHIEVED]
