"""Exported policies take what environments show: frames of a stack, several agents by name."""

import dataclasses
import importlib.util
import json
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import policies
import pytest
from gymnasium import spaces
from gymnasium.wrappers import FrameStackObservation, TransformObservation

import parl
from parl.core.errors import ArtefactError
from parl.deploy import artefact, contract
from parl.deploy.artefact import Settings, Source
from parl.deploy.export import numpy as numpy_form
from parl.deploy.observations import preprocessing_of
from parl.envs.adapters.gymnasium_interface import describe_team
from parl.envs.adapters.gymnasium_team import Team
from parl.envs.adapters.stacks import stack_of
from parl.envs.adapters.to_pettingzoo import export as to_pettingzoo
from parl.envs.factory import make_factory
from parl.envs.native import translator


class Film(gymnasium.Env):
    """Random pictures, in episodes of five."""

    observation_space = spaces.Box(0, 255, (12, 12), np.uint8)
    action_space = spaces.Discrete(3)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        super().reset(seed=seed)
        self.time = 0
        return self.picture(), {}

    def step(self, action: Any) -> Any:
        self.time += 1
        return self.picture(), 0.0, self.time == 5, False, {}

    def picture(self) -> np.ndarray:
        return self.np_random.integers(0, 256, (12, 12)).astype(np.uint8)


def written(place: Path, found: Source, **settings: Any) -> parl.Policy:
    """The policy of an artefact that was written to `place`."""
    asked = Settings(episodes=0, **settings)
    place.mkdir()
    playless = found._replace(factory=None)  # no episodes, but what the environment tells
    parts = artefact.parts_of(playless, asked)
    values = artefact.described(found, parts, asked)
    declared, data = artefact.weights.packed(artefact.constants_of(parts.programs), "float32")
    (place / "weights.npz").write_bytes(data)
    artefact.seal(place, values | {"weights": declared})
    return parl.Policy.load(place)


