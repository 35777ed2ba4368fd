"""Kuhn and Leduc poker: two players bet on hidden cards, in limit poker with one or two rounds.

Kuhn 1950, doi:10.1515/9781400881727-010; Southey et al. 2005, arXiv:1207.1411. Rules and values are
those of OpenSpiel's games; cards of a rank are the same card, whatever their suit. Each player
antes 1 and gets a card. In each round the first player begins; a round ends with a call that is not
its opening move. Before the second round a card is dealt that both see, and a player whose card has
its rank wins. The player that folds, or shows the lower hand, pays what it has put in to the other.
All chance lies in the deal.
"""

import itertools
import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from flax import struct

from parl.core.spec import Discrete, EnvSpec
from parl.core.types import Array
from parl.envs.drawing import COLORS, INK, PALE, Canvas
from parl.envs.team import only_first, team_spec

FOLD, CALL, RAISE = range(3)  # to call where nothing is owed is to check
NAMES = "JQK"


class PokerState(struct.PyTreeNode):
    """A hand in play."""

    cards: Array  # [C] int32, ranks: of each player, then the one that both see
    moves: Array  # [R, M] int32, of each round: 0 none yet, else the action
    round: Array  # [] int32
    paid: Array  # [2] float32, what each player has put in
    over: Array  # [] bool


