"""Packages for competitions: what they hold, and that faults in them are found by name."""

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import policies
import pytest

import parl
from parl.core.errors import ConfigError
from parl.deploy import artefact
from parl.deploy.artefact import Settings
from parl.deploy.submit import packages, player, sandbox, submission
from parl.deploy.submit.competitions import KAGGLE, competition

GAME = ("ppo", policies.seen(policies.MASKED, parl.Discrete(6)), {})


@pytest.fixture(scope="module")
def masked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact of a policy with a mask over six choices."""
    place = tmp_path_factory.mktemp("submit") / "policy"
    recipe, env, settings = GAME
    found = policies.of_recipe(recipe, env, **settings)
    assert not artefact.export(found, place, Settings(episodes=0)).failures
    return place


def submitted(
    place: Path, out: Path, name: str = "plain", **settings: Any
) -> submission.Submission:
    given: dict[str, Any] = {"games": 0} | settings
    return submission.submit(place, name, out, submission.Settings(**given))


def names(done: submission.Submission) -> set[str]:
    """What is wrong, by name."""
    return {line.partition(":")[0] for line in done.failures}


def adapter(place: Path, observe: str = "", act: str = "return action", head: str = "") -> Path:
    """An adapter that does more than it should in one of its functions."""
    file = place / "adapter.py"
    observe = observe.replace("\n", "\n    ")
    file.write_text(
        f"{head}\n\ndef observe(raw, config):\n    {observe or 'pass'}\n    return raw\n\n\n"
        f"def act(action, raw, config):\n    {act}\n\n\n"
        "def legal(move, raw, config):\n    return bool(raw['legal'][int(move)])\n\n\n"
        "def fallback(raw, config):\n    return int(raw['legal'].argmax())\n"
    )
    return file


# --- good packages ----------------------------------------------------------------------------


def test_a_plain_package(masked: Path, tmp_path: Path) -> None:
    """It acts as the artefact, in a process that has neither PARL nor JAX on its path."""
    done = submitted(masked, tmp_path / "out")
    assert not done.failures
    report = json.loads((tmp_path / "out" / "SUBMISSION.json").read_text())
    assert report == done.report and report["for"] == "plain"
    assert report["equality"]["samples"] == 100 and report["equality"]["unequal"] == 0
    assert report["times"]["acts"] == 2 * submission.RAWS == 2 * report["recorded_observations"]
    assert report["times"]["p50_ms"] <= report["times"]["p99_ms"] <= report["times"]["max_ms"]
    assert set(report["sha256"]) == {
        f"package/{name}"
        for name in ("play.py", "policy.py", "player.py", "contract.json", "weights.npz")
    }
    assert report["bytes"] == sum(p.stat().st_size for p in done.package.iterdir())
    again = submitted(masked, tmp_path / "out")
    assert again.report["sha256"] == report["sha256"]


def test_kaggles_file_runs_in_an_empty_namespace(masked: Path, tmp_path: Path) -> None:
    """The last callable is the agent, and it plays as the policy does; it is one file."""
    recorded = tmp_path / "recorded.json"
    raws = [
        {"step": t, "view": [0.1 * t] * 5, "legal": [t % 6 != i for i in range(6)]}
        for t in range(3)
    ]
    recorded.write_text(json.dumps([[raw, {"actTimeout": 2}] for raw in raws]))
    file = adapter(tmp_path)
    file.write_text(
        "import numpy as np\n\n\ndef observe(raw, config):\n"
        "    assert raw.step == raw['step'] and config['actTimeout'] == 2\n"
        "    return {key: np.array(raw[key]) for key in ('view', 'legal')}\n\n\n"
        "def act(action, raw, config):\n    return int(action)\n"
    )
    done = submitted(masked, tmp_path / "out", "kaggle:connectx", adapter=file, recorded=recorded)
    assert not done.failures and done.package.name == "main.py"
    assert done.report["times"]["acts"] == 6
    assert "kaggle competitions submit -c connectx" in done.report["upload"]
    space: dict[str, Any] = {}
    exec(compile(done.package.read_text(), "<string>", "exec"), space)
    agent = [x for x in space.values() if callable(x)][-1]
    actor = parl.Policy.load(masked)
    for raw in raws:

        class Raw(dict):
            __getattr__ = dict.__getitem__

        seen = {key: np.array(raw[key]) for key in ("view", "legal")}
        assert agent(Raw(raw), {"actTimeout": 2}) == actor.act(seen)[0]
    assert not space["PLAYER"].faults


OTHER_LAYOUTS = ("lux-s3", "myochallenge", "pokeagent")
JSON_ADAPTER = """
import numpy as np


def observe(raw, config):
    seen = raw.get("obs", raw) if hasattr(raw, "get") else raw
    return {"view": np.array(seen["view"], float), "legal": np.array(seen["legal"], bool)}


def act(action, raw, config):
    return action