@pytest.fixture(scope="module")
def filmed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact of a policy that sees four frames."""
    factory = make_factory(lambda: FrameStackObservation(Film(), 4))
    place = tmp_path_factory.mktemp("stack") / "p"
    written(place, policies.of_recipe("ppo", factory.spec)._replace(factory=factory))
    return place


@pytest.mark.parametrize("padding", ["reset", "zero"])
def test_the_state_keeps_the_frames_of_a_stack(padding: Any, filmed: Path) -> None:
    make = lambda: FrameStackObservation(Film(), 4, padding_type=padding)
    told: Any = stack_of(make())
    assert told == {"kind": "stack", "frames": 4, "axis": 0, "padding": padding}
    file = filmed / "contract.json"
    values = json.loads(file.read_text())
    assert values["preprocessing"][0].keys() == told.keys()
    file.write_bytes(contract.sealed(values | {"preprocessing": [told]}))
    actor = parl.Policy.load(filmed)
    films = [Film(), Film()]
    stacks = [make(), make()]
    frames, whole = (
        np.stack([env.reset(seed=i)[0] for i, env in enumerate(envs)]) for envs in (films, stacks)
    )
    state, alone, chosen = actor.start(2), actor.start(), []
    for _ in range(20):
        action, state = actor.act(frames, state)
        want, _ = actor.act(whole)
        assert (state.memory["frames"] == whole).all() and (action == want).all()
        one, alone = actor.act(frames[0], alone)
        assert one.shape == () and one == action[0]
        chosen += action.tolist()
        steps = [env.step(0) for env in films]
        over = np.array([step[2] for step in steps])
        for i, (film, stack) in enumerate(zip(films, stacks, strict=True)):
            whole[i] = stack.step(0)[0]
            frames[i] = steps[i][0]
            if over[i]:
                frames[i], whole[i] = film.reset()[0], stack.reset()[0]
        state, alone = actor.reset(state, over), actor.reset(alone, over[:1])
    assert len(set(chosen)) > 1
    with pytest.raises(ArtefactError, match=r"its shape is \(3, 12, 12\)"):
        actor.act(np.zeros((3, 12, 12), np.uint8), actor.start())
    four = np.random.default_rng(0).integers(0, 256, (4, 12, 12)).astype(np.uint8)
    assert actor.act(four)[0].shape == ()  # one whole stack,
    opened = actor.act(four, actor.start(4))[1].memory["frames"]  # or the frames of four games
    assert opened.shape == (4, 4, 12, 12) and (opened[:, 0] == four * (padding == "reset")).all()
    after = actor.act(four[0], actor.act(whole[0], actor.start())[1])[1].memory["frames"]
    assert (after[0] == np.concatenate([whole[0, 1:], four[:1]])).all()


def test_the_written_runtime_keeps_frames_too(filmed: Path) -> None:
    numpy_form.write(filmed)
    told: Any = importlib.util.spec_from_file_location("written_policy", filmed / "policy.py")
    module = importlib.util.module_from_spec(told)
    told.loader.exec_module(module)
    written, actor = module.load(), parl.Policy.load(filmed)
    films = np.random.default_rng(0).integers(0, 256, (6, 12, 12)).astype(np.uint8)
    state, own = actor.start(), written.start()
    for frame in films:
        (action, state), (mine, own) = actor.act(frame, state), written.act(frame, own)
        assert action == mine
    assert (own.memory["frames"][0] == films[2:]).all()


def test_a_stack_that_goes_on_to_be_changed_is_not_told() -> None:
    env = FrameStackObservation(Film(), 4)
    assert stack_of(gymnasium.wrappers.TimeLimit(env, 3)) is not None
    assert stack_of(TransformObservation(env, lambda x: x, env.observation_space)) is None
    assert stack_of(Film()) is None
    (last,) = preprocessing_of(parl.EnvSpec("ale:Pong", policies.IMAGE, parl.Discrete(6)))[-1:]
    assert last == {"kind": "stack", "frames": 4, "axis": -1, "padding": "reset"}


# --- several agents ---------------------------------------------------------------------------


def test_a_team_acts_on_what_pettingzoo_shows(tmp_path: Path) -> None:
    """Ours in PettingZoo's form: the actions of the joint program by name; some may be gone."""
    factory = make_factory("jax:simple_speaker_listener")  # views of 3 and 11, actions of 3 and 5
    found = policies.of_recipe("ippo", factory.spec, sharing="none")._replace(factory=factory)
    actor = written(tmp_path / "p", found)
    env: Any = to_pettingzoo(factory.jax)  # pyright: ignore[reportArgumentType]
    obs, infos = env.reset(seed=0)
    state = actor.start()
    for _ in range(3):
        actions, state = actor.act(obs, state, info=infos)
        arrays = {name: x for name, x in env.game.obs.items() if name != "state"}
        joint, _ = actor.act(arrays)
        assert {name: int(x) for name, x in actions.items()} == dict(
            zip(env.agents, joint.tolist(), strict=True)
        )
        obs, *_, infos = env.step(actions)
    first, second = env.agents
    both, _ = actor.act([obs, {second: obs[second]}], actor.start(2))
    assert set(both[0]) == {first, second} and set(both[1]) == {second}
    assert int(both[1][second]) == int(both[0][second])
    with pytest.raises(ArtefactError, match=r"there is no agent 'third'. Known: speaker_0, listen"):
        actor.act({"third": obs[first]})
    with pytest.raises(ArtefactError, match=r"its shape is \(2,\) instead of \(3,\)"):
        actor.act({first: np.zeros(2)})


def test_in_games_only_who_is_to_move_acts(tmp_path: Path) -> None:
    factory = make_factory("jax:tic_tac_toe")
    actor = written(
        tmp_path / "p", policies.of_recipe("ippo", factory.spec)._replace(factory=factory)
    )
    env: Any = to_pettingzoo(factory.jax)  # pyright: ignore[reportArgumentType]
    env.reset(seed=0)
    state, moves = actor.start(), []
    for agent in env.agent_iter():
        seen, _, terminated, truncated, _ = env.last()
        if terminated or truncated:
            break
        shown = {name: env.observe(name) for name in env.agents}
        actions, state = actor.act(shown, state)
        assert list(actions) == [agent] and seen["action_mask"][actions[agent]]
        moves.append(int(actions[agent]))
        env.step(moves[-1])
    assert len(moves) >= 5 and len(set(moves)) == len(moves)
    with pytest.raises(ArtefactError, match="the mask of player_1 is"):
        actor.act({"player_1": {"observation": np.zeros(18), "action_mask": np.ones(4)}})


