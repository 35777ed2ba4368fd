"""PettingZoo environments behind the VectorEnv protocol."""

import copy
import json
import pickle
from typing import Any

import numpy as np
import pytest
from dying import AGENTS, Dying, DyingParallel
from gymnasium import spaces
from pettingzoo import AECEnv, ParallelEnv

from parl.core.errors import EnvError, MissingPackage, SpaceError
from parl.core.spec import Box, Discrete
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.adapters.pettingzoo import as_team, make_pettingzoo
from parl.envs.adapters.resilient import resilient
from parl.envs.factory import make_factory
from parl.envs.jax_vector import JaxVectorEnv
from parl.envs.native import translator


def names_of(count: int) -> list[str]:
    return [f"agent_{i}" for i in range(count)]


class Zoo(ParallelEnv):
    """Agents with given spaces; views are zeros, rewards count up; ends after three steps."""

    metadata = {"name": "zoo_v0"}  # noqa: RUF012
    render_mode = None

    def __init__(self, seen: list[Any], acts: list[Any], mask: Any = None, info_mask: Any = None):
        self.possible_agents, self.agents = names_of(len(seen)), []
        self.seen = dict(zip(self.possible_agents, seen, strict=True))
        self.acts = dict(zip(self.possible_agents, acts, strict=True))
        self.mask, self.info_mask = mask, info_mask
        self.taken: list[Any] = []

    def observation_space(self, agent: str) -> spaces.Space:
        return self.seen[agent]

    def action_space(self, agent: str) -> spaces.Space:
        return self.acts[agent]

    def told(self) -> tuple[dict[str, Any], dict[str, Any]]:
        obs: dict[str, Any] = {}
        for i, name in enumerate(self.agents):
            obs[name] = self.seen[name].sample()
            if self.mask is not None:
                obs[name]["action_mask"] = np.array(self.mask[i], np.int8)
        masks = {} if self.info_mask is None else {"action_mask": np.array(self.info_mask, np.int8)}
        return obs, {name: masks for name in self.agents}

    def reset(self, seed: int | None = None, options: Any = None) -> Any:
        self.time, self.agents = 0, list(self.possible_agents)
        return self.told()

    def step(self, actions: dict[str, Any]) -> Any:
        self.taken.append(actions)
        self.time += 1
        obs, infos = self.told()
        flags = lambda value: dict.fromkeys(self.possible_agents, value)
        if self.time == 3:
            self.agents = []
        return obs, flags(float(self.time)), flags(self.time == 3), flags(False), infos


def vector(make: Any, count: int = 1, seed: int = 0) -> Any:
    return GymnasiumVectorEnv(make, count, seed, "test:zoo")


# --- agents that die and come late


@pytest.mark.parametrize("cut", [False, True])
def test_dying_agents_are_as_in_jax(cut: bool) -> None:
    """Two implementations of the same rules, one by dicts, one by arrays: equal in every array."""
    dicts, arrays = vector(lambda: DyingParallel(cut), 3), JaxVectorEnv(Dying(cut=cut), 3, 0)
    assert dicts.spec.observation_space == arrays.spec.observation_space
    seen, rng, ends = [dicts.reset(), arrays.reset()], np.random.default_rng(0), 0
    for time in range(10):
        for part in seen[1]:
            np.testing.assert_array_equal(seen[0][part], seen[1][part], err_msg=f"{part} at {time}")
        action = (rng.random((3, 3, 2)) * seen[1]["legal"]).argmax(-1)
        answers = [env.step(action) for env in (dicts, arrays)]
        for part in ("reward", "terminated", "truncated"):
            one, other = (getattr(answer, part) for answer in answers)
            np.testing.assert_array_equal(one, other, err_msg=f"{part} at {time}")
            assert one.dtype == other.dtype
        final, expected = (answer.next_obs for answer in answers)
        ended = answers[1].truncated | answers[1].terminated
        for part in expected:
            np.testing.assert_array_equal(final[part], expected[part], err_msg=f"{part} at {time}")
        seen, ends = [answer.obs for answer in answers], ends + ended.sum()
    assert ends == 6


