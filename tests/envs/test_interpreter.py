"""Environments of another interpreter: the same numbers, and a sentence where it is lost."""

import os
import stat
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from marks import slow

import parl
from parl.core.errors import ConfigError, EnvError, MissingPackage, SpaceError
from parl.envs import pulse
from parl.envs.adapters import interpreter_side as side
from parl.envs.factory import in_processes, make_factory, randomized
from parl.envs.supervised import Lost

OWN = '''
import os, signal, sys, time
import gymnasium
import numpy as np
from gymnasium import spaces


class Odd(gymnasium.Env):
    """Draws all it shows; dies, hangs or raises where its action says so."""

    action_space = spaces.Discrete(6, start=1)
    pay = 1.0

    def __init__(self, size=2, nap=0.0):
        time.sleep(nap)
        self.size, self.time = size, 0
        self.observation_space = spaces.Dict({
            "image": spaces.Box(0, 255, (size, size, 3), np.uint8),
            "inner": spaces.Tuple([spaces.Discrete(4, start=-1), spaces.MultiBinary(3)]),
            "wide": spaces.Box(-1.0, np.array([1.0, np.inf]), dtype=np.float64),
        })

    def look(self):
        draw = self.np_random
        return {
            "image": draw.integers(0, 256, (self.size, self.size, 3)).astype(np.uint8),
            "inner": (int(draw.integers(-1, 3)), draw.integers(0, 2, 3)),
            "wide": draw.uniform(-1, 1, 2),
        }, {
            "action_mask": np.ones(6, np.int8), "time": self.time, "pid": os.getpid(),
            "a": {"b": True}, "text": "x", "ours": "parl" in sys.modules or "jax" in sys.modules,
        }

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.time = 0
        return self.look()

    def step(self, action):
        assert type(action) is int
        self.time += 1
        if action == 2:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == 3:
            time.sleep(60)
        if action == 4:
            raise KeyError("lost")
        obs, info = self.look()
        if action == 5:
            obs["image"] = obs["image"][1:]
        reward = "much" if action == 6 else self.pay * np.float32(obs["wide"][0])
        return obs, reward, self.time == 4, np.bool_(False), info


class Team(gymnasium.Env):
    observation_space = spaces.Box(-1, 1, (2,))
    action_space = spaces.Tuple([spaces.Discrete(2)] * 2)
'''