def test_masks_in_infos_come_with_them(tmp_path: Path) -> None:
    team = Team("zoo", ["a", "b"], [spaces.Box(-1, 1, (2,))] * 2, [spaces.Discrete(3)] * 2)
    team.informed = {"a"}
    found = policies.of_recipe("ippo", dataclasses.replace(team.team, native=describe_team(team)))
    actor, alone = written(tmp_path / "p", found), written(tmp_path / "q", found, agent="a")
    obs, mask = {"a": np.zeros(2), "b": np.zeros(2)}, {"action_mask": np.array([0, 1, 0])}
    assert int(actor.act(obs, info={"a": mask})[0]["a"]) == 1
    assert int(alone.act(obs["a"], info=mask)[0]) == 1
    for act, seen in ((actor, obs), (alone, obs["a"])):
        with pytest.raises(ArtefactError, match="tells a which actions are legal in its info"):
            act.act(seen)


def test_one_agent_alone_is_shown_its_own(tmp_path: Path) -> None:
    factory = make_factory("jax:tic_tac_toe")
    found = policies.of_recipe("ippo", factory.spec)._replace(factory=factory)
    actor, team = written(tmp_path / "p", found, agent="player_2"), written(tmp_path / "q", found)
    view = np.random.default_rng(0).random(18) > 0.7
    obs = {"observation": view, "action_mask": np.array([0, 1, 1, 0, 1, 0, 0, 0, 1], np.int8)}
    action, _ = actor.act(obs)
    assert action.shape == () and int(action) == int(team.act({"player_2": obs})[0]["player_2"])
    assert list(map(int, actor.act([obs, obs], actor.start(2))[0])) == [int(action)] * 2
    assert actor.act({"view": view, "legal": obs["action_mask"] > 0})[0] == action


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"choices": -1}, "has -1 actions"),
        ({"parts": []}, "sees nothing"),
        ({"name": "somebody"}, "its agents are others"),
        ({"parts": [{"shape": [99], "own_shape": [99]}]}, "see more than this policy has room for"),
        ({"parts": [{"counts": 10**9}]}, "see more than this policy has room for"),
    ],
)
def test_agents_that_do_not_fit_are_refused(change: Any, message: str, tmp_path: Path) -> None:
    spec = make_factory("jax:tic_tac_toe").spec
    written(tmp_path / "p", policies.of_recipe("ippo", spec))
    file = tmp_path / "p" / "contract.json"
    values = json.loads(file.read_text())
    one = values["members"][0]
    parts = [one["parts"][0] | part for part in change.get("parts", [{}])]
    values["members"][0] = one | change | {"parts": parts}
    file.write_bytes(contract.sealed(values))
    with pytest.raises(ArtefactError, match=message):
        parl.Policy.load(tmp_path / "p")


SPACES = {
    "seer": spaces.Dict(
        {
            "observation": spaces.Dict(
                {
                    "kind": spaces.Discrete(3, start=2),
                    "flags": spaces.MultiBinary(4),
                    "grid": spaces.MultiDiscrete([2, 3]),
                    "picture": spaces.Box(0, 255, (3, 3, 1), np.uint8),
                }
            ),
            "action_mask": spaces.Box(0, 1, (4,), np.int8),
        }
    ),
    "other": spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.Discrete(2)]),
}


ACTIONS = {"seer": spaces.Discrete(4), "other": spaces.Discrete(2, start=5)}


def test_the_views_of_pettingzoo_are_those_of_training(tmp_path: Path) -> None:
    team = Team("zoo", list(SPACES), list(SPACES.values()), list(ACTIONS.values()))
    spec = dataclasses.replace(team.team, native=describe_team(team))
    actor, own = written(tmp_path / "p", policies.of_recipe("ippo", spec)), translator(spec)
    for seed, space in enumerate(SPACES.values()):
        space.seed(seed)
    for _ in range(5):
        obs: Any = {name: space.sample() for name, space in SPACES.items()}
        obs["seer"]["action_mask"] = np.array([0, 1, 0, 1], np.int8)
        want = own.observe(obs).obs
        inputs, batch, single = actor.observed(obs)
        assert batch == 1 and single
        for name, x in inputs.items():
            np.testing.assert_allclose(x, want[name.removeprefix("obs.")], atol=1e-7)
        actions, _ = actor.act(obs)
        assert actions["seer"] in (1, 3) and actions["other"] in (5, 6)