def test_the_last_reward_of_the_dead_is_kept() -> None:
    env = vector(DyingParallel)
    env.reset()
    first = env.step(np.ones((1, 3), int))
    np.testing.assert_array_equal(first.reward, [[2, 3, 0]])
    np.testing.assert_array_equal(first.next_obs["alive"], [[True, True, True]])
    second = env.step(np.ones((1, 3), int))
    np.testing.assert_array_equal(second.reward, [[2, 3, 4]])
    np.testing.assert_array_equal(second.next_obs["alive"], [[True, False, True]])
    third = env.step(np.array([[1, 0, 1]]))
    np.testing.assert_array_equal(third.reward, [[2, 0, 4]])
    assert not second.next_obs["view"][0, 1].any() and not third.next_obs["view"][0, 1].any()


def test_an_agent_that_revives() -> None:
    env = vector(lambda: DyingParallel(reborn=True))
    env.reset()
    env.step(np.zeros((1, 3), int))
    env.step(np.zeros((1, 3), int))
    with pytest.raises(EnvError, match="agent_1 died") as error:
        env.step(np.zeros((1, 3), int))
    assert str(error.value) == (
        "dying_v0: agent_1 died and came back within an episode; an agent that is to return needs "
        "a name of its own, and one that waits leaves `agents` without a flag."
    )


# --- spaces


def test_agents_that_differ_are_padded_and_grouped() -> None:
    seen = [
        spaces.Box(-1, 1, (2,)),
        spaces.Box(-1, 1, (2, 2)),
        spaces.Discrete(3),
        spaces.Box(-1, 1, (2,)),
    ]
    acts = [spaces.Discrete(2), spaces.Discrete(4, start=5), spaces.Discrete(3), spaces.Discrete(2)]
    made: list[Zoo] = []
    env = vector(lambda: made.append(Zoo(seen, acts)) or made[-1])
    assert env.spec.groups == (0, 1, 2, 0) and env.spec.agents == tuple(names_of(4))
    assert env.spec.action_space == Discrete(4) and env.spec.action.shape == (1, 4)
    assert env.spec.observation_space["view"] == Box((4, 4))
    obs = env.reset()
    np.testing.assert_array_equal(obs["legal"][0].sum(1), [2, 4, 3, 2])
    assert not obs["view"][0, 0, 2:].any() and obs["view"][0, 2].sum() == 1
    rows = [obs["view"][0, i, :n] for i, n in enumerate((2, 4, 3, 2))]
    np.testing.assert_array_equal(obs["state"][0], np.concatenate(rows))
    env.step(np.array([[1, 2, 0, 0]]))
    assert made[0].taken == [{"agent_0": 1, "agent_1": 7, "agent_2": 0, "agent_3": 0}]


def test_continuous_actions_are_stretched_and_cut_to_size() -> None:
    seen = [spaces.Box(-1, 1, (1,))] * 2
    acts = [spaces.Box(0, 1, (3,)), spaces.Box(-4, 4, (1,))]
    made: list[Zoo] = []
    env = vector(lambda: made.append(Zoo(seen, acts)) or made[-1])
    assert env.spec.action_space == Box((3,)) and env.spec.action.shape == (1, 2, 3)
    assert "legal" not in env.spec.observation_space
    env.reset()
    env.step(np.array([[[-1, 0, 1], [0.5, 9, 9]]], np.float32))
    np.testing.assert_array_equal(made[0].taken[0]["agent_0"], np.array([0, 0.5, 1], np.float32))
    np.testing.assert_array_equal(made[0].taken[0]["agent_1"], np.array([2], np.float32))


def test_mixed_action_spaces() -> None:
    acts = [spaces.Discrete(2), spaces.Box(-1, 1, (2,))]
    with pytest.raises(EnvError, match="mixes agents with discrete and with continuous actions"):
        vector(lambda: Zoo([spaces.Box(-1, 1, (1,))] * 2, acts))
    with pytest.raises(SpaceError, match="only Discrete and Box are served"):
        vector(lambda: Zoo([spaces.Box(-1, 1, (1,))], [spaces.MultiDiscrete([2, 2])]))


# --- masks

SEEN = spaces.Dict({"observation": spaces.Box(-1, 1, (2,))})
MASKED = spaces.Dict({**SEEN, "action_mask": spaces.Box(0, 1, (3,), np.int8)})


