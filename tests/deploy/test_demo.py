"""Pages that show policies: the environments in them are those of JAX, step by step."""

import functools
import json
import re
import shutil
import subprocess
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import numpy as np
import policies
import pytest

from parl.cli import main
from parl.cli.rendering import CHILD
from parl.core.errors import ArtefactError
from parl.deploy import artefact, contract
from parl.deploy.backends import web_backend
from parl.deploy.builder import UnsupportedOperation
from parl.deploy.check import check
from parl.deploy.demo import page, replay
from parl.deploy.demo.twins import named, twin_of
from parl.deploy.names import ACTION
from parl.envs.factory import make_factory

TWINS = Path(page.__file__).parent / "environments.mjs"
CASES = {  # id: (episodes, steps at most)
    "jax:CartPole-v1": (8, 500),
    "jax:Pendulum-v1": (4, 60),
    "jax:Acrobot-v1": (4, 60),
    "jax:simple_spread": (6, 25),
    "jax:simple_spread_continuous-2": (2, 25),
    "jax:connect_four": (20, 42),
    "jax:tic_tac_toe": (10, 9),
}
PLAYED = """
import { readFileSync } from "node:fs";
const { environments } = await import(process.argv[1]);
const floats = (x) => (Array.isArray(x) ? Float32Array.from(x) : x);
const plain = (x) => JSON.parse(JSON.stringify(x, (_, v) => (ArrayBuffer.isView(v) ? [...v] : v)));
const told = JSON.parse(readFileSync(0)).map(({ name, settings, episodes }) => {
  const environment = environments[name](settings);
  const fresh = environment.reset(Math.random);
  return episodes.map(({ state, actions }) => {
    let now = "physics" in state || "position" in state
      ? Object.fromEntries(Object.entries(state).map(([key, x]) => [key, floats(x)])) : fresh;
    const rows = [{ shown: environment.observe(now) }];
    for (const action of actions) {
      const { state: after, ...rest } = environment.step(now, action);
      now = after;
      rows.push({ ...rest, shown: environment.observe(now) });
    }
    return plain({ rows, fresh });
  });
});
console.log(JSON.stringify(told));
"""
node = pytest.mark.skipif(shutil.which("node") is None, reason="node runs the twins")


@functools.cache
def in_jax(id: str) -> list[dict[str, Any]]:
    """Episodes of random legal actions: their states at the start, actions, and what was shown."""
    env: Any = make_factory(id).jax
    episodes, most = CASES[id]
    reset, step = jax.jit(env.reset), jax.jit(env.step)
    rng, found = np.random.default_rng(0), []
    for episode in range(episodes):
        state, obs = reset(jax.random.key(episode))
        begun, actions = jax.device_get(state), []
        rows: list[dict[str, Any]] = [{"shown": flat(obs)}]
        while len(actions) < most:
            action = drawn(env.spec, obs, rng, foul=episode == 0)
            state, obs, reward, terminated, truncated = step(state, action, jax.random.key(0))
            actions.append(np.asarray(action, float).reshape(-1).tolist())
            told = {"reward": np.asarray(reward).reshape(-1), "shown": flat(obs)}
            rows.append(told | {"terminated": bool(terminated), "truncated": bool(truncated)})
            if terminated or truncated:
                break
        kept = {name: x.reshape(-1).tolist() for name, x in vars(begun).items() if x.ndim}
        found.append({"state": kept | {"time": 0}, "actions": actions, "rows": rows})
    return found


def drawn(spec: Any, obs: Any, rng: Any, foul: bool) -> Any:
    """A random action, of several agents a legal one each, unless it may be `foul`."""
    example = spec.action[0]
    if example.dtype.kind == "f":
        return rng.uniform(-1.2, 1.2, example.shape).astype(np.float32)
    if not spec.num_agents:
        return np.int32(rng.integers(spec.action_space.n))
    legal = np.asarray(obs["legal"]) | foul
    return np.array([rng.choice(np.flatnonzero(row)) for row in legal], np.int32)


def flat(obs: Any) -> dict[str, np.ndarray]:
    """What is shown, by the names of policies' inputs."""
    parts = {f"obs.{name}": x for name, x in obs.items()} if isinstance(obs, dict) else {"obs": obs}
    return {name: np.asarray(x, float).reshape(-1) for name, x in parts.items()}


