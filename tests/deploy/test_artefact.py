"""An artefact: written, read back, run without PARL, damaged, and what its parity finds."""

import importlib.util
import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import gymnasium
import numpy as np
import policies
import pytest
from gymnasium import spaces
from marks import quick, slow

import parl
from parl.core.errors import ArtefactError, ConfigError, ParlError
from parl.deploy import artefact, check, contract, policy
from parl.deploy.artefact import Parts, Settings
from parl.deploy.export import c, js
from parl.deploy.observations import leaves_of
from parl.deploy.program import Operation, Program
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.adapters.gymnasium_interface import face
from parl.envs.factory import make_factory
from parl.envs.native import Alone

SETTINGS = Settings(episodes=0)


def written(place: Path, found: Any, parts: Parts, *forms: str, **settings: Any) -> dict[str, Any]:
    """The report of an artefact that was written to `place`."""
    place.mkdir()
    return artefact.fill(place, found, parts, SETTINGS._replace(**settings), ["numpy", *forms])


def failures(report: dict[str, Any]) -> list[str]:
    return [line for form in report["forms"].values() for line in form["failures"]]


@pytest.fixture(scope="module")
def gru(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The artefact of a recurrent policy that can sample."""
    place = tmp_path_factory.mktemp("artefact") / "gru"
    found = policies.of_recipe("ppo", "jax:CartPoleMasked-v1", recurrent="gru")
    parts = policies.parts(found, sample=True)
    assert parts.start["memory.0"].shape == (64,)
    assert not failures(written(place, found, parts))
    return place


def test_a_policy_acts_step_by_step(gru: Path) -> None:
    actor = parl.Policy.load(gru)
    state, obs = actor.start(), np.array([0.1, -0.2])
    action, later = actor.act(obs, state)
    assert action.dtype == np.int64 and action.shape == () and later.time == 1
    assert not state.memory["memory.0"].any() and later.memory["memory.0"].any()
    batch, _ = actor.act(np.stack([obs, -obs]), actor.start(2))
    assert batch.shape == (2,) and batch[0] == action
    fresh = actor.reset(later, np.array([True]))
    assert not fresh.memory["memory.0"].any()
    drawn = [actor.act(obs, later, seed=seed)[0] for seed in range(20)]
    assert set(map(int, drawn)) == {0, 1} and actor.act(obs, later, seed=3)[0] == drawn[3]


@pytest.mark.parametrize(
    ("obs", "message"),
    [
        (np.zeros(3), r"its shape is \(3,\) instead of \(2,\)"),
        (np.array([np.nan, 0]), "NaN or infinity"),
        ("text", "not made of numbers"),
        (np.zeros((0, 2)), "not 0"),
        (np.zeros((2, 2)), "start\\(2\\)"),
    ],
)
def test_what_is_no_observation_is_refused(gru: Path, obs: Any, message: str) -> None:
    actor = parl.Policy.load(gru)
    with pytest.raises(ArtefactError, match=message):
        actor.act(obs, actor.start())


def test_neither_jax_nor_parl_is_needed(gru: Path) -> None:
    """policy.py in an interpreter of its own: the same actions as Policy, and a small process."""
    code = """
import json, sys
sys.path.insert(0, sys.argv[1])
import policy, numpy as np
actor = policy.load()
state, actions = actor.start(), []
for t in range(20):
    action, state = actor.act(np.sin(np.arange(2) + t), state, seed=5 if t % 2 else None)
    actions.append(int(action))
odd = [m for m in sys.modules if m.split(".")[0] in ("parl", "jax", "flax", "gymnasium")]
try:
    told = open("/proc/self/status").read().split("VmHWM:")[1].split()[0]
except OSError:
    told = 0
print(json.dumps([actions, odd, int(told)]))
"""
    command = [sys.executable, "-I", "-c", code, str(gru)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    actions, odd, memory = json.loads(done.stdout)
    actor = parl.Policy.load(gru)
    state, own = actor.start(), []
    for t in range(20):
        action, state = actor.act(np.sin(np.arange(2) + t), state, seed=5 if t % 2 else None)
        own.append(int(action))
    assert actions == own and not odd and memory < 80_000  # KB


def test_loading_a_policy_does_not_load_jax(gru: Path) -> None:
    code = f"import parl, sys; parl.Policy.load({str(gru)!r}); print('jax' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == "False", done.stderr


def test_the_runtime_in_one_file_has_no_name_twice() -> None:
    from parl.deploy.export import numpy

    names = [name for name in numpy.source().split("\n") if name.startswith(("def ", "class "))]
    heads = [line.split("(")[0].split(":")[0] for line in names]
    assert len(heads) == len(set(heads)) > 50


# --- actions and observations of the environment ----------------------------------------------


class Bounds(gymnasium.Env):
    """Keeps the action that it was handed."""

    def __init__(self, low: Any, high: Any, dtype: Any = np.float32):
        self.action_space = spaces.Box(np.array(low, dtype), np.array(high, dtype), dtype=dtype)
        self.observation_space = spaces.Box(-np.inf, np.inf, (3,), np.float64)

    def reset(self, *, seed: Any = None, options: Any = None) -> Any:
        return np.zeros(3), {}

    def step(self, action: Any) -> Any:
        self.handed = action
        return np.zeros(3), 0.0, False, False, {}


@pytest.mark.parametrize(
    "env",
    [
        Bounds([-2, -2], [2, 2]),
        Bounds([-2, -np.inf], [np.inf, 3]),
        Bounds([0, -5], [1, 10], np.float64),
        Bounds([-np.inf] * 2, [np.inf] * 2),
        Bounds([0, 0], [9, 5], np.int64),
    ],
    ids=["-2..2", "one-sided", "unequal", "none", "integers"],
)
def test_the_action_is_what_the_adapter_hands_over(env: Bounds, tmp_path: Path) -> None:
    vector = GymnasiumVectorEnv(lambda: env, 1, 0, "bounds")
    found = policies.of_recipe("ppo", face(env, "bounds").spec)
    parts = policies.parts(found)
    program = parts.programs["greedy"]
    from parl.deploy.arrays import Runner

    vector.reset()
    for obs in 300 * np.random.default_rng(0).standard_normal((20, 1, 3)):
        outputs = Runner(program)({"obs": obs.astype(np.float32)}, 1)
        vector.step(outputs["action"])
        inner: Any = vector.envs[0].unwrapped
        handed = np.asarray(inner.handed)
        assert outputs["env_action"].dtype == handed.dtype
        np.testing.assert_allclose(outputs["env_action"][0], handed, rtol=1e-6, atol=1e-6)


def test_observations_are_taken_as_the_environment_shows_them(tmp_path: Path) -> None:
    """A tuple, a shifted choice, a matrix of choices, flags and a mask."""
    space = spaces.Dict(
        {
            "kind": spaces.Discrete(3, start=5),
            "grid": spaces.MultiDiscrete(np.array([[2, 3], [4, 5]])),
            "pair": spaces.Tuple([spaces.Box(-1, 1, (2,)), spaces.MultiBinary(3)]),
            "action_mask": spaces.Box(0, 1, (4,), np.int8),
        }
    )

    class Seen(Bounds):
        def __init__(self) -> None:
            self.observation_space, self.action_space = space, spaces.Discrete(4, start=-1)

    spec = face(Seen(), "seen").spec
    found = policies.of_recipe("ppo", spec)
    assert not failures(written(tmp_path / "p", found, policies.parts(found)))
    actor, own = parl.Policy.load(tmp_path / "p"), Alone(spec)
    space.seed(0)
    for _ in range(5):
        obs = space.sample() | {"action_mask": np.array([0, 1, 1, 0], np.int8)}
        inputs, batch, single = actor.observed(obs)
        want = own.observe(obs).obs
        assert batch == 1 and single
        for name, x in inputs.items():
            expected: Any = want
            for key in name.split(".")[1:]:
                expected = expected[key]
            assert (x == expected).all() and x.dtype == expected.dtype, name
        assert actor.act(obs)[0] in (0, 1)  # the choices -1 + 1 and -1 + 2
    with pytest.raises(ArtefactError, match="no legal action"):
        actor.act(obs | {"action_mask": np.zeros(4, np.int8)})
    with pytest.raises(ArtefactError, match="kind: it holds a choice that there is not"):
        actor.act(obs | {"kind": 4})
    with pytest.raises(ArtefactError, match="grid is not in it"):
        actor.act({name: x for name, x in obs.items() if name != "grid"})


def test_bright_images_are_scaled() -> None:
    """Floats of 0 .. 255 become fractions, as they do in training."""

    class Bright(Bounds):
        def __init__(self) -> None:
            self.observation_space = spaces.Box(0, 255, (12, 12, 3), np.float32)
            self.action_space = spaces.Discrete(2)

    spec = face(Bright(), "bright").spec
    (leaf,) = leaves_of(spec)
    image = np.random.default_rng(0).uniform(0, 255, (2, 12, 12, 3)).astype(np.float32)
    seen, single = policy.Reader(leaf)(image)
    assert not single and (seen == Alone(spec).observe(image).obs).all() and seen.max() <= 1


# --- parity finds what is wrong ---------------------------------------------------------------


def without(program: Program, kinds: set[str], takes: int = 0) -> Program:
    """The program whose operations of these kinds hand on one of their operands."""
    replaced: dict[str, str] = {}
    kept = []
    for o in program.operations:
        inputs = tuple(replaced.get(name, name) for name in o.inputs)
        if o.kind in kinds:
            replaced[o.output.name] = inputs[takes]
        else:
            kept.append(Operation(o.kind, inputs, o.attributes, o.output))
    outputs = {n: replaced.get(x, x) for n, x in program.outputs.items()}
    return program._replace(operations=tuple(kept), outputs=outputs)


def zeroed_normaliser(program: Program) -> Program:
    """The constant that is first subtracted from the observation, at zero."""
    first = next(o for o in program.operations if o.kind == "sub" and "obs" in o.inputs)
    name = next(name for name in first.inputs if name in program.constants)
    changed = program.constants | {name: 0 * program.constants[name]}
    return program._replace(constants=changed)


def swapped_memory(program: Program) -> Program:
    outputs = program.outputs
    swap = {"memory.0": outputs["memory.1"], "memory.1": outputs["memory.0"]}
    return program._replace(outputs=outputs | swap)


def exchanged_rows(program: Program) -> Program:
    """The weights of two agents exchanged."""
    own = {n: x[::-1] for n, x in program.constants.items() if x.ndim == 3 and len(x) == 3}
    assert own
    return program._replace(constants=program.constants | own)


def dropped_clip(program: Program) -> Program:
    """Without the bounds between the action and the environment's."""
    tail = program.outputs["action"]
    index = next(i for i, o in enumerate(program.operations) if o.output.name == tail)
    head = program.operations[: index + 1]
    rest = without(program._replace(operations=program.operations[index + 1 :]), {"max", "min"})
    return rest._replace(operations=(*head, *rest.operations))


MUTATIONS = {
    "normaliser zeroed": ("ppo normalized", zeroed_normaliser),
    "memory swapped": ("ppo lstm", swapped_memory),
    "mask dropped": ("ppo mask", lambda program: without(program, {"select"}, 1)),
    "clip dropped": ("ppo bounds", dropped_clip),
    "agents exchanged": ("ippo own parameters", exchanged_rows),
}


@pytest.mark.parametrize("name", MUTATIONS)
def test_a_mutation_breaks_parity(name: str, tmp_path: Path) -> None:
    """And the report says in which form, and in which output."""
    case, mutate = MUTATIONS[name]
    recipe, env, settings = policies.CASES[case]
    found = policies.of_recipe(recipe, env, **settings)
    parts = policies.parts(found)
    bad = mutate(parts.programs["greedy"].pruned())
    report = written(tmp_path / "bad", found, parts._replace(programs={"greedy": bad.pruned()}))
    output = {"memory swapped": "memory", "clip dropped": "env_action"}.get(name, "action")
    assert any(line.startswith("numpy: ") and output in line for line in failures(report)), report


def test_one_agent_is_compared_on_episodes_of_its_team(tmp_path: Path) -> None:
    factory = make_factory(policies.SPREAD)
    found = policies.of_recipe("ippo", factory.spec, recurrent="gru")._replace(factory=factory)
    parts = policies.parts(found, agent="agent_1")
    report = written(tmp_path / "one", found, parts, agent="agent_1")
    assert report["forms"]["numpy"]["recorded"]["observations"] == 1000 and not failures(report)


# --- damage -----------------------------------------------------------------------------------


def test_a_damaged_byte_is_found_by_the_file(gru: Path, tmp_path: Path) -> None:
    copy = tmp_path / "copy"
    shutil.copytree(gru, copy)
    good, wrong = check.check(copy)
    assert not wrong and any("samples as when it was written" in line for line in good)
    for file in ("samples.npz", "policy.py", "parity.json"):
        data = (copy / file).read_bytes()
        (copy / file).write_bytes(data[:100] + bytes([data[100] ^ 1]) + data[101:])
        assert check.check(copy)[1] == [f"{file} is damaged: its sha256 is another one."]
        (copy / file).write_bytes(data)
    weights = (copy / "weights.npz").read_bytes()
    (copy / "weights.npz").write_bytes(weights[:-50])
    good, (wrong,) = check.check(copy)
    assert not good and "weights.npz is damaged: its sha256 is another one" in wrong
    with pytest.raises(ArtefactError, match="holds no policy"):
        check.check(tmp_path)


ODD = [None, -1, 10**9, -(10**30), 0.5, "", "x", [], {}, [[]], True, "../../x", "__class__"]


def mutated(values: Any, rng: np.random.Generator) -> Any:
    """A copy of JSON values with one of them changed, removed or replaced."""
    values = json.loads(json.dumps(values))
    at: Any = values
    while True:
        keys = list(at) if isinstance(at, dict) else list(range(len(at)))
        key = keys[rng.integers(len(keys))]
        inner = at[key]
        if isinstance(inner, dict | list) and inner and rng.random() < 0.85:
            at = inner
            continue
        at[key] = ODD[rng.integers(len(ODD))]
        if isinstance(at, dict) and rng.random() < 0.2:
            del at[key]
        return values


@pytest.mark.parametrize("count", [100, slow(1000)])
def test_mutated_artefacts(count: int, gru: Path, tmp_path: Path) -> None:
    """Each is a clean error, or one that was made whole again acts or says in a sentence why not.

    Nothing is imported or unpickled from them.
    """
    imported = set(sys.modules)
    copy, rng = tmp_path / "copy", np.random.default_rng(0)
    shutil.copytree(gru, copy)
    text = (gru / "contract.json").read_bytes()
    weights = (gru / "weights.npz").read_bytes()
    refused = 0
    for _ in range(count // 4):  # bytes
        file, data = [("contract.json", text), ("weights.npz", weights)][rng.integers(2)]
        place = rng.integers(len(data))
        (copy / file).write_bytes(
            data[:place] + bytes([data[place] ^ (1 << rng.integers(8))]) + data[place + 1 :]
        )
        with pytest.raises(ArtefactError):
            policy.Policy.load(copy)
        (copy / file).write_bytes(data)
    for _ in range(count - count // 4):  # values, with a hash that fits
        (copy / "contract.json").write_bytes(contract.sealed(mutated(json.loads(text), rng)))
        try:
            actor = policy.Policy.load(copy)
            actor.act(np.zeros(2))
            actor.act(np.zeros(2), seed=1)
        except ParlError as error:
            refused += 1
            assert "\n" not in str(error)
    assert refused > count // 4
    assert not {name for name in set(sys.modules) - imported if "parl" in name or name == "pickle"}


def test_weights_that_are_pickled_or_huge_are_refused(gru: Path, tmp_path: Path) -> None:
    values = json.loads((gru / "contract.json").read_text())
    copy = tmp_path / "copy"
    shutil.copytree(gru, copy)
    with np.load(gru / "weights.npz") as archive:
        arrays: dict[str, Any] = dict(archive)
    name = next(iter(arrays))
    bombs = np.array([print], object), np.zeros(10**7, arrays[name].dtype)
    for bomb in bombs:
        written: dict[str, Any] = arrays | {name: bomb}
        np.savez_compressed(copy / "weights.npz", **written)
        data = (copy / "weights.npz").read_bytes()
        files = values["files"] | {"weights.npz": contract.digest(data)}
        (copy / "contract.json").write_bytes(contract.sealed(values | {"files": files}))
        with pytest.raises(ArtefactError, match=name):
            policy.Policy.load(copy)


def test_code_that_is_not_the_contracts_is_not_run(gru: Path, tmp_path: Path) -> None:
    """policy.h and policy.mjs of a foreign artefact, with hashes that fit."""
    from parl.deploy.backends import c_backend, js_backend

    copy = tmp_path / "copy"
    shutil.copytree(gru, copy)
    found = contract.read(copy)
    sources = {c.FILE: c.source(found.programs), js.FILE: js.source(found.programs, found.start)}
    for file, backend in ((c.FILE, c_backend), (js.FILE, js_backend)):
        (copy / file).write_text(sources[file] + "\n")
        if shutil.which({c.FILE: "cc", js.FILE: "node"}[file]) is not None:
            with pytest.raises(ArtefactError, match="is not what this version writes"):
                backend(copy)


# --- forms ------------------------------------------------------------------------------------


def installed(form: str) -> bool:
    if form == "onnx":
        return all(importlib.util.find_spec(name) for name in ("onnx", "onnxruntime"))
    if form == "tflite":
        return all(importlib.util.find_spec(x) for x in ("litert_converter", "ai_edge_litert"))
    return shutil.which({"c": "cc", "js": "node"}[form]) is not None


QUICK = "ppo mask"
NAMES = [name for name in policies.CASES if name != "ppo image"]


@pytest.mark.parametrize("name", quick(NAMES, QUICK))
def test_the_files_act_as_jax(name: str, tmp_path: Path) -> None:
    """Every form whose compiler or package is there; those that are not are named."""
    recipe, env, settings = policies.CASES[name]
    found = policies.of_recipe(recipe, env, **settings)
    forms = [form for form in ("onnx", "c", "js", "tflite") if installed(form)]
    if not forms:
        pytest.skip("neither onnx nor a C compiler nor node is there")
    sample = recipe != "es" and name != QUICK
    parts = policies.parts(found, sample=sample)
    report = written(tmp_path / "p", found, parts, *forms, sample=sample)
    assert report["forms"].keys() == {"numpy", *forms} and not failures(report)


@pytest.mark.parametrize(("form", "least"), [("float16", 1.8), ("int8", 2.7), ("int4", 4.5)])
def test_weights_in_fewer_bits(form: str, least: float, tmp_path: Path) -> None:
    found = policies.of_recipe("ppo", policies.PENDULUM, hidden=(128, 128))
    parts = policies.parts(found)
    report = written(tmp_path / "small", found, parts, weights=form)
    assert not failures(report)
    plain = sum(x.nbytes for x in parts.programs["greedy"].constants.values())
    assert plain / report["forms"]["numpy"]["bytes"] > least
    own = contract.read(tmp_path / "small").programs["greedy"].constants
    steps = {"float16": 2**-10, "int8": 1 / 127, "int4": 1 / 7}[form]
    for name, x in parts.programs["greedy"].constants.items():
        assert np.abs(own[name] - x).max() <= np.abs(x).max() * steps


def test_a_form_that_there_is_not_is_named(tmp_path: Path) -> None:
    found = policies.of_recipe("ppo", policies.PENDULUM)
    with pytest.raises(ConfigError, match=r"no form 'onx'. Did you mean onnx"):
        artefact.export(found, tmp_path / "x", SETTINGS._replace(to=("onx",)))
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "notes.txt").write_text("mine")
    with pytest.raises(ConfigError, match=r"something else .* such as notes.txt"):
        artefact.export(found, tmp_path / "taken", SETTINGS)
