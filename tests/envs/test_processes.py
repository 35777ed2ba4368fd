"""Environments in processes of their own: the same numbers, and a sentence where one is lost."""

import functools
import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
import time
from typing import Any

import gymnasium
import numpy as np
import pytest
from gymnasium import spaces

import parl
from parl.core.errors import ConfigError, EnvError
from parl.envs import pulse
from parl.envs.factory import in_processes, make_factory
from parl.report.metrics import read_metrics


class Count(gymnasium.Env):
    """Tells its process; dies or hangs where its action says so."""

    observation_space = spaces.Box(-1, 1, (1,), np.float32)
    action_space = spaces.Discrete(4)
    pay = 1.0

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        return self.np_random.uniform(-1, 1, 1).astype(np.float32), {}

    def step(self, action):
        if action == 1:
            os.kill(os.getpid(), signal.SIGKILL)
        if action == 2:
            time.sleep(60)
        if action == 3:
            raise KeyError("lost")
        seen = self.np_random.uniform(-1, 1, 1).astype(np.float32)
        return seen, self.pay, False, False, {"pid": os.getpid(), "text": "x", "a": {"b": True}}


def in_two(env, num_envs=3, deadline=None):
    return in_processes(make_factory(env), 2, deadline)(num_envs, 5, 0)


def alive(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_numbers_and_states_are_those_of_one_process():
    one, two = make_factory("CartPole-v1").vector(3, 5, 0), in_two("CartPole-v1")
    np.testing.assert_array_equal(one.reset(), two.reset())
    for step in range(60):
        a, b = one.step(np.full(3, step % 2)), two.step(np.full(3, step % 2))
        for x, y in zip(a, b, strict=True):
            np.testing.assert_array_equal(x, y)
    states = one.get_state(), two.get_state()
    assert states[0].arrays.keys() == states[1].arrays.keys() and states[1].exact
    for name, array in states[0].arrays.items():
        np.testing.assert_array_equal(array, states[1].arrays[name])
    np.testing.assert_array_equal(one.set_state(states[1]), two.set_state(states[0]))
    a, b = one.step(np.zeros(3, int)), two.step(np.zeros(3, int))
    np.testing.assert_array_equal(a.obs, b.obs)
    two.close()


def test_what_happens_in_a_process_is_told():
    env = in_two(Count)
    env.reset()
    still = np.zeros(3, int)
    env.step(still)
    pids = [int(info["pid"]) for info in env.infos]
    assert len(set(pids)) == 2 and pids[1] == pids[2] and os.getpid() not in pids
    assert env.infos[0]["a"] == {"b": 1.0} and "text" not in env.infos[0]
    env.change({"pay": 3.0})
    assert env.step(still).reward.tolist() == [3.0] * 3
    with pytest.raises(EnvError, match=r"KeyError in step of environment 2 at step 3, .*'lost'"):
        env.step(np.array([0, 0, 3]))
    assert not any(map(alive, pids))


def test_a_process_that_dies_is_started_again(monkeypatch):
    """Its rows are cut at their last observations; the others' numbers are as ever."""
    monkeypatch.setattr(pulse, "DEATHS", 2)
    said, still = [], np.zeros(3, int)
    alone = make_factory(Count).vector(3, 5, 0)
    env = in_processes(make_factory(Count), 2, 1.0, said.append)(3, 5, 0)
    before, _ = env.reset(), alone.reset()
    env.change({"pay": 3.0})
    cut, whole = env.step(np.array([0, 1, 0])), alone.step(still)
    assert cut.reward.tolist() == [3.0, 0.0, 0.0] and not cut.terminated.any()
    assert cut.truncated.tolist() == [False, True, True]
    np.testing.assert_array_equal(cut.next_obs[1:], before[1:])
    np.testing.assert_array_equal(cut.next_obs[:1], whole.next_obs[:1])
    assert not np.isin(cut.obs[1:], [before, whole.obs]).any()  # episodes of fresh seeds
    assert len(said) == 1 and "with environments 1 to 2 was ended by SIGKILL; their ep" in said[0]
    assert said[0].endswith("start again (1 of 2 times in a row)")

    os.kill(env._workers[1].process.pid, signal.SIGKILL)
    env._workers[1].process.join()
    assert env.infos[1:] == [{}, {}] and not env.get_state().exact  # they owe a step
    cut, whole = env.step(still), alone.step(still)
    assert cut.truncated.tolist() == [False, True, True] and len(said) == 2
    np.testing.assert_array_equal(cut.obs[:1], whole.obs[:1])
    assert env.step(still).reward.tolist() == [3.0] * 3  # with its parameters
    with pytest.raises(EnvError, match=r"with environments 1 to 2 was ended by SIGKILL; what was"):
        env.step(np.array([0, 1, 0]))


@pytest.mark.slow
def test_a_process_that_hangs_is_started_again():
    said = []
    env = in_processes(make_factory(Count), 2, 1.0, said.append)(3, 5, 0)
    env.reset()
    assert env.step(np.array([2, 0, 0])).truncated.tolist() == [True, False, False]
    assert "the environments 0 to 0 hang, nothing was heard of them for 1 s" in said[-1]
    env.close()


RUN = {
    "length": 8,
    "epochs": 1,
    "hidden": (4,),
    "minibatches": 1,
    "eval_episodes": 2,
    "quiet": True,
}


class DiesOnce(Count):
    """Ends its process at the 20th step, unless the file exists."""

    def __init__(self, path):
        self.path, self.time = path, 0

    def step(self, action) -> Any:
        self.time += 1
        if self.time == 20 and not self.path.exists():
            self.path.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return *super().step(0)[:2], False, self.time % 16 == 0, {}


@pytest.mark.slow
def test_a_run_survives_the_death_of_a_worker(tmp_path, capsys):
    make = functools.partial(DiesOnce, tmp_path / "died")
    told: dict[str, Any] = {"env_id": "dying", "env_workers": 2, "num_envs": 2, "steps": 64}
    told |= RUN | {"quiet": False}
    run = parl.train("ppo", make, out=tmp_path / "run", **told)
    assert (tmp_path / "died").exists() and run.result["env_steps"] == 64
    assert "dying: the process" in (said := capsys.readouterr().err) and "start again" in said
    records = read_metrics(tmp_path / "run")
    assert sum(record["episodes"] for record in records) == 4  # with those that were cut


@pytest.mark.slow
def test_a_run_learns_the_same(tmp_path):
    same = {"env": "CartPole-v1", "num_envs": 2, "steps": 64} | RUN
    one = parl.train("ppo", out=tmp_path / "one", **same)
    two = parl.train("ppo", out=tmp_path / "two", env_workers=2, **same)
    assert one.result["params_sha256"] == two.result["params_sha256"]


def test_a_script_needs_no_guard(tmp_path):
    """Its functions go by value, and it does not run again in the processes."""
    script = tmp_path / "script.py"
    script.write_text(
        textwrap.dedent("""
        import gymnasium
        import numpy as np
        from parl.core.spec import Box, Discrete, EnvSpec
        from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
        from parl.envs.processes import ProcessVectorEnv

        print("once")
        LENGTH = 3

        class Own(gymnasium.Env):
            observation_space = gymnasium.spaces.Box(-1, 1, (2,))
            action_space = gymnasium.spaces.Discrete(2)

            def reset(self, *, seed=None, options=None):
                self.time = 0
                return np.zeros(2, np.float32), {}

            def step(self, action):
                self.time += 1
                return np.zeros(2, np.float32), float(LENGTH), self.time == LENGTH, False, {}

        rows = lambda count, start: GymnasiumVectorEnv(lambda: Own(), count, start)
        env = ProcessVectorEnv(rows, rows(1, 0).spec, 2, 2)
        env.reset()
        steps = [env.step(np.zeros(2, int)) for _ in range(3)]
        print([step.reward.tolist() for step in steps], steps[-1].terminated.tolist())
        env.close()
        """)
    )
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, timeout=120)
    assert done.stdout.splitlines() == ["once", f"{[[3.0, 3.0]] * 3} [True, True]"], done.stderr