@dataclass(frozen=True)
class Poker:
    """Limit poker of two players, with a deck of `copies` cards of each of `ranks`.

    `raises` holds how much a raise adds in each round, of which there are at most `most` a round.
    Actions are fold, call and raise; one that is not legal counts as a call. Rewards are paid at
    the end. A player sees its seat, its card, the common card, and all moves.
    """

    id: str
    raises: tuple[int, ...]
    most: int
    copies: int
    ranks: int = 3

    @property
    def slots(self) -> int:
        """M, the largest number of moves in a round."""
        return self.most + 2

    @property
    def view_size(self) -> int:
        """Numbers in a player's view: seat, its card, the common card, and moves."""
        common = self.ranks * (len(self.raises) > 1)
        return 2 + self.ranks + common + 2 * len(self.raises) * self.slots

    @property
    def spec(self) -> EnvSpec:
        size, moves = self.view_size, Discrete(3)
        names = "player_0", "player_1"
        steps = len(self.raises) * self.slots
        return team_spec(
            self.id, names, (size, size), (moves, moves), size + self.ranks, turns=True,
            max_steps=steps,
        )  # fmt: skip

    @cached_property
    def all_deals(self) -> tuple[np.ndarray, np.ndarray]:
        """(ranks of the cards dealt [D, C] int32, probability of each deal [D])."""
        count = 2 + (len(self.raises) > 1)
        hands = list(itertools.product(range(self.ranks), repeat=count))
        ways = [
            math.prod(math.perm(self.copies, hand.count(rank)) for rank in range(self.ranks))
            for hand in hands
        ]
        dealt = np.flatnonzero(ways)
        return np.array(hands, np.int32)[dealt], np.array(ways)[dealt] / sum(ways)

    def deals(self) -> tuple[np.ndarray, np.ndarray]:
        return self.all_deals

    def start(self, deal: Array) -> tuple[PokerState, Any]:
        moves = jnp.zeros((len(self.raises), self.slots), jnp.int32)
        state = PokerState(deal, moves, jnp.int32(0), jnp.ones(2), jnp.bool_(False))
        return state, self.observe(state)

    def reset(self, key: Array) -> tuple[PokerState, Any]:
        cards, chances = self.all_deals
        return self.start(jnp.asarray(cards)[jax.random.categorical(key, np.log(chances))])

    def step(
        self, state: PokerState, action: Array, key: Array
    ) -> tuple[PokerState, Any, Array, Array, Array]:
        now = np.arange(len(self.raises)) == state.round  # [R] bool
        time = (state.moves > 0).sum(-1)[state.round]  # moves in this round
        mine = np.arange(2) == time % 2  # [2] bool, who moves
        wanted = action[time % 2]
        move = jnp.where(self.legal(state)[wanted], wanted, CALL)
        stake = state.paid.max() + jnp.where(
            move == RAISE, jnp.asarray(self.raises)[state.round], 0
        )
        paid = jnp.where(mine & (move != FOLD), stake, state.paid)
        place = now[:, None] & (np.arange(self.slots) == time)
        moves = jnp.where(place & (move != FOLD), move, state.moves)
        closed = (move == CALL) & (time > 0)
        over = (move == FOLD) | (closed & now[-1])
        lead = jnp.where(move == FOLD, jnp.where(mine, -1, 1), self.showdown(state.cards))  # [2]
        reward = jnp.where(over, lead * paid.min(), 0.0)
        round = jnp.where(closed & ~over, state.round + 1, state.round)
        state = PokerState(state.cards, moves, round, paid, state.over | over)
        return state, self.observe(state), reward, over, jnp.bool_(False)

    def legal(self, state: PokerState) -> Array:
        """[3] bool, the legal actions of the player to move."""
        owes = state.paid[0] != state.paid[1]
        made = (state.moves[state.round] == RAISE).sum()
        return jnp.stack([owes, jnp.bool_(True), made < self.most])

    def showdown(self, cards: Array) -> Array:
        """[2] 1 for the player with the better hand and -1 for the other, 0 if they are equal."""
        hands = cards[:2]
        if len(self.raises) > 1:
            hands = hands + self.ranks * (hands == cards[2])
        lead = jnp.sign(hands[0] - hands[1])
        return jnp.stack([lead, -lead])

    def observe(self, state: PokerState) -> dict[str, Array]:
        """Views; the state also holds both cards and, in the seat's place, the turn."""
        time = (state.moves > 0).sum(-1)[state.round]
        turn = (np.arange(2) == time % 2) & ~state.over  # [2] bool
        shown = [(state.moves == CALL).reshape(-1), (state.moves == RAISE).reshape(-1)]
        ranks = np.arange(self.ranks)
        if len(self.raises) > 1:
            shown = [(ranks == state.cards[2]) & (state.round > 0), *shown]
        seen, own = jnp.concatenate(shown), state.cards[:2, None] == ranks  # [2, ranks]
        both = jnp.broadcast_to(seen, (2, seen.shape[0]))
        view = jnp.concatenate([np.eye(2), own, both], -1).astype(jnp.float32)
        legal = jnp.where(turn[:, None], self.legal(state), only_first(3))
        of_all = jnp.concatenate([turn, own.reshape(-1), seen]).astype(jnp.float32)
        alive = jnp.ones(2, bool)
        return {"view": view, "alive": alive, "turn": turn, "legal": legal, "state": of_all}

    def draw(self, state: PokerState) -> np.ndarray:
        """Both players' cards, the common card once it is dealt, and what each has put in."""
        canvas = Canvas(0, 4)
        cards = [int(card) for card in np.asarray(state.cards)]
        places = [(1.0, 2.0, COLORS[0]), (3.0, 2.0, COLORS[1])]
        if len(cards) > 2 and int(state.round) > 0:
            places.append((2.0, 2.0, INK))
        for (x, y, color), card in zip(places, cards, strict=False):
            corners = [
                (x + a, y + b) for a, b in ((-0.4, -0.6), (0.4, -0.6), (0.4, 0.6), (-0.4, 0.6))
            ]
            canvas.polygon(corners, PALE)
            canvas.text((x, y), NAMES[card] if self.ranks == 3 else str(card), color, 0.8)
        for x, paid in zip((1.0, 3.0), np.asarray(state.paid), strict=True):
            canvas.text((x, 1.0), f"{paid:g}", INK, 0.4)
        return canvas.picture()


KUHN = Poker("jax:kuhn_poker", raises=(1,), most=1, copies=1)
LEDUC = Poker("jax:leduc_poker", raises=(2, 4), most=2, copies=2)
