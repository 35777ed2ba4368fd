"""Kuhn and Leduc poker: rules by hand, exact values, and hands beside OpenSpiel's."""

from functools import cache
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl.core.errors import EnvError
from parl.envs.factory import make_factory
from parl.envs.game_tree import (
    Tree,
    action_values,
    bound_of,
    enumerated,
    exploitability,
    is_game,
    mixed,
    values,
)
from parl.envs.multi.board_games import CONNECT_FOUR, TIC_TAC_TOE
from parl.envs.multi.poker import CALL, FOLD, KUHN, LEDUC, RAISE, Poker

KEY = jax.random.key(0)
F, C, R = FOLD, CALL, RAISE
JACK, QUEEN, KING = range(3)


@cache
def jitted(game: Poker) -> Any:
    return jax.jit(game.step)


def play(game: Poker, cards: list[int], moves: list[int]) -> Any:
    """The last answer of a hand, after checking that it went on until then."""
    state, obs = game.start(jnp.array(cards))
    answer: Any = None
    for move in moves:
        assert answer is None or not answer[3], "the hand is over already"
        mover = int(np.argmax(obs["turn"]))
        action = jnp.full(2, (move + 1) % 3).at[mover].set(move)  # the other's does not count
        answer = jitted(game)(state, action, KEY)
        state, obs = answer[:2]
    return answer


@pytest.mark.parametrize(
    "cards, moves, reward",
    [
        ([KING, QUEEN], [C, C], 1),
        ([JACK, QUEEN], [C, C], -1),
        ([JACK, QUEEN], [R, C], -2),
        ([JACK, QUEEN], [R, F], 1),
        ([KING, QUEEN], [C, R, F], -1),
        ([KING, QUEEN], [C, R, C], 2),
        ([KING, QUEEN], [R, R], 2),  # a second raise is not legal: it calls
    ],
)
def test_hands_of_kuhn(cards: list[int], moves: list[int], reward: float) -> None:
    _, obs, paid, over, cut = play(KUHN, cards, moves)
    np.testing.assert_array_equal(paid, [reward, -reward])
    assert over and not cut and not np.asarray(obs["turn"]).any()


@pytest.mark.parametrize(
    "cards, moves, reward",
    [
        ([KING, QUEEN, JACK], [C, C, C, C], 1),
        ([QUEEN, QUEEN, JACK], [R, C, R, C], 0),  # equal hands
        ([KING, JACK, JACK], [C, C, C, C], -1),  # a pair is more than a king
        ([QUEEN, JACK, QUEEN], [R, R, C, R, R, C], 13),  # 1 + 2 x 2 + 2 x 4
        ([KING, JACK, QUEEN], [C, R, C, C, R, F], -3),
        ([KING, JACK, QUEEN], [R, R, F], -3),
        ([JACK, KING, QUEEN], [R, C, C, R, R, F], 7),
    ],
)
def test_hands_of_leduc(cards: list[int], moves: list[int], reward: float) -> None:
    _, _, paid, over, _ = play(LEDUC, cards, moves)
    np.testing.assert_array_equal(paid, [reward, -reward])
    assert over


def test_views_of_leduc() -> None:
    """A player sees its seat, its card and the moves, and the common card in the second round."""
    state, obs = LEDUC.start(jnp.array([KING, JACK, QUEEN]))
    assert [np.flatnonzero(view).tolist() for view in obs["view"]] == [[0, 4], [1, 2]]
    np.testing.assert_array_equal(obs["legal"], [[0, 1, 1], [1, 0, 0]])
    state, obs = jitted(LEDUC)(state, jnp.array([R, F]), KEY)[:2]
    np.testing.assert_array_equal(obs["legal"], [[1, 0, 0], [1, 1, 1]])
    _, obs = jitted(LEDUC)(state, jnp.array([F, C]), KEY)[:2]
    # seat, card and common card, then calls by round and slot, then raises
    assert np.flatnonzero(obs["view"][0]).tolist() == [0, 4, 6, 9, 16]
    np.testing.assert_array_equal(obs["turn"], [True, False])
    np.testing.assert_array_equal(np.flatnonzero(obs["state"]), [0, 4, 5, 9, 12, 19])


