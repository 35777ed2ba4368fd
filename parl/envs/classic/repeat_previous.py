"""RepeatPrevious of POPGym as pure functions: a test of memory alone.

Morad et al. 2023, arXiv:2303.01859. POPGym's Easy, Medium and Hard are the delays 4, 32 and 64. The
end of the deck terminates an episode here, as nothing follows it; there it truncates.
"""

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.spec import Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, Canvas

SUITS = 4
DECK = 52


class RepeatPreviousState(struct.PyTreeNode):
    """The shuffled cards, and which of them lies open."""

    suits: Array  # [cards] int32
    time: Array  # [] int32, steps since the reset


@dataclass(frozen=True)
class RepeatPrevious:
    """Name the suit of the card that lay open `delay` - 1 steps ago; all right is a return of 1.

    Each step shows the next card of a shuffled pack. A right answer has the reward 1 / answers, a
    wrong one minus that, and before `delay` cards were shown it is 0: chance has a return of -0.5.
    """

    delay: int = 4  # 1 is the open card itself

    @property
    def cards(self) -> int:
        """The number of cards: one deck, two from a delay of 32 on, three from one of 64 on."""
        return DECK * (1 + self.delay // 32)

    @property
    def spec(self) -> EnvSpec:
        return EnvSpec(
            id="jax:RepeatPrevious",
            observation_space=Discrete(SUITS),
            action_space=Discrete(SUITS),
            max_steps=self.cards - 1,
        )

    def reset(self, key: Array) -> tuple[RepeatPreviousState, Array]:
        suits = jax.random.permutation(key, jnp.arange(self.cards, dtype=jnp.int32) % SUITS)
        return RepeatPreviousState(suits, jnp.int32(0)), suits[0]

    def step(
        self, state: RepeatPreviousState, action: Array, key: Array
    ) -> tuple[RepeatPreviousState, Array, Array, Array, Array]:
        asked = state.time + 1 - self.delay
        right = action == state.suits[jnp.maximum(asked, 0)]
        each = 1.0 / (self.cards - self.delay)
        reward = jnp.where(asked < 0, 0.0, jnp.where(right, each, -each))
        time = state.time + 1
        over = time >= self.cards - 1
        after = RepeatPreviousState(state.suits, time)
        return after, state.suits[time], reward, over, jnp.bool_(False)

    def draw(self, state: RepeatPreviousState) -> np.ndarray:
        """The cards that were shown, in rows, a colour for each suit; the open one is the last."""
        canvas, width = Canvas(-0.5, 13.0), 13
        for place, suit in enumerate(np.asarray(state.suits)[: int(state.time) + 1]):
            row, column = divmod(place, width)
            x, y = column, 12.0 - row
            corners = [(x, y), (x + 0.8, y), (x + 0.8, y - 0.8), (x, y - 0.8)]
            canvas.polygon(corners, COLORS[int(suit)])
        return canvas.picture()