@functools.cache
def in_node() -> dict[str, Any]:
    """The same episodes in the twins."""
    asked = []
    for id in CASES:
        twin: Any = named(id, make_factory(id).spec.max_steps)
        episodes = [{n: x[n] for n in ("state", "actions")} for x in in_jax(id)]
        asked.append({"name": twin.name, "settings": twin.settings, "episodes": episodes})
    command = ["node", "--input-type=module", "--eval", PLAYED, TWINS.as_uri()]
    done = subprocess.run(
        command, input=json.dumps(asked), capture_output=True, text=True, timeout=60, check=True
    )
    return dict(zip(CASES, json.loads(done.stdout), strict=True))


@node
@pytest.mark.parametrize("id", CASES)
def test_a_twin_gives_the_trajectories_of_jax(id: str) -> None:
    exact = id in ("jax:connect_four", "jax:tic_tac_toe")
    compared, ends = 0, set()
    for wanted, found in zip(in_jax(id), in_node()[id], strict=True):
        assert len(found["rows"]) == len(wanted["rows"])
        for want, row in zip(wanted["rows"], found["rows"], strict=True):
            pairs = [(want["shown"][name], row["shown"][name]) for name in want["shown"]]
            if "reward" in want:
                pairs.append((want["reward"], row["reward"]))
                assert want["terminated"] == row["terminated"]
                assert want["truncated"] == row["truncated"]
            for x, y in pairs:
                assert len(x) == len(y)
                np.testing.assert_allclose(y, x, rtol=0, atol=0 if exact else 1e-4)
            compared += 1
        last = wanted["rows"][-1]
        ends.add(tuple(last["reward"]) if exact else (last["terminated"], last["truncated"]))
    assert compared > 30
    if exact:
        assert ends >= {(1.0, -1.0), (-1.0, 1.0)}  # both sides win
    if id == "jax:CartPole-v1":
        assert ends == {(True, False)}  # poles fall


@node
def test_episodes_of_twins_open_as_those_of_jax() -> None:
    """Within the same bounds."""
    for id in CASES:
        for episode in in_node()[id][:1]:
            fresh = episode["fresh"]
            reach = {"jax:CartPole-v1": 0.05, "jax:Acrobot-v1": 0.1, "jax:Pendulum-v1": np.pi}
            if id in reach:
                assert 0 < np.abs(fresh["physics"]).max() <= reach[id]
            if "position" in fresh:
                assert len(set(fresh["position"])) > 1 and not any(fresh["velocity"])


@pytest.fixture(scope="module")
def gru(tmp_path_factory: pytest.TempPathFactory) -> contract.Contract:
    forms = ["numpy"] + ["web"] * (shutil.which("node") is not None)
    place = tmp_path_factory.mktemp("demo")
    return exported(place, "jax:CartPoleMasked-v1", forms=forms, recurrent="gru")


def exported(
    place: Path, env: str, recipe: str = "ppo", forms: Any = ("numpy",), **settings: Any
) -> contract.Contract:
    """An artefact of a random policy."""
    found = policies.of_recipe(recipe, env, **settings)
    found = found._replace(provenance={"algorithm": recipe, "env_steps": 1234})
    asked = artefact.Settings(episodes=0)
    parts = artefact.parts_of(found, asked)
    (place / "p").mkdir()
    report = artefact.fill(place / "p", found, parts, asked, list(forms))
    assert report["forms"].keys() == {*forms}
    assert not any(form["failures"] for form in report["forms"].values())
    return contract.read(place / "p")


def told_in(text: str) -> dict[str, Any]:
    """What a page was made with."""
    return json.loads(re.search(r'id="told">(.*?)</script>', text)[1])  # pyright: ignore


def test_a_page_holds_all_that_it_needs(gru: contract.Contract, tmp_path: Path) -> None:
    assert main(["demo", str(gru.path), "--out", str(tmp_path / "index.html")]) == 0
    text = (tmp_path / "index.html").read_text()
    assert text == page.acting_page(gru)
    assert len(text) < page.LARGEST and "ppo on CartPoleMasked-v1" in text and "1,234" in text
    assert not re.search(r"https?:|src=|href=|@import|\bfetch\(", text)
    assert "\nexport " not in text and not re.search(r"^import ", text, re.MULTILINE)
    told = told_in(text)
    assert told["environment"] == "cartPole" and told["settings"]["masked"] is True
    if shutil.which("node") is not None:
        code = re.search(r'<script type="module">(.*)</script>', text, re.DOTALL)[1]  # pyright: ignore
        subprocess.run(
            ["node", "--check", "--input-type=module"], input=code, text=True, check=True
        )


