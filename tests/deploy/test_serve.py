"""The application that serves policies, without a socket."""

import asyncio
import json
import re
import shutil
import sys
import time
import tracemalloc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from serving import LENGTH, ask, asked, changed, exported, reading, tensor

import parl
from parl.core.errors import ArtefactError
from parl.deploy import artefact, contract
from parl.deploy.client import parts_of
from parl.deploy.policy import Policy
from parl.deploy.serve import store
from parl.deploy.serve.application import Application
from parl.deploy.serve.limits import Limits
from parl.deploy.serve.sessions import Sessions
from parl.deploy.serve.store import Shelf

OBS = np.array([[0.5, -0.25, 2.0], [1.0, 0.125, -1.0]])


@pytest.fixture(scope="module")
def pendulum(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("serve") / "pendulum", "ppo Box")


@pytest.fixture(scope="module")
def gru(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return exported(tmp_path_factory.mktemp("serve") / "gru", "ppo gru", sample=True)


def shelf(place: Path, limits: Limits, name: str = "", quick: bool = True) -> Shelf:
    """The versions in a directory; without `quick` they act by the queue, in another thread."""
    found = store.opened(name or place.name, place, "numpy", limits)
    seconds = 0.0 if quick else 1.0
    found.versions = {n: x._replace(seconds=seconds) for n, x in found.versions.items()}
    return found


def application(*places: Path, quick: bool = True, **limits: Any) -> Application:
    bounds = Limits(**limits)
    return Application([shelf(place, bounds, quick=quick) for place in places], bounds)


# --- acting -----------------------------------------------------------------------------------


def test_actions_are_those_of_the_policy(pendulum: Path) -> None:
    app, actor = application(pendulum), parl.Policy.load(pendulum)
    one = asked(app, "/act", {"obs": OBS[0].tolist()})
    assert one.status == 200 and one.headers["content-type"] == "application/json"
    assert one.json["action"] == actor.act(OBS[0])[0].tolist()
    assert (one.json["policy"], one.json["version"]) == ("pendulum", "1")
    assert one.json["sha256"] == actor.contract.values["sha256"]
    batch = asked(app, "/act/pendulum/1", {"obs": OBS.tolist()})
    assert batch.json["action"] == actor.act(OBS)[0].tolist()


def test_kserve_in_json_and_in_binary(pendulum: Path) -> None:
    app, want = application(pendulum), Policy.load(pendulum).act(OBS)[0]
    told = asked(app, "/v2/models/pendulum").json
    assert told["inputs"] == [
        {"name": "obs", "datatype": "FP32", "shape": [-1, 3], "parameters": {"source": []}}
    ]
    assert told["versions"] == ["1"] and told["outputs"][1]["name"] == "env_action"
    path = "/v2/models/pendulum/versions/1/infer"
    plain = asked(app, path, {"id": "7", "inputs": [tensor(OBS, "FP64")]}).json
    (output,) = plain["outputs"]
    assert (plain["id"], output["name"], output["datatype"]) == ("7", "env_action", "FP32")
    assert output["shape"] == [2, 1] and output["data"] == want.reshape(-1).tolist()
    data = OBS.astype(np.float32).tobytes()
    head = {
        "inputs": [
            {
                "name": "obs",
                "shape": [2, 3],
                "datatype": "FP32",
                "parameters": {"binary_data_size": len(data)},
            }
        ],
        "outputs": [
            {"name": "action"},
            {"name": "env_action", "parameters": {"binary_data": True}},
        ],
    }
    text = json.dumps(head).encode()
    reply = asked(app, path, text + data, inference_header_content_length=str(len(text)))
    assert reply.headers["content-type"] == "application/octet-stream"
    assert [each["name"] for each in reply.json["outputs"]] == ["action", "env_action"]
    tail = np.frombuffer(reply.body[int(reply.headers[LENGTH]) :], np.float32)
    assert tail.tolist() == want.reshape(-1).tolist()


def test_images_and_dicts_over_http(tmp_path: Path) -> None:
    """In JSON as the environment shows them; in KServe's protocol an image is its bytes."""
    place, rng = exported(tmp_path / "seen", "ppo dict with image"), np.random.default_rng(0)
    app, actor = application(place), parl.Policy.load(place)
    obs = {
        "image": rng.integers(0, 256, (12, 12, 12, 3)).astype(np.uint8),
        "place": 100 * rng.standard_normal((12, 4)).astype(np.float32),
        "kind": np.arange(12) % 3,
    }
    want = actor.act(obs)[0].tolist()
    assert len(set(want)) > 1
    listed = {name: x.tolist() for name, x in obs.items()}
    assert asked(app, "/act", {"obs": listed}).json["action"] == want
    one = {name: x[0] for name, x in listed.items()}
    assert asked(app, "/act", {"obs": one}).json["action"] == want[0]
    named = {each["parameters"]["source"][-1]: each for each in inputs_of(app)}
    data, head = b"", []
    for name, x in obs.items():
        told = {key: named[name][key] for key in ("name", "datatype")}
        given = x.astype({"INT32": "i4", "INT64": "i8"}.get(told["datatype"], x.dtype))
        size = {"binary_data_size": given.nbytes}
        head.append(told | {"shape": list(x.shape), "parameters": size})
        data += given.tobytes()
    assert named["image"]["datatype"] == "UINT8"
    text = json.dumps({"inputs": head}).encode()
    path, length = "/v2/models/seen/infer", str(len(text))
    reply = asked(app, path, text + data, inference_header_content_length=length)
    assert reply.status == 200, reply.error
    assert reply.json["outputs"][0]["data"] == want
    lacking = asked(app, "/act", {"obs": {"image": one["image"], "kind": 0}})
    assert lacking.status == 422 and "place" in lacking.error
    wrong = asked(app, "/act", {"obs": one | {"image": one["image"][1:]}})
    assert wrong.status == 422 and "(11, 12, 3) instead of (12, 12, 3)" in wrong.error


def inputs_of(app: Application) -> Any:
    """The tensors that the only policy takes."""
    return asked(app, "/v2/models/seen").json["inputs"]


def test_health_and_counts(pendulum: Path) -> None:
    app = application(pendulum)
    for path in ("/healthz", "/readyz", "/v2/health/live", "/v2/health/ready"):
        assert asked(app, path).status == 200
    assert asked(app, "/v2").json["extensions"] == ["binary_tensor_data", "sequence"]
    assert asked(app, "/v2/models/pendulum/ready").status == 200
    for body in ({"obs": OBS.tolist()}, {"obs": "x"}):
        asked(app, "/act", body)
    text = asked(app, "/metrics").body.decode()
    assert 'parl_requests_total{policy="pendulum",status="200"} 1' in text
    assert 'parl_requests_total{policy="",status="422"} 1' in text
    assert 'parl_rows_total{policy="pendulum"} 2' in text
    assert 'parl_request_seconds_bucket{le="+Inf"} 8' in text and "parl_sessions 0" in text
    app.is_ready = False
    assert (asked(app, "/readyz").status, asked(app, "/healthz").status) == (503, 200)


ODD: dict[str, tuple[Any, int, str]] = {
    "no JSON": (b"{", 400, "no JSON"),
    "no text": (b"\xff\xfe", 400, "no JSON"),
    "no object": ([1], 400, "no JSON object"),
    "deep": (b"[" * 100_000, 400, "no JSON"),
    "NaN": (b'{"obs": [NaN, 0, 0]}', 400, "NaN is no number"),
    "long": (b'{"obs": [' + b"9" * 5000 + b", 0, 0]}", 400, "no JSON"),
    "no obs": ({}, 422, "has no 'obs'"),
    "misspelt": ({"obs": [0, 0, 0], "sed": 1}, 422, "Did you mean seed"),
    "shape": ({"obs": [0, 0]}, 422, r"its shape is \(2,\) instead of \(3,\)"),
    "ragged": ({"obs": [[0, 0, 0], [0]]}, 422, "no array of numbers"),
    "words": ({"obs": ["a", "b", "c"]}, 422, "not made of numbers"),
    "large": ({"obs": [1e300, 0, 0]}, 422, "more than a float32 can be"),
    "huge": ({"obs": [1e38, 1e38, 1e38]}, 200, ""),
    "rows": ({"obs": [[0, 0, 0]] * 9}, 413, "9 observations are too many: 8 at most"),
    "seed": ({"obs": [0, 0, 0], "seed": 1}, 422, "exported without sampling"),
    "first": ({"obs": [0, 0, 0], "first": True}, 422, "name one"),
    "session": ({"obs": [0, 0, 0], "session": ""}, 422, "a session's name"),
    "gone": ({"obs": [0, 0, 0], "session": "a"}, 410, "there is no session 'a'"),
    "end": ({"obs": [0, 0, 0], "end": 1}, 422, "'end' is true or false"),
}


def test_what_is_no_request_is_one_sentence(pendulum: Path) -> None:
    app = application(pendulum, rows=8)
    for name, (body, status, said) in ODD.items():
        reply = asked(app, "/act", body)
        assert reply.status == status, (name, reply)
        if said:
            assert re.search(said, reply.error), (name, reply.error)
            assert "\n" not in reply.error and "Traceback" not in reply.error


NO_TENSORS: dict[str, tuple[Any, str]] = {
    "none": ({}, "'inputs' is a list"),
    "empty": ({"inputs": []}, "the inputs lack obs"),
    "name": ({"inputs": [tensor(OBS, "FP32", "x")]}, "takes each of obs once, not 'x'"),
    "twice": ({"inputs": [tensor(OBS, "FP32")] * 2}, "takes each of obs once"),
    "datatype": ({"inputs": [tensor(OBS, "BYTES")]}, "the datatype of 'obs' is one of"),
    "shape": ({"inputs": [tensor(OBS, "FP32") | {"shape": [2, 4]}]}, "not of shape"),
    "sizes": ({"inputs": [tensor(OBS, "FP32") | {"shape": [-1, 3]}]}, "a list of sizes"),
    "batch": ({"inputs": [tensor(OBS[0], "FP32")]}, "the first axis of every input is the batch"),
    "bytes": (
        {"inputs": [tensor(OBS, "FP32") | {"parameters": {"binary_data_size": 24}}]},
        "has not the 24 bytes",
    ),
    "output": ({"inputs": [tensor(OBS, "FP32")], "outputs": [{"name": "q"}]}, "not 'q'"),
    "parameter": ({"inputs": [], "parameters": {"sequence": 1}}, "Did you mean sequence_"),
}


def test_what_is_no_tensor_is_one_sentence(pendulum: Path) -> None:
    app = application(pendulum)
    for name, (body, said) in NO_TENSORS.items():
        reply = asked(app, "/v2/models/pendulum/infer", body)
        assert reply.status == 422 and said in reply.error, (name, reply)
    for length in ("99", "-1", "x"):
        reply = asked(
            app, "/v2/models/pendulum/infer", {"inputs": []}, inference_header_content_length=length
        )
        assert reply.status == 400, reply


def test_places_methods_and_doors(pendulum: Path, gru: Path) -> None:
    app = application(pendulum, gru)
    assert "POST /act/NAME of gru, pendulum" in asked(app, "/act", {"obs": [0, 0, 0]}).error
    for path in ("/act/x", "/act/gru/7", "/act/gru/1/x", "/x", "/v2/x", "/v2/models/x/infer"):
        assert asked(app, path, {}).status == 404, path
    assert asked(app, "/act/gru").headers["allow"] == "POST"
    assert asked(app, "/metrics", {}).status == 405
    assert asked(app, "/act/gru", {}, content_encoding="gzip").status == 415
    assert asked(app, "/healthz", mount="/policies").status == 200
    local = Application(list(app.shelves.values()), hosts=frozenset({"127.0.0.1", "[::1]"}))
    assert asked(local, "/act/x", {}, host="evil.example:8000").status == 403
    assert asked(local, "/act/x", {}, host="[::1]:8000").status == 404
    locked = Application(list(app.shelves.values()), token="secret-of-16-letters")
    assert asked(locked, "/healthz").status == 200
    for sent in ("", "Bearer wrong", "secret-of-16-letters"):
        refused = asked(locked, "/metrics", authorization=sent)
        assert refused.status == 401 and refused.headers["www-authenticate"] == "Bearer"
    assert asked(locked, "/metrics", authorization="Bearer secret-of-16-letters").status == 200


# --- sessions ---------------------------------------------------------------------------------


@pytest.mark.parametrize("quick", [True, False])
def test_eight_sessions_at_once_are_eight_runs(gru: Path, quick: bool) -> None:
    """Greedy and drawn ones, side by side, in both protocols."""
    app, actor = application(gru, quick=quick), Policy.load(gru)
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((8, 12, 2))

    async def episode(i: int) -> list[int]:
        actions = []
        for t in range(12):
            seed = {"seed": i} if i % 2 else {}
            if i < 4:
                body = {"obs": obs[i, t].tolist(), "session": f"s{i}", "first": t == 0} | seed
                reply = await ask(app, "/act", body)
                actions.append(reply.json["action"])
            else:
                more = {"sequence_id": i, "sequence_start": t == 0, "sequence_end": t == 11} | seed
                body = {"inputs": [tensor(obs[i, t : t + 1], "FP64")], "parameters": more}
                reply = await ask(app, "/v2/models/gru/infer", body)
                actions.append(reply.json["outputs"][0]["data"][0])
        return actions

    async def all_of_them() -> Any:
        return await asyncio.gather(*(episode(i) for i in range(8)))

    found, want = asyncio.run(all_of_them()), []
    for i in range(8):
        state, actions = actor.start(), []
        for t in range(12):
            action, state = actor.act(obs[i, t], state, seed=i if i % 2 else None)
            actions.append(int(action))
        want.append(actions)
        kept = app.act.sessions.kept.get(("gru", f"s{i}"))
        assert (kept is None) == (i >= 4)
        if kept is not None:
            np.testing.assert_allclose(
                kept.state.memory["memory.0"], state.memory["memory.0"], atol=1e-6
            )
    assert found == want
    assert len({tuple(actions) for actions in want}) > 2
    batches = app.metrics.batches
    assert (sum(batches.counts) < batches.total) != quick  # several rows a call


def test_a_session_of_several_environments(gru: Path) -> None:
    app, actor = application(gru), Policy.load(gru)
    obs = np.random.default_rng(1).standard_normal((3, 4, 2))
    state = actor.start(4)
    for t, first in enumerate([True, [False, True, False, False], False]):
        if t == 1:
            state = actor.reset(state, first)
        want, state = actor.act(obs[t], state)
        body = {"obs": obs[t].tolist(), "session": "many", "first": first}
        assert asked(app, "/act", body).json["action"] == want.tolist()
    few = asked(app, "/act", {"obs": obs[0, :2].tolist(), "session": "many"})
    assert few.status == 422 and "of 4 observations a step, this has 2" in few.error
    odd = asked(app, "/act", {"obs": obs[0].tolist(), "session": "many", "first": [True]})
    assert odd.status == 422 and "1 entries for 4" in odd.error
    none = asked(app, "/act", {"obs": obs[0].tolist()})
    assert none.status == 422 and "name a session" in none.error


@pytest.fixture(scope="module")
def frames(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact of a policy that sees the last three frames."""
    place = exported(tmp_path_factory.mktemp("serve") / "frames", "ppo image")
    values = json.loads((place / "contract.json").read_text())
    stack = {"kind": "stack", "frames": 3, "axis": -1, "padding": "reset"}
    (place / "contract.json").write_bytes(contract.sealed(values | {"preprocessing": [stack]}))
    return place


@pytest.mark.parametrize("quick", [True, False])
def test_a_session_keeps_the_frames_of_a_stack(frames: Path, quick: bool) -> None:
    """Of one game in both protocols, and of two, the second of which opens anew."""
    app, actor = application(frames, quick=quick), Policy.load(frames)
    films = np.random.default_rng(2).integers(0, 256, (5, 2, 12, 12)).astype(np.uint8)
    seen = np.repeat(films[0][..., None], 3, -1)  # what an environment with the stack would show
    actions = []

    async def step(t: int) -> Any:
        first = True if t == 0 else [False, t == 3]
        one = {"obs": films[t, 0].tolist(), "session": "one", "first": t == 0}
        both = {"obs": films[t].tolist(), "session": "both", "first": first}
        sequence = {"sequence_id": 1, "sequence_start": t == 0}
        asked = {"inputs": [tensor(films[t, :1], "UINT8")], "parameters": sequence}
        return await asyncio.gather(
            ask(app, "/act", one),
            ask(app, "/act", both),
            ask(app, "/v2/models/frames/infer", asked),
        )

    for t in range(5):
        if t:
            seen = np.concatenate([seen[..., 1:], films[t][..., None]], -1)
        if t == 3:
            seen[1] = films[3, 1][..., None]
        want = actor.act(seen)[0].tolist()
        one, both, sequence = (each.json for each in asyncio.run(step(t)))
        assert (one["action"], both["action"]) == (want[0], want)
        assert sequence["outputs"][0]["data"] == want[:1]
        actions += want
    assert len(set(actions)) > 1
    whole = {"obs": seen.tolist(), "session": "both"}  # a stack may follow, and frames a stack
    assert asked(app, "/act", whole).json["action"] == want
    seen = np.concatenate([seen[..., 1:], films[0][..., None]], -1)
    again = asked(app, "/act", {"obs": films[0].tolist(), "session": "both"})
    assert again.json["action"] == actor.act(seen)[0].tolist()


def test_a_single_frame_needs_a_session(frames: Path) -> None:
    app, film = application(frames), np.zeros((12, 12), np.uint8)
    refused = asked(app, "/act", {"obs": film.tolist()})
    assert refused.status == 422 and "sees the last 3 frames: name a session" in refused.error
    assert asked(app, "/act", {"obs": np.zeros((12, 12, 3), int).tolist()}).status == 200
    wrong = asked(app, "/act", {"obs": film[1:].tolist(), "session": "a", "first": True})
    assert wrong.status == 422 and "its shape is (11, 12)" in wrong.error
    told = asked(app, "/v2/models/frames").json
    assert told["inputs"][0]["parameters"] == {"source": [], "frame": [12, 12]}
    for x, single in ((film, True), (film[None], False), (film[..., None] + [0] * 3, True)):
        ((sent,), one) = (lambda made: (made[0].values(), made[1]))(parts_of(told, x, None))
        assert one == single and sent.shape == ((1, *x.shape) if single else x.shape)


def test_sessions_are_bounded_and_expire(gru: Path) -> None:
    served = shelf(gru, Limits()).get(None)
    now = [0.0]
    sessions = Sessions(Limits(sessions=3, idle=10), lambda: now[0])
    for name, rows in (("a", 2), ("b", 1), ("a", 2)):  # opened again it takes no more room
        sessions.open(("gru", name), served, rows)
    with pytest.raises(Exception, match="3 environments are remembered and 3 is the most"):
        sessions.open(("gru", "c"), served, 1)
    now[0] = 9.0
    assert sessions.find(("gru", "b")) is not None
    now[0] = 11.0
    assert sessions.find(("gru", "a")) is None and sessions.rows == 1
    sessions.open(("gru", "c"), served, 2)
    sessions.close(("gru", "c"))
    now[0] = 30.0
    sessions.expire()
    assert sessions.rows == 0 and not sessions.kept
    app = application(gru, sessions=1)
    body = {"obs": [0, 0], "first": True}
    assert asked(app, "/act", body | {"session": "a", "end": True}).status == 200
    assert asked(app, "/act", body | {"session": "b"}).status == 200
    assert asked(app, "/act", body | {"session": "c"}).status == 429


# --- limits -----------------------------------------------------------------------------------


def test_bodies_are_bounded_in_length_and_time(pendulum: Path) -> None:
    app = application(pendulum, seconds=0.05)
    most = app.shelves["pendulum"].get(None).body
    assert most == 1 << 20  # of small observations
    long = asked(app, "/act", b" " * (most + 1))
    assert long.status == 413 and "1,048,576 bytes" in long.error
    assert "connection" not in long.headers
    chunks = reading(*[b" " * most] * 2)
    assert asked(app, "/act", {}, receive=chunks).headers["connection"] == "close"
    huge = asked(app, "/act", {}, receive=reading(b""), content_length=str(1 << 40))
    assert huge.status == 413 and huge.headers["connection"] == "close"

    async def never() -> Any:
        await asyncio.sleep(10)

    assert asked(app, "/act", {}, receive=never).status == 408
    assert app.act.bodies.held == 0 and app.act.pending == 0
    full = application(pendulum, held=10)
    reply = asked(full, "/act", {"obs": [0, 0, 0]})
    assert reply.status == 503 and reply.headers["retry-after"] == "1"
    assert full.act.bodies.held == 0


def test_a_full_queue_and_a_late_action_are_503(gru: Path) -> None:
    """A step that came too late was not made: the session is where it was."""
    app = application(gru, quick=False, pending=2, seconds=0.15)
    actor: Any = app.shelves["gru"].get(None).policy
    greedy = actor.runners["greedy"]
    body = {"obs": [0.1, 0.2], "session": "a", "first": True}
    assert asked(app, "/act", body).status == 200
    before = app.act.sessions.kept["gru", "a"].state

    def slow(inputs: Any, batch: int) -> Any:
        time.sleep(0.3)
        return greedy(inputs, batch)

    actor.runners["greedy"] = slow

    async def three() -> Any:
        return await asyncio.gather(*(ask(app, "/act", body | {"first": False}) for _ in range(3)))

    replies = asyncio.run(three())
    assert [each.status for each in replies] == [503] * 3
    assert "2 requests are under way" in replies[2].error
    assert "no action within 0.15 s" in replies[0].error
    assert app.act.sessions.kept["gru", "a"].state is before

    def broken(inputs: Any, batch: int) -> Any:
        raise KeyError("planted")

    app = application(gru, quick=False)
    actor = app.shelves["gru"].get(None).policy
    actor.runners["greedy"] = broken
    reply = asked(app, "/act", body)
    assert reply.status == 500 and "the policy failed: KeyError" in reply.error


# --- reload -----------------------------------------------------------------------------------


def test_hot_reload_takes_only_what_acts_as_it_says(
    gru: Path, tmp_path: Path, capsys: Any, monkeypatch: Any
) -> None:
    place = tmp_path / "gru"
    shutil.copytree(gru, place / "1")
    app = application(place)
    found = app.shelves["gru"]
    other = changed(gru, tmp_path / "other", -1.5)

    async def looked() -> None:
        with ThreadPoolExecutor(1) as thread:
            await app.refresh(found, thread)

    step = {"obs": [0.3, -0.4], "session": "a"}
    first = asked(app, "/act", step | {"first": True}).json
    shutil.copytree(other, place / "2")
    asyncio.run(looked())
    assert (
        sorted(found.versions) == ["1", "2"] and "version 2: served now" in capsys.readouterr().err
    )
    assert asked(app, "/act", step).json["sha256"] == first["sha256"]  # as the episode began
    assert "keeps it" in asked(app, "/act/gru/2", step).error
    assert asked(app, "/act", step | {"first": True}).json["version"] == "2"
    # weights that do not act as the samples say, whatever the hashes
    shutil.copytree(other, place / "3")
    shutil.copy(gru / "samples.npz", place / "3" / "samples.npz")
    values = json.loads((place / "3" / "contract.json").read_text())
    (place / "3" / "contract.json").unlink()
    artefact.seal(place / "3", {n: x for n, x in values.items() if n not in ("files", "sha256")})
    (place / "2" / "weights.npz").write_bytes(b"damaged")
    asyncio.run(looked())
    said = capsys.readouterr().err
    assert "version 3: not served" in said and "does not act as when it was written" in said
    assert "version 2: not served" in said and "damaged" in said
    assert asked(app, "/act", step).json["version"] == "2"
    asyncio.run(looked())
    assert not capsys.readouterr().err  # said once
    shutil.rmtree(place / "2")
    asyncio.run(looked())
    assert "2" in found.versions  # it may be being replaced
    asyncio.run(looked())
    assert sorted(found.versions) == ["1"]
    assert asked(app, "/act", step).json["version"] == "2"  # the episode goes on
    monkeypatch.setattr(store, "stamp_of", lambda place: time.perf_counter())
    assert found.changed()[0][0] == "3"  # what changes while it is read is looked at again
    assert "3" in {version for version, _ in found.changed()}


def test_what_a_runtime_cannot_read_is_one_sentence(
    pendulum: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    place = tmp_path / "bad"
    shutil.copytree(pendulum, place)
    values = json.loads((place / "contract.json").read_text())
    (place / "contract.json").unlink()
    (place / "policy.onnx").write_bytes(b"no graph")
    artefact.seal(place, {n: x for n, x in values.items() if n not in ("files", "sha256")})

    def read(place: Path) -> Any:
        raise RuntimeError("no graph is in it")

    monkeypatch.setitem(store.BACKENDS, "onnx", read)
    with pytest.raises(ArtefactError, match=r"cannot act by onnx: RuntimeError.*no graph"):
        store.opened("bad", place, "onnx", Limits())


def test_a_server_watches_while_it_lives(pendulum: Path, tmp_path: Path, monkeypatch: Any) -> None:
    monkeypatch.setattr("parl.deploy.serve.application.POLL", 0.01)
    place = tmp_path / "pendulum"
    shutil.copytree(pendulum, place)
    limits = Limits()
    app = Application([shelf(place, limits)], limits, reload=True)
    other = changed(pendulum, tmp_path / "other", 1.5)
    messages: asyncio.Queue[Any] = asyncio.Queue()
    said: list[str] = []

    async def send(message: Any) -> None:
        said.append(message["type"])

    async def life() -> str:
        living = asyncio.create_task(app({"type": "lifespan"}, messages.get, send))
        await messages.put({"type": "lifespan.startup"})
        artefact.replace(other, place)
        before = now = app.shelves["pendulum"].get(None).digest
        for _ in range(300):
            await asyncio.sleep(0.01)
            if (now := app.shelves["pendulum"].get(None).digest) != before:
                break
        await messages.put({"type": "lifespan.shutdown"})
        await living
        return now

    now = asyncio.run(life())
    assert now == contract.read(place).values["sha256"] and not app.is_ready
    assert said == ["lifespan.startup.complete", "lifespan.shutdown.complete"]


# --- what a request does not do ---------------------------------------------------------------


def test_requests_open_no_file_and_leave_no_memory(pendulum: Path, gru: Path) -> None:
    """1,000 odd requests are answered with a status of 4xx each; none touches the file system."""
    app = application(pendulum, gru, sessions=50)
    events: list[str] = []
    watching = [False]

    def hook(event: str, arguments: Any) -> None:
        if watching[0] and event.split(".")[0] in ("open", "os", "shutil", "import", "exec"):
            events.append(f"{event} {arguments!r:.80}")

    sys.addaudithook(hook)
    rng = np.random.default_rng(0)
    good = json.dumps({"obs": [0.1, 0.2], "session": "a", "first": True}).encode()
    tensors = json.dumps({"inputs": [tensor(OBS, "FP32")]}).encode()

    async def odd(count: int) -> set[int]:
        statuses = set()
        for i in range(count):
            text = bytearray(good if i % 2 else tensors)
            place = int(rng.integers(len(text)))
            text[place : place + int(rng.integers(1, 6))] = rng.bytes(int(rng.integers(0, 4)))
            body = bytes(text) if i % 25 else b" " * ((1 << 20) + i)
            path = "/act/gru" if i % 2 else "/v2/models/pendulum/infer"
            reply = await ask(app, path, body)
            statuses.add(reply.status)
            assert reply.status == 200 or reply.error
        return statuses

    async def kind() -> None:
        for _ in range(3):
            assert (await ask(app, "/act/gru", good)).status == 200
            assert (await ask(app, "/v2/models/pendulum/infer", tensors)).status == 200
            assert (await ask(app, "/metrics")).status == 200

    asyncio.run(odd(50))
    tracemalloc.start()
    watching[0] = True
    try:
        statuses = asyncio.run(odd(1000))
        asyncio.run(kind())
    finally:
        watching[0] = False
        grown, _ = tracemalloc.get_traced_memory()
        tracemalloc.stop()
    assert not events, events[:3]
    assert statuses <= {200, 400, 410, 413, 422, 429} and {400, 413, 422} <= statuses
    assert grown < 2 << 20, grown
    assert app.act.pending == 0 and app.act.bodies.held == 0
    assert len(app.act.sessions.kept) <= 50