def test_masks_in_observations_and_infos() -> None:
    acts = [spaces.Discrete(3)] * 2
    env = vector(lambda: Zoo([MASKED] * 2, acts, mask=[[1, 0, 1], [0, 1, 0]]))
    assert env.spec.observation_space["view"] == Box((2, 2))
    np.testing.assert_array_equal(env.reset()["legal"][0], [[1, 0, 1], [0, 1, 0]])
    env = vector(lambda: Zoo([spaces.Box(-1, 1, (2,))] * 2, acts, info_mask=[0, 0, 1]))
    np.testing.assert_array_equal(env.reset()["legal"][0], [[0, 0, 1]] * 2)


def test_masks_in_infos_come_with_them() -> None:
    """Without them an error says so; no illegal action is given."""
    acts, view = [spaces.Discrete(3)] * 2, np.zeros(2)
    env = vector(lambda: Zoo([spaces.Box(-1, 1, (2,))] * 2, acts, info_mask=[0, 0, 1]))
    own = translator(env.spec)
    obs = {name: view for name in names_of(2)}
    infos = {name: {"action_mask": np.array([0, 0, 1])} for name in obs}
    assert own.observe(obs, infos).obs["legal"].tolist() == [[[False, False, True]] * 2]
    for given in (None, {"agent_0": infos["agent_0"]}):
        with pytest.raises(SpaceError, match=r"tells agent_\d which actions are legal in its info"):
            own.observe(obs, given)
    told = vector(lambda: Zoo([MASKED] * 2, acts, mask=[[1, 0, 1], [0, 1, 0]], info_mask=[1, 1, 1]))
    assert [one["informed"] for one in told.spec.native["agents"]] == [False, False]


def test_in_games_by_turns_who_has_no_mask_is_not_to_move() -> None:
    own, obs = translator(vector(Counting).spec), {name: np.zeros(1) for name in names_of(2)}
    seen = own.observe(obs, {"agent_1": {"action_mask": np.ones(4)}})
    assert seen.asked == [["agent_1"]] and seen.obs["turn"].tolist() == [[False, True]]
    with pytest.raises(SpaceError, match="agent_0 which actions are legal in its info"):
        own.observe(obs)


def test_who_moved_and_is_shown_something_is_paid() -> None:
    class Unpaid(Zoo):
        def step(self, actions: dict[str, Any]) -> Any:
            obs, _, *rest = super().step(actions)
            return obs, {"agent_0": 1.0}, *rest

    env = vector(lambda: Unpaid([spaces.Box(-1, 1, (2,))] * 2, [spaces.Discrete(2)] * 2))
    env.reset()
    with pytest.raises(EnvError, match="shows agent_1 an observation and pays it no reward"):
        env.step(np.zeros((1, 2), int))


def test_a_mask_without_a_legal_action() -> None:
    env = vector(lambda: Zoo([MASKED] * 2, [spaces.Discrete(3)] * 2, mask=[[1, 0, 1], [0, 0, 0]]))
    with pytest.raises(EnvError, match="agent_1, who is to move, a mask with no legal action"):
        env.reset()


def test_an_action_that_its_mask_forbids() -> None:
    env = vector(lambda: Zoo([MASKED], [spaces.Discrete(3)], mask=[[1, 0, 1]]))
    env.reset()
    with pytest.raises(EnvError, match="action 1 of agent_0 is illegal by its mask"):
        env.step(np.array([[1]]))


# --- turn-based games