def holding(thing: Any) -> Any:
    """A maker of CartPole that holds something."""
    return lambda: (thing, gymnasium.make("CartPole-v1"))[1]


@pytest.mark.parametrize(
    ("env", "settings", "said"),
    [
        ("jax:CartPole-v1", {"num_envs": 2}, "env_workers are for single environments"),
        ("CartPole-v1", {"num_envs": 1}, "2 env_workers cannot share 1 environments"),
        (
            "CartPole-v1",
            {"num_envs": 2, "actors": 2},
            "rollout actors step environments themselves",
        ),
        (
            holding(threading.Lock()),
            {"num_envs": 2},
            "cannot be sent to environment workers: .*lock",
        ),
    ],
)
def test_where_there_can_be_no_workers(env, settings, said, tmp_path):
    with pytest.raises(ConfigError, match=said):
        parl.train("ppo", env, out=tmp_path / "run", steps=64, env_workers=2, **(RUN | settings))


@pytest.mark.slow
def test_none_outlive_the_one_that_started_them(tmp_path):
    """SIGTERM saves first, with the states of the environments; after SIGKILL they end alone."""
    (tmp_path / "own_slow.py").write_text(
        textwrap.dedent("""
        import os
        import time
        from gymnasium.envs.classic_control import CartPoleEnv

        class Slow(CartPoleEnv):
            def reset(self, **options):
                open(f"pid-{os.getpid()}", "w").close()
                return super().reset(**options)

            def step(self, action):
                time.sleep(0.005)
                return super().step(action)
        """)
    )
    flags = "--num-envs 2 --env-workers 2 --steps 100000 --length 8 --hidden 4 --minibatches 1"
    flags += " --eval-env none --quiet --out run"
    command = [sys.executable, "-m", "parl.cli", "train", "ppo", "--env", "own_slow:Slow"]
    for kill, code in ((signal.SIGTERM, 143), (signal.SIGKILL, -9)):
        run = subprocess.Popen([*command, *flags.split()], cwd=tmp_path, start_new_session=True)
        deadline = time.monotonic() + 240
        while not list(tmp_path.glob("run/config.json")) and time.monotonic() < deadline:
            time.sleep(0.1)
        pids = [int(path.name[4:]) for path in tmp_path.glob("pid-*")]
        found = [pid for pid in pids if pid != run.pid and alive(pid)]
        os.killpg(run.pid, kill) if kill == signal.SIGTERM else run.kill()
        assert run.wait(120) == code
        while any(map(alive, found)) and time.monotonic() < deadline:
            time.sleep(0.1)
        assert len(found) == 2 and not any(map(alive, found))
        shutil.rmtree(tmp_path / "run")
        for path in tmp_path.glob("pid-*"):
            path.unlink()