def test_deals() -> None:
    cards, chances = LEDUC.deals()
    assert cards.shape == (24, 3) and chances.sum() == pytest.approx(1)
    of = {tuple(map(int, deal)): chance for deal, chance in zip(cards, chances, strict=True)}
    assert of[KING, QUEEN, JACK] == pytest.approx(8 / 120)
    assert of[KING, KING, JACK] == pytest.approx(4 / 120) and (KING, KING, KING) not in of
    drawn = jax.jit(jax.vmap(lambda key: LEDUC.reset(key)[0].cards))(jax.random.split(KEY, 6000))
    share = (np.asarray(drawn) == [KING, QUEEN, JACK]).all(-1).mean()
    assert share == pytest.approx(8 / 120, abs=0.01)


def cfr(tree: Tree, iterations: int) -> np.ndarray:
    """The average strategy of CFR, players in turn, by recursion: Zinkevich et al. 2007."""
    children: list[dict[int, dict[int, int]]] = []
    for level in tree.levels[1:]:
        of: dict[int, dict[int, int]] = {}
        for row, (parent, action) in enumerate(zip(level.parent, level.action, strict=True)):
            of.setdefault(int(parent), {})[int(action)] = row
        children.append(of)
    regret, total = np.zeros(tree.legal.shape), np.zeros(tree.legal.shape)

    def strategy() -> np.ndarray:
        positive = np.maximum(regret, 0)
        size = positive.sum(-1, keepdims=True)
        return np.where(size > 0, positive / np.maximum(size, 1e-300), tree.uniform)

    def walk(depth: int, row: int, reach: list[float], chance: float, player: int) -> float:
        level = tree.levels[depth]
        place, mover = level.place[row], level.mover[row]
        if place < 0:
            return float(level.paid[row, player])
        worth = dict.fromkeys(children[depth][row], 0.0)
        for action, child in children[depth][row].items():
            further = list(reach)
            further[mover] *= now[place, action]
            worth[action] = walk(depth + 1, child, further, chance, player)
        value = sum(now[place, action] * x for action, x in worth.items())
        if mover == player:
            for action, x in worth.items():
                regret[place, action] += chance * reach[1 - player] * (x - value)
                total[place, action] += chance * reach[player] * now[place, action]
        return value

    for _ in range(iterations):
        for player in (0, 1):
            now = strategy()
            for deal, chance in enumerate(tree.chances):
                walk(0, deal, [1.0, 1.0], chance, player)
    return total / total.sum(-1, keepdims=True)


@pytest.mark.parametrize(
    "game, states, uniform, iterations, solved, value",
    [
        (KUHN, 12, 0.916667, 100, 0.016452, -1 / 18),
        pytest.param(LEDUC, 288, 4.747222, 100, 0.191433, -0.0856, marks=pytest.mark.slow),
    ],
)
def test_nash_conv_is_that_of_openspiel(
    game: Poker, states: int, uniform: float, iterations: int, solved: float, value: float
) -> None:
    """Of the uniform strategy, and of CFR's after 100 iterations."""
    tree = enumerated(game)
    assert len(tree.mover) == states and tree.size < bound_of(game)
    assert exploitability(tree, tree.uniform).nash_conv == pytest.approx(uniform, abs=1e-6)
    found = exploitability(tree, cfr(tree, iterations))
    assert found.nash_conv == pytest.approx(solved, abs=1e-6)
    assert found.exploitability == found.nash_conv / 2
    assert -found.responses[1] <= value <= found.responses[0]  # between which the value lies


def test_leducs_uniform_strategy() -> None:
    tree = enumerated(LEDUC)
    found = exploitability(tree, tree.uniform)
    assert found.nash_conv == pytest.approx(4.747222, abs=1e-6)
    np.testing.assert_allclose(found.responses, [2.0875, 2.659722], atol=1e-6)
    np.testing.assert_allclose(found.values, [-0.078125, 0.078125], atol=1e-9)


def test_kuhns_equilibrium_by_hand() -> None:
    """Of Kuhn's family with alpha 1/3: nothing is gained against it, and it is worth -1/18."""
    tree = enumerated(KUHN)
    strategy = np.zeros(tree.legal.shape)
    card = tree.obs["view"][np.arange(12), tree.mover][:, 2:5].argmax(-1)
    history = tree.obs["view"][np.arange(12), tree.mover][:, 5:]
    bluffs, calls = {JACK: 1 / 3, QUEEN: 0, KING: 1}, {JACK: 0, QUEEN: 1 / 3, KING: 1}
    for i in range(12):
        owes = bool(tree.legal[i, FOLD])
        if tree.mover[i] == 0:
            bold = {JACK: 0, QUEEN: 2 / 3, KING: 1} if owes else {JACK: 1 / 3, QUEEN: 0, KING: 1}
        else:
            bold = calls if owes else bluffs
        strategy[i, [FOLD, CALL] if owes else [CALL, RAISE]] = 1 - bold[card[i]], bold[card[i]]
    assert history.any(-1).sum() == 9
    found = exploitability(tree, strategy)
    assert found.nash_conv == pytest.approx(0, abs=1e-12)
    np.testing.assert_allclose(found.values, [-1 / 18, 1 / 18])