@node
def test_the_page_is_a_form_that_acts_as_jax(gru: contract.Contract, tmp_path: Path) -> None:
    """And is run only where it is what this version writes."""
    good, wrong = check(gru.path)
    assert not wrong and any(line.startswith("web: 100 samples") for line in good)
    assert (gru.path / "index.html").read_text() == page.acting_page(gru)
    copy = tmp_path / "copy"
    shutil.copytree(gru.path, copy)
    (copy / "index.html").write_text(page.acting_page(gru) + " ")
    with pytest.raises(ArtefactError, match="is not what this version writes"):
        web_backend(copy)


def test_nothing_in_a_contract_ends_the_page(gru: contract.Contract) -> None:
    odd = gru.values | {"provenance": {"algorithm": "</script><b>{code}"}}
    text = page.acting_page(gru._replace(values=odd))
    assert "</script><b>" not in text and text.count("</script>") == 2


def test_what_has_no_twin_says_so(gru: contract.Contract, tmp_path: Path) -> None:
    spec = gru.values["environment"]
    assert (
        twin_of(gru._replace(values=gru.values | {"environment": spec | {"id": "CartPole-v1"}}))
        is None
    )
    other = gru._replace(values=gru.values | {"environment": spec | {"id": "Ant-v5"}})
    with pytest.raises(UnsupportedOperation, match=r"Ant-v5 has no twin in JavaScript"):
        page.acting_page(other)
    alone = gru._replace(values=gru.values | {"agent": "agent_0"})
    assert twin_of(alone) is None


def test_episodes_are_replayed_in_small_pictures(tmp_path: Path, monkeypatch: Any) -> None:
    """Those of a team, all of which ends by the time limit."""
    exported(tmp_path, "jax:simple_tag", "ippo")
    monkeypatch.setenv(CHILD, "1")  # this process has nothing to fear of a renderer
    out = tmp_path / "index.html"
    assert main(["demo", str(tmp_path / "p"), "--out", str(out), "--episodes", "1"]) == 0
    told = told_in(out.read_text())["replay"]
    (episode,) = told["episodes"]
    assert len(episode["rewards"]) == 25 and not episode["terminated"]
    assert len(episode["frames"]) == 26 and told["every"] == 1  # one of the start
    assert len(set(episode["frames"])) > 20
    assert all(frame.startswith("data:image/webp;base64,") for frame in episode["frames"])
    assert out.stat().st_size < page.LARGEST


def test_a_policy_that_sees_rewards_is_shown_them(monkeypatch: Any) -> None:
    """Nothing at first, then that of the step before."""
    seen: list[dict[str, np.ndarray]] = []

    def act(inputs: dict[str, np.ndarray], count: int) -> dict[str, np.ndarray]:
        seen.append(inputs)
        return {ACTION: np.zeros((1, 1), np.float32)}

    monkeypatch.setattr(replay, "Runner", lambda program: act)
    monkeypatch.setattr(replay, "drawn", lambda env, state: np.zeros((2, 2, 3), np.uint8))
    leaves = [SimpleNamespace(name=f"obs.{name}") for name in ("last_reward", "obs")]
    told: Any = SimpleNamespace(leaves=leaves, programs={"greedy": None}, start={})
    episode = replay.played_in(told, make_factory("jax:Pendulum-v1?max_steps=3"), 0)
    paid = [inputs["obs.last_reward"].item() for inputs in seen]
    np.testing.assert_allclose(paid, [0, *episode.rewards[:2]], atol=1e-4)
    assert len(episode.rewards) == 3 and seen[0]["obs.obs"].shape == (1, 3)


def test_more_pictures_than_there_is_room_for_are_left_out() -> None:
    rng = np.random.default_rng(0)
    noise = [rng.integers(0, 256, (240, 240, 3), np.uint8) for _ in range(60)]
    every, (frames,) = replay.shrunk([noise])
    assert every > 1 and len(frames) < 60
    assert sum(map(len, frames)) < 0.95 * page.LARGEST