class Counting(AECEnv):
    """Players say numbers in turn; each number is paid to the OTHER player, at the end doubly.

    agent_1 ends the game at its second move. The first player so gets its last reward when it has
    no move any more.
    """

    metadata = {"name": "counting_v0"}  # noqa: RUF012
    render_mode = None

    def __init__(self, deaf: bool = False):
        self.possible_agents, self.deaf = names_of(2), deaf
        self.seen = spaces.Box(0, 9, (1,), np.float32)
        self.acts = spaces.Discrete(4)

    def observation_space(self, agent: str) -> spaces.Space:
        return self.seen

    def action_space(self, agent: str) -> spaces.Space:
        return self.acts

    def reset(self, seed: int | None = None, options: Any = None) -> None:
        self.agents, self.time = list(self.possible_agents), 0
        self.rewards = dict.fromkeys(self.agents, 0.0)
        self._cumulative_rewards = dict.fromkeys(self.agents, 0.0)
        self.terminations = dict.fromkeys(self.agents, False)
        self.truncations = dict.fromkeys(self.agents, False)
        self.infos = {a: {"action_mask": np.ones(4, np.int8)} for a in self.agents}
        self.agent_selection = self.agents[0]
        if self.deaf:
            self.infos[self.agents[0]] = {"action_mask": np.zeros(4, np.int8)}

    def observe(self, agent: str) -> np.ndarray:
        return np.array([self.time], np.float32)

    def step(self, action: int | None) -> None:
        mover = self.agent_selection
        if self.terminations[mover]:
            self._was_dead_step(action)
            return
        assert action is not None
        other = self.possible_agents[1 - self.possible_agents.index(mover)]
        self.time += 1
        self._cumulative_rewards[mover] = 0.0
        self.rewards = {mover: 0.0, other: float(action) * (2 if self.time == 4 else 1)}
        self._accumulate_rewards()
        self.terminations = dict.fromkeys(self.agents, self.time == 4)
        self.agent_selection = other


def test_a_turn_based_game_move_by_move() -> None:
    env = vector(Counting, 2)
    assert "turn" in env.spec.observation_space
    obs = env.reset()
    for time, number in enumerate([1, 2, 3]):
        np.testing.assert_array_equal(obs["turn"], [np.arange(2) == time % 2] * 2)
        np.testing.assert_array_equal(obs["legal"][0, 1 - time % 2], [1, 0, 0, 0])
        np.testing.assert_array_equal(obs["view"], np.full((2, 2, 1), time))
        new = env.step(np.where(obs["turn"], number, 0))
        np.testing.assert_array_equal(
            new.reward, [np.where(np.arange(2) == time % 2, 0, number)] * 2
        )
        assert not new.terminated.any()
        obs = new.obs
    last = env.step(np.where(obs["turn"], 3, 0))
    np.testing.assert_array_equal(last.reward, [[6, 0]] * 2)  # of who does not move any more
    assert last.terminated.all() and not last.truncated.any()
    np.testing.assert_array_equal(last.next_obs["view"], np.full((2, 2, 1), 4))
    assert not last.next_obs["turn"].any()
    np.testing.assert_array_equal(last.obs["view"], np.zeros((2, 2, 1)))
    np.testing.assert_array_equal(last.obs["turn"], [[True, False]] * 2)


def test_rewards_between_two_moves_sum_up_to_what_last_tells() -> None:
    plain, env = Counting(), vector(Counting)
    obs = env.reset()
    plain.reset()
    sums = np.zeros(2)
    for number in (1, 2, 3, 2):
        mover = int(obs["turn"][0].argmax())
        assert plain.last()[1] == sums[mover]
        sums[mover] = 0
        new = env.step(np.where(obs["turn"], number, 0))
        plain.step(number)
        sums, obs = sums + new.reward[0], new.obs
    for _ in range(2):
        assert plain.last()[1] == sums[names_of(2).index(plain.agent_selection)]
        plain.step(None)


def test_a_player_without_a_legal_move() -> None:
    env = vector(lambda: Counting(deaf=True))
    with pytest.raises(EnvError, match="agent_0, who is to move, a mask with no legal action"):
        env.reset()


@pytest.mark.parametrize("module", ["connect_four_v3", "tictactoe_v3", "rps_v2"])
def test_classic_games_by_id(module: str) -> None:
    id = f"pz:pettingzoo.classic.{module}"
    pytest.importorskip("pettingzoo.classic")
    env: Any = make_factory(id).vector(3, 0)
    assert env.spec.id == id and env.spec.num_agents == 2
    obs, rng, ends = env.reset(), np.random.default_rng(0), 0
    for _ in range(100):
        new = env.step((rng.random(obs["legal"].shape) * obs["legal"]).argmax(-1))
        obs, ends = new.obs, ends + new.terminated.sum() + new.truncated.sum()
        np.testing.assert_allclose(new.reward.sum(1), 0, atol=1e-6)
    assert ends >= 3


# --- ids, makers and instances