def test_mixtures_are_worth_the_mean_of_their_games() -> None:
    """Drawing a strategy before the game is worth what the strategies are worth on average."""
    tree, rng = enumerated(KUHN), np.random.default_rng(0)
    drawn = rng.random((3, *tree.legal.shape)) * tree.legal
    strategies = drawn / drawn.sum(-1, keepdims=True)
    weights = np.array([[0.5, 0.2, 0.3], [0.1, 0.0, 0.9]])
    joint = mixed(tree, strategies, weights)
    np.testing.assert_allclose(joint.sum(-1), 1)

    def pair(i: int, j: int) -> float:
        chosen = np.where((tree.mover == 0)[:, None], strategies[i], strategies[j])
        return float(values(tree, chosen)[0])

    mean = sum(weights[0, i] * weights[1, j] * pair(i, j) for i in range(3) for j in range(3))
    assert values(tree, joint)[0] == pytest.approx(mean, abs=1e-12)


def test_action_values_of_a_last_move() -> None:
    """With a queen, calling a bet of a uniform player is worth as much as folding loses not."""
    tree = enumerated(KUHN)
    worth, weight, value = action_values(tree, tree.uniform, 1, respond=False)
    view = tree.obs["view"][:, 1]
    at = np.flatnonzero((tree.mover == 1) & (view[:, 3] == 1) & (view[:, 8] == 1))
    assert at.shape == (1,) and weight[at[0]] == pytest.approx(2 / 6 / 2)
    # after a bet half of the hands are won with 2 and half lost with 2; folding loses 1
    np.testing.assert_allclose(worth[at[0]] / weight[at[0]], [-1, 0, -np.inf])
    assert value == pytest.approx(values(tree, tree.uniform)[1])


def test_trees_that_are_too_large_or_none() -> None:
    with pytest.raises(EnvError, match=r"more than 300 histories, 504 after 3 moves alone"):
        enumerated(TIC_TAC_TOE, limit=300)
    assert is_game(CONNECT_FOUR) and bound_of(CONNECT_FOUR) > 1e30
    assert not is_game(make_factory("jax:simple_spread").jax)
    assert make_factory("jax:leduc_poker").jax == LEDUC


@pytest.mark.parametrize("name, game", [("kuhn_poker", KUHN), ("leduc_poker", LEDUC)])
def test_hands_run_as_in_openspiel(name: str, game: Poker) -> None:
    """Random hands: who moves, what is legal, and what is paid."""
    pyspiel = pytest.importorskip("pyspiel")
    rng, theirs = np.random.default_rng(0), pyspiel.load_game(name)
    for _ in range(100):
        other, cards = theirs.new_initial_state(), []
        # the common card comes later there, and a card is dealt once
        deck = rng.permutation(len(game.deals()[0][0]) and game.ranks * game.copies)
        cards = [int(card) // game.copies for card in deck[: game.deals()[0].shape[1]]]
        state, obs = game.start(jnp.array(cards, jnp.int32))
        dealt, over, reward = 0, False, np.zeros(2)
        while not over:
            while other.is_chance_node():
                other.apply_action(int(deck[dealt]))
                dealt += 1
            mover = int(np.argmax(obs["turn"]))
            assert other.current_player() == mover
            legal = np.flatnonzero(obs["legal"][mover])
            owes = bool(obs["legal"][mover, FOLD])
            in_theirs = {F: 0, C: 1, R: 2} if name != "kuhn_poker" else {F: 0, C: int(owes), R: 1}
            assert sorted(in_theirs[int(a)] for a in legal) == other.legal_actions()
            move = int(rng.choice(legal))
            other.apply_action(in_theirs[move])
            state, obs, reward, over, _ = jitted(game)(state, jnp.full(2, move), KEY)
        assert other.is_terminal() and list(map(float, reward)) == other.returns()