"""


@pytest.mark.parametrize(
    "name",
    ["l2rpn", *(pytest.param(x, marks=pytest.mark.slow) for x in OTHER_LAYOUTS)],
)
def test_the_other_layouts(name: str, masked: Path, tmp_path: Path) -> None:
    """Each is loaded as the competition loads it, with a stand-in for what is not installed."""
    file, recorded = tmp_path / "adapter.py", tmp_path / "recorded.json"
    file.write_text(JSON_ADAPTER)
    seen = [{"view": [0.1 * t] * 5, "legal": [True] * 6} for t in range(4)]
    raws = [{"step": t, "obs": x} for t, x in enumerate(seen)] if name == "lux-s3" else seen
    recorded.write_text(json.dumps(raws))
    done = submitted(masked, tmp_path / "out", name, adapter=file, recorded=recorded)
    assert not done.failures, done.failures
    entries = {
        "lux-s3": {"main.py"},
        "l2rpn": {"metadata", "submission/__init__.py", "submission/policy.py"},
        "myochallenge": {"agent/agent_parl.py", "docker/agent/Dockerfile_parl"},
        "pokeagent": {"main.py", "adapter.py", "requirements.txt"},
    }
    assert entries[name] <= packages.unpacked(done.package).keys()


def test_lux_answers_lines(masked: Path, tmp_path: Path) -> None:
    """The engine's protocol: a line of JSON in, a line of JSON out."""
    parts = packages.Parts(
        (masked / "contract.json").read_bytes(), (masked / "weights.npz").read_bytes(),
        JSON_ADAPTER, 3.0, 60.0,
    )  # fmt: skip
    (tmp_path / "main.py").write_bytes(packages.lux(parts).files["main.py"])
    raws = [
        {"step": t, "obs": {"view": [float(t)] * 5, "legal": [True] * 6}, "player": "player_0"}
        for t in range(3)
    ]
    lines = "".join(json.dumps(raw | {"info": {"env_cfg": {"n": 1}}}) + "\n" for raw in raws)
    done = subprocess.run(
        [sys.executable, "-I", str(tmp_path / "main.py")],
        input=lines, capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    actor = parl.Policy.load(masked)
    want = [
        {"action": int(actor.act({k: np.array(x) for k, x in raw["obs"].items()})[0])}
        for raw in raws
    ]
    assert [json.loads(line) for line in done.stdout.splitlines()] == want


# --- planted faults ---------------------------------------------------------------------------

PLANTED: dict[str, dict[str, str]] = {
    "network": {"observe": "import socket\nsocket.create_connection(('127.0.0.1', 9), 0.2)"},
    "file outside": {"observe": "open('/etc/hostname').read()"},
    "process": {"observe": "import subprocess\nsubprocess.run(['true'])"},
    "forbidden import": {"head": "import jax"},
    "illegal action": {"act": "return raw['legal'].argmin()"},
    "error in act": {"observe": "raise ValueError('no such key')"},
    "state kept between games": {
        "head": "SEEN = []",
        "act": "SEEN.append(0); return int(raw['legal'].argmax()) if len(SEEN) > 24 else action",
    },
    "crash": {"observe": "import os\nos._exit(3)"},
}  # fmt: skip


RARE = ("process", "error in act", "crash")


@pytest.mark.parametrize(
    "name", [pytest.param(x, marks=[pytest.mark.slow] * (x in RARE)) for x in PLANTED]
)
def test_a_planted_fault_is_named(name: str, masked: Path, tmp_path: Path) -> None:
    done = submitted(masked, tmp_path / "out", adapter=adapter(tmp_path, **PLANTED[name]))
    assert names(done) == {name}, done.failures


def shortened(monkeypatch: pytest.MonkeyPatch, **limits: Any) -> None:
    """Other limits than those of the table."""
    own = competition("plain")._replace(**limits)
    monkeypatch.setattr(submission, "competition", lambda name: own)


def test_a_slow_act_is_named_and_answered_in_time(masked: Path, tmp_path: Path) -> None:
    late = "SEEN.append(0)\nimport time\ntime.sleep(1.2 * (len(SEEN) == 3))"
    done = submitted(masked, tmp_path / "out", adapter=adapter(tmp_path, late, head="SEEN = []"))
    assert names(done) == {"slow act"} and len(done.failures) == 1
    assert "the fallback had to act: Late: more than 0.7 s" in done.failures[0]
    assert 700 <= done.report["times"]["max_ms"] < 1000


def test_an_act_that_cannot_be_interrupted_is_ended(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A regular expression that holds the interpreter: the kernel's alarm ends the process."""
    shortened(monkeypatch, seconds=0.2, first=0.5)
    stuck = adapter(tmp_path, "import re\nre.match('(a+)+$', 'a' * 40 + 'b')")
    done = submitted(masked, tmp_path / "out", adapter=stuck)
    assert names(done) == {"slow act"} and "was ended" in done.failures[0]


def test_size_and_memory_have_limits(
    masked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shortened(monkeypatch, num_bytes=1000, memory=10 << 20)
    assert names(submitted(masked, tmp_path / "out")) == {"too large", "too much memory"}


def test_a_policy_that_is_not_the_artefacts_is_named(masked: Path, tmp_path: Path) -> None:
    """The last layer's constants negated in the package, as a wrong file would have them."""
    found = submission.contracts.read(masked)
    chosen = competition("plain")
    parts = packages.Parts(
        (masked / "contract.json").read_bytes(), (masked / "weights.npz").read_bytes(),
        None, 1.0, 10.0,
    )  # fmt: skip
    package = packages.plain(parts)
    job = submission.job_of(masked, found, chosen, package, submission.Settings(games=0))
    source = package.files["policy.py"].decode()
    bad = source.replace("return np.matmul(x, y)", "return -np.matmul(x, y)")
    assert bad != source
    report = sandbox.run(sys.executable, job, package.files | {"policy.py": bad.encode()}, 60)
    assert set(report["found"]) == {"not equal"}


# --- the player -------------------------------------------------------------------------------


def test_the_fallback_is_the_first_legal_choice(masked: Path) -> None:
    actor = parl.Policy.load(masked)
    obs = {"view": np.zeros(5), "legal": np.array([0, 0, 1, 1, 0, 1], bool)}
    action: Any = player.safe_action(actor, obs, None)
    assert action.dtype == actor.act(obs)[0].dtype and action == 2


def test_the_fallback_of_numbers_is_the_middle(tmp_path: Path) -> None:
    """0 where that is within the bounds, else the nearest bound; infinite ones are none."""
    env = policies.box_spec([-2, 1, -np.inf], [2, 3, -5])
    found = policies.of_recipe("ppo", env)
    artefact.export(found, tmp_path / "p", Settings(episodes=0))
    actor = parl.Policy.load(tmp_path / "p")
    np.testing.assert_array_equal(player.safe_action(actor, np.zeros(5), None), [0, 1, -5])


def test_the_adapter_of_connectx_sees_what_is_trained_on() -> None:
    """After moves in columns 3, 3 and 0 the second player moves; rows are counted from the top."""
    import jax.numpy as jnp

    from parl.envs.multi.board_games import CONNECT_FOUR, BoardState

    place = Path(__file__).parents[2] / "experiments" / "competitions" / "connectx_adapter.py"
    spec: Any = importlib.util.spec_from_file_location("connectx_adapter", place)
    adapter = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(adapter)
    board = [0] * 42
    board[38], board[31], board[35] = 1, 2, 1
    stones = np.array([[x == mark for x in board] for mark in (1, 2)])
    want = CONNECT_FOUR.observe(BoardState(jnp.asarray(stones), jnp.int32(1), jnp.bool_(False)))
    seen = adapter.observe({"board": board, "mark": 2}, {})
    np.testing.assert_array_equal(seen["view"], want["view"][1])
    np.testing.assert_array_equal(seen["legal"], want["legal"][1])
    full = [1, 2, 1, 2, 0, 1, 2] + [1] * 35
    assert adapter.fallback({"board": full}, {}) == 4 and not adapter.legal(3, {"board": full}, {})


# --- what does not fit ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("kagle:connectx", {}, "no competition 'kagle:connectx'. Did you mean kaggle:connectx"),
        ("kaggle", {}, "no competition 'kaggle'"),
        ("l2rpn", {}, "l2rpn shows other observations .* give --adapter"),
        ("plain", {"adapter": "missing.py"}, "--adapter .*missing.py cannot be read"),
        ("plain", {"adapter": "half.py"}, "defines no function act"),
        ("plain", {"adapter": "text.py"}, "text.py is no Python: .*, line 1"),
        ("plain", {"python": "no-such-python"}, "--python .*no-such-python is no program"),
        ("plain", {"recorded": "text.py"}, "--recorded .* cannot be read"),
    ],
)
def test_bad_input_is_one_sentence(
    name: str, settings: dict[str, Any], message: str, masked: Path, tmp_path: Path
) -> None:
    (tmp_path / "half.py").write_text("def observe(raw, config):\n    return raw\n")
    (tmp_path / "text.py").write_text("to be or not\n")
    given = {key: tmp_path / value for key, value in settings.items()}
    with pytest.raises(ConfigError, match=message):
        submitted(masked, tmp_path / "out", name, **given)


def test_nothing_else_is_written_over(masked: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"something else than a submission, such as notes\.txt"):
        submitted(masked, tmp_path)


def test_the_table_has_a_time_for_every_game() -> None:
    assert competition("kaggle:rps").seconds == 1.0 and competition("kaggle:new_game").seconds == 1
    assert KAGGLE["connectx"] == competition("kaggle:connectx").seconds == 2.0
    assert competition("kaggle:lux_ai_2021").upload.split()[4] == "lux-ai-2021"


def test_the_command(masked: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from parl.cli.main import main

    out = tmp_path / "out"
    assert main(["submit", str(masked), "--for", "plain", "--out", str(out)]) == 0
    assert "largest error" in capsys.readouterr().out
    bad = adapter(tmp_path, "open('/etc/hostname')")
    words = ["submit", str(masked), "--for", "plain", "--adapter", str(bad), "--out", str(out)]
    assert main(words) == 1
    assert "FAILED: file outside: reads /etc/hostname" in capsys.readouterr().out
    assert main(["submit", str(masked), "--for", "plain", "--weights", "int8"]) == 2
    assert "is exported already: weights is for a run" in capsys.readouterr().err