@pytest.fixture
def own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The id of Odd in this interpreter as another one."""
    (tmp_path / "there.py").write_text(OWN)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    sys.modules.pop("there", None)
    return f"venv:{sys.executable}!there:Odd"


def test_numbers_are_those_of_this_process(own: str) -> None:
    here = make_factory("there:Odd?size=3")
    there = make_factory(f"{own}?size=3")
    assert there.spec.observation_space == here.spec.observation_space
    assert there.spec.action_space == here.spec.action_space and there.spec.has_mask
    assert here.spec.native is not None and there.spec.native == here.spec.native
    envs = here.vector(3, 5, 0), in_processes(there, 2, None)(3, 5, 0)
    draw = np.random.default_rng(0)
    np.testing.assert_equal(envs[0].reset(), envs[1].reset())
    for _ in range(9):  # episodes of four steps
        action = draw.choice([0, 0], 3)
        for one, other in zip(*(env.step(action) for env in envs), strict=True):
            np.testing.assert_equal(one, other)
    infos = envs[1].infos
    assert [info["time"] for info in infos] == [1, 1, 1] and infos[0]["a"] == {"b": 1.0}
    assert infos[0]["ours"] == 0.0 and "text" not in infos[0]  # neither PARL nor JAX is there
    pids = [info["pid"] for info in infos]
    assert pids[0] != pids[1] == pids[2] and os.getpid() not in pids
    state, other = envs[1].get_state(), envs[0].get_state()
    assert not state.exact and state.meta == other.meta | {"id": there.spec.id}
    np.testing.assert_equal(envs[0].set_state(other), envs[1].set_state(state))
    envs[1].change({"pay": 0.0})
    assert envs[1].step(np.zeros(3, int)).reward.tolist() == [0.0] * 3
    envs[1].close()


@pytest.mark.parametrize(
    ("action", "said"),
    [
        (3, r"KeyError in step of environment 1 at step 1, at .*there.py:\d+: 'lost'"),
        (4, r"does not fit in step of environment 1 at step 1: the observation has the shape"),
        slow(5, r"does not fit in step of environment 1 at step 1: the reward is 'much', not num"),
    ],
)
def test_what_goes_wrong_there_is_one_sentence(own: str, action: int, said: str) -> None:
    env = make_factory(own).vector(2, 0, 0)
    env.reset()
    with pytest.raises(EnvError, match=said):
        env.step(np.array([0, action]))


def test_one_that_dies_or_hangs_is_started_again(
    own: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    factory = make_factory(own)
    said: list[str] = []
    env = in_processes(factory, 1, 1.0, said.append)(2, 5, 0)
    before = env.reset()
    cut = env.step(np.array([0, 1]))
    assert cut.truncated.tolist() == [True, True] and cut.reward.tolist() == [0.0, 0.0]
    np.testing.assert_equal(cut.next_obs, before)
    assert "was ended by SIGKILL; their episodes are cut and they start again (1 of 5" in said[0]
    assert sys.executable in said[0]
    assert env.step(np.array([2, 0])).truncated.all()
    assert "hang, nothing was heard of them for 1 s" in said[1]
    assert not env.step(np.array([0, 0])).truncated.any()
    env.close()

    monkeypatch.setattr(pulse, "DEATHS", 0)
    env = factory.vector(1, 5, 0)
    env.reset()
    with pytest.raises(Lost, match=r"ended by SIGKILL; what was saved last is intact"):
        env.step(np.array([1]))


def test_a_slow_start_ends(own: str, monkeypatch: pytest.MonkeyPatch) -> None:
    from parl.envs.adapters import interpreter

    monkeypatch.setattr(interpreter, "STARTUP", 0.0)
    monkeypatch.setattr(pulse, "PATIENCE", 0.3)
    with pytest.raises(Lost, match=r"0 to 0 in .* hang, nothing was heard of them for [0-9]+ s"):
        make_factory(f"{own}?nap=60")


@pytest.mark.slow
def test_parameters_are_drawn_there(own: str) -> None:
    factory = randomized(make_factory(own), ["pay=2:3"])
    env = factory.vector(2, 5, 0)
    plain = make_factory(own).vector(2, 5, 0)
    env.reset()
    plain.reset()
    share = env.step(np.zeros(2, int)).reward / plain.step(np.zeros(2, int)).reward
    assert ((share > 2) & (share < 3)).all() and share[0] != share[1]
    env.close()
    plain.close()


@pytest.mark.parametrize(
    ("place", "kind", "said"),
    [
        ("venv:bin/python!CartPole-v1", ConfigError, "with the interpreter's whole path"),
        ("venv:/bin/sh", ConfigError, "write 'venv:/path/to/python!id'"),
        ("venv:/nowhere/python!CartPole-v1", ConfigError, "there is no interpreter /nowhere/py"),
        (f"venv:{sys.executable}!pz:mpe2.simple_v3", ConfigError, "'pz:mpe2.simple_v3' is none"),
    ],
)
def test_an_id_that_names_no_interpreter(place: str, kind: type, said: str) -> None:
    with pytest.raises(kind, match=said):
        make_factory(place)


@pytest.mark.parametrize(
    ("name", "kind", "said"),
    [
        slow("there:Team", SpaceError, "has Tuple actions: an interpreter of its own serves one"),
        ("CartPole-v99", EnvError, r"could not be made: \w+.*: Env"),
        slow("nothing_here:Env-v0", MissingPackage, "the module 'nothing_here', which .* lacks"),
        slow("there:Odd?wrong=1", EnvError, "could not be made: TypeError"),
    ],
)
def test_what_cannot_be_made_there(own: str, name: str, kind: type, said: str) -> None:
    with pytest.raises(kind, match=said):
        make_factory(f"venv:{sys.executable}!{name}")


def test_an_interpreter_without_numpy(tmp_path: Path) -> None:
    bare = tmp_path / "python"
    bare.write_text(f'#!/bin/sh\nexec {sys.executable} -S "$@"\n')
    bare.chmod(bare.stat().st_mode | stat.S_IXUSR)
    with pytest.raises(MissingPackage, match=f"needs the module 'numpy', which {bare} lacks"):
        make_factory(f"venv:{bare}!CartPole-v1")


def test_what_runs_there_needs_no_new_python() -> None:
    """Its syntax is that of Python 3.8, and it imports nothing of ours."""
    import ast

    source = Path(side.__file__ or "").read_text()
    tree = ast.parse(source, feature_version=(3, 8))
    names = {x.module for x in ast.walk(tree) if isinstance(x, ast.ImportFrom)}
    names |= {a.name for x in ast.walk(tree) if isinstance(x, ast.Import) for a in x.names}
    third = {str(name) for name in names} - set(sys.stdlib_module_names)
    assert third == {"numpy", "gymnasium", "gym"}


RUN: dict[str, Any] = {"num_envs": 2, "steps": 64, "length": 8, "epochs": 1, "hidden": (4,)}
RUN |= {"minibatches": 1, "eval_episodes": 2, "quiet": True}


@pytest.mark.slow
@pytest.mark.parametrize("actors", [0, 2])
def test_a_run_learns_the_same(actors: int, tmp_path: Path) -> None:
    there = f"venv:{sys.executable}!CartPole-v1"
    runs = [
        parl.train("ppo", env, out=tmp_path / str(i), actors=actors, **RUN)
        for i, env in enumerate(("CartPole-v1", there))
    ]
    assert runs[0].result["params_sha256"] == runs[1].result["params_sha256"]
    one, other = (parl.evaluate(run.path, episodes=3, seed=1) for run in runs)
    np.testing.assert_array_equal(one[0], other[0])


@pytest.mark.slow
def test_a_run_is_recorded_exported_and_submitted(tmp_path: Path) -> None:
    there = f"venv:{sys.executable}!Pendulum-v1"
    run = parl.train("ppo", there, out=tmp_path / "run", **RUN)
    data = parl.record(run.path, tmp_path / "data", episodes=2)
    assert data is not None
    made = parl.export(run.path, to=("numpy",), out=tmp_path / "policy", episodes=2)
    assert not made.failures
    done = parl.submit(tmp_path / "policy", "plain", out=tmp_path / "sent", games=2)
    assert not done.failures and "Pendulum-v1 of gymnasium" in done.report["tested_with"]