def test_mpe2_by_id_is_seeded_and_ends_by_truncation() -> None:
    pytest.importorskip("mpe2")
    factory = make_factory("pz:mpe2.simple_spread_v3")
    one, other = factory.vector(2, 5), factory.vector(2, 5)
    obs, again = one.reset(), other.reset()
    np.testing.assert_array_equal(obs["view"], again["view"])
    assert not np.array_equal(obs["view"][0], obs["view"][1])
    for _ in range(25):
        new = one.step(np.ones((2, 3), int))
    assert new.truncated.all() and not new.terminated.any()
    assert new.next_obs["alive"].all() and new.next_obs["legal"].all()
    assert not np.array_equal(new.next_obs["view"], new.obs["view"])
    assert factory.spec.max_steps == 25 and new.obs["state"].shape == (2, 54)


def test_makers_and_instances() -> None:
    by_maker = make_factory(DyingParallel)
    by_instance = make_factory(DyingParallel(cut=True))
    assert by_maker.spec.agents == by_instance.spec.agents == AGENTS
    assert (by_maker.spec.id, by_instance.spec.id) == ("dying:DyingParallel", "dying_v0")
    env = by_instance.vector(2, 0)
    env.reset()
    for _ in range(4):
        new = env.step(np.zeros((2, 3), int))
    assert new.truncated.all()


def test_a_game_that_breaks_can_be_replaced() -> None:
    class Breaking(DyingParallel):
        def step(self, actions: dict[str, int]) -> Any:
            if self.time == 1:
                raise RuntimeError("broken")
            return super().step(actions)

    env = vector(resilient(lambda: as_team(Breaking())), 2)
    env.reset()
    env.step(np.ones((2, 3), int))
    new = env.step(np.ones((2, 3), int))
    assert new.truncated.all() and new.reward.shape == (2, 3) and not new.reward.any()
    np.testing.assert_array_equal(new.next_obs["view"][:, 0], [[1, 0]] * 2)
    np.testing.assert_array_equal(new.obs["view"][:, 0], [[0, 0]] * 2)


def test_an_instance_that_cannot_be_copied() -> None:
    class Stuck(DyingParallel):
        def __deepcopy__(self, memo: Any) -> Any:
            raise TypeError("cannot pickle 'Window' object")

    with pytest.raises(EnvError, match="give the function that makes it instead"):
        make_factory(Stuck())
    copy.deepcopy(DyingParallel())


def test_makers_travel_to_other_processes() -> None:
    pytest.importorskip("mpe2")
    make = pickle.loads(pickle.dumps(make_pettingzoo("mpe2.simple_spread_v3", N=4)))
    assert make().team.num_agents == 4


@pytest.mark.parametrize(
    "id, kind, message",
    [
        ("pz:pettingzoo.classic.conect_four_v3", EnvError, "Did you mean connect_four_v3?"),
        (
            "pz:nosuchpackage.env_v0",
            MissingPackage,
            "needs the module 'nosuchpackage', which is not",
        ),
        ("pz:nosuchmodule", EnvError, "there is no module 'nosuchmodule'"),
        ("pz:json", EnvError, "json is not a PettingZoo environment"),
    ],
)
def test_modules_that_are_not_there(id: str, kind: type[Exception], message: str) -> None:
    with pytest.raises(kind) as error:
        make_factory(id)
    assert message in str(error.value)


def test_a_turn_based_game_where_a_parallel_one_is_wanted() -> None:
    pytest.importorskip("pettingzoo.classic")
    with pytest.raises(EnvError, match="connect_four_v3 has no parallel form"):
        make_pettingzoo("pettingzoo.classic.connect_four_v3", parallel=True)


def test_an_environment_without_possible_agents() -> None:
    class Nameless(DyingParallel):
        def __init__(self) -> None:
            super().__init__()
            del self.possible_agents

    with pytest.raises(EnvError, match="does not say which agents it may have"):
        vector(Nameless)


def test_states_start_new_episodes_that_are_the_same_each_time() -> None:
    pytest.importorskip("mpe2")
    factory = make_factory("pz:mpe2.simple_spread_v3")
    env = factory.vector(2, 3)
    env.reset()
    for _ in range(5):
        env.step(np.ones((2, 3), int))
    state = env.get_state()
    assert not state.exact and json.loads(json.dumps(state.meta)) == state.meta
    one, other = (factory.vector(2, 3).set_state(state) for _ in range(2))
    np.testing.assert_array_equal(one["view"], other["view"])
