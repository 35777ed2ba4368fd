"""Writes a policy as a directory of files, and shows that these act as it does."""

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.algorithm import Algorithm
from parl.core.errors import ArtefactError, ConfigError, MissingPackage, nearest
from parl.core.numbers import to_json
from parl.core.spec import EnvSpec
from parl.core.spec_json import spec_to_json
from parl.deploy import contract as contracts
from parl.deploy import parity, samples, sampling, weights
from parl.deploy.arrays import Runner
from parl.deploy.backends import BACKENDS, jax_backend
from parl.deploy.builder import UnsupportedOperation
from parl.deploy.compiler import (
    Acting,
    Compiled,
    EnvAction,
    acting,
    action_maps,
    compiled,
    of_one_agent,
)
from parl.deploy.contract import CONTRACT, WEIGHTS
from parl.deploy.demo import page
from parl.deploy.export import c, js, stablehlo, tflite
from parl.deploy.export import numpy as numpy_form
from parl.deploy.export import onnx as onnx_form
from parl.deploy.observations import choices_of, leaves_of, members_of, preprocessing_of
from parl.deploy.observed import adversarial, recorded
from parl.deploy.program import Program
from parl.deploy.returns import difference, returns_of, summary
from parl.deploy.rows import Rows
from parl.envs.factory import EnvFactory
from parl.report.parity_figure import parity_figure
from parl.report.plotting import save

RECORDED, ADVERSARIAL = 1000, 100
# part of the return that weights in fewer bits may cost
LOST = {"float32": 0.0, "float16": 0.02, "int8": 0.02, "int4": 0.05}
PARITY, PICTURE, CARD = "parity.json", "parity.png", "README.md"


class Source(NamedTuple):
    """A policy and where it is from."""

    algorithm: Algorithm
    policy: Any
    spec: EnvSpec
    factory: EnvFactory | None  # None: the environment cannot be made, so no episodes are played
    provenance: dict[str, Any]


class Settings(NamedTuple):
    """How a policy is exported."""

    to: tuple[str, ...] = ("numpy",)
    agent: str | None = None
    sample: bool = False
    weights: str = "float32"
    episodes: int = 10
    seed: int = 0


class Artefact(NamedTuple):
    """What was written."""

    path: Path
    report: dict[str, Any]  # parity.json

    @property
    def failures(self) -> list[str]:
        """What does not act as JAX does, a sentence each."""
        return [line for form in self.report["forms"].values() for line in form["failures"]]

    def checked(self) -> "Artefact":
        """Itself. Raises ArtefactError where it does not act as JAX does."""
        if self.failures:
            raise ArtefactError(f"{self.path} does not act as this agent: {self.failures[0]}")
        return self


class Parts(NamedTuple):
    """A policy in all that its forms are made of."""

    acts: dict[str, Acting]  # greedy, and sample
    maps: dict[str, EnvAction]
    programs: dict[str, Program]  # with common names of constants
    start: dict[str, np.ndarray]  # memory that is needed, of one environment
    traced: Program  # greedy, whatever is done to `programs`

    @property
    def whole(self) -> Acting:
        """`act` as it is compared with."""
        return self.acts["greedy"]


Writer = Callable[[Path, Parts], str]


def write_onnx(place: Path, parts: Parts) -> str:
    """policy.onnx, and beside it the one that is given noise."""
    told = {"format": contracts.FORMAT, "contract": (place / CONTRACT).read_text()}
    if "sample" in parts.programs:
        onnx_form.write(place, onnx_form.SAMPLE, parts.programs["sample"], told)
    return onnx_form.write(place, onnx_form.FILE, parts.programs["greedy"], told)


def write_stablehlo(place: Path, parts: Parts) -> str:
    """policy.stablehlo, and beside it the one that is given a key."""
    for name, file in (("sample", stablehlo.SAMPLE), ("greedy", stablehlo.FILE)):
        if name in parts.programs:
            program, whole = parts.programs[name], parts.acts[name]
            inputs = stablehlo.inputs_of(program)
            stablehlo.write(place, file, whole, parts.maps, inputs, list(program.outputs))
    return stablehlo.FILE


def write_web(place: Path, parts: Parts) -> str:
    """index.html, in which the policy acts."""
    return page.write(page.acting_page(contracts.read(place)), place / page.FILE).name


FORMS: dict[str, Writer] = {
    "numpy": lambda place, parts: numpy_form.write(place),
    "onnx": write_onnx,
    "stablehlo": write_stablehlo,
    "c": lambda place, parts: c.write(place, parts.programs),
    "js": lambda place, parts: js.write(place, parts.programs, parts.start),
    "web": write_web,
    "tflite": lambda place, parts: tflite.write(
        place, parts.whole, parts.maps, parts.programs["greedy"]
    ),
}


ACT_ITSELF = ("stablehlo", "tflite")  # forms that are made of `act`, not of its program


def export(source: Source, out: str | Path, settings: Settings) -> Artefact:
    """Writes the artefact to the directory `out`, in place of an earlier one.

    A form that lacks an operation or a package is left out, and the report says why. Raises
    ConfigError for settings that do not fit, UnsupportedOperation where no form can be made.
    """
    forms = check_forms(settings.to)
    weights.check_form(settings.weights)
    place = Path(out).absolute()
    check_place(place)
    parts = parts_of(source, settings)
    place.parent.mkdir(parents=True, exist_ok=True)
    new = Path(tempfile.mkdtemp(prefix=f".{place.name}.writing-", dir=place.parent))
    try:
        report = fill(new, source, parts, settings, forms)
        illustrate(new, report)
        replace(new, place)
    except BaseException:
        shutil.rmtree(new, ignore_errors=True)
        raise
    return Artefact(place, report)


def check_forms(to: Sequence[str]) -> list[str]:
    """The forms asked for, numpy first. Raises ConfigError for others."""
    asked = [to] if isinstance(to, str) else list(to)
    for name in asked:
        if name not in (*FORMS, "all"):
            known = ", ".join((*FORMS, "all"))
            raise ConfigError(f"there is no form '{name}'.{nearest(name, FORMS)} Known: {known}.")
    return list(FORMS) if "all" in asked else list(dict.fromkeys(["numpy", *asked]))


def check_place(place: Path) -> None:
    """Raises ConfigError where something else than an artefact would be written over."""
    if place.exists() and not place.is_dir():
        raise ConfigError(f"{place} is a file: choose another --out.")
    if place.is_dir() and any(place.iterdir()) and not (place / CONTRACT).is_file():
        odd = min(file.name for file in place.iterdir())
        raise ConfigError(
            f"{place} holds something else than an exported policy, such as {odd}: choose another "
            "--out."
        )


def replace(new: Path, place: Path) -> None:
    """Puts a directory in the place of an earlier one, which goes."""
    new.chmod(0o755)
    if place.is_dir():
        old = place.with_name(f".{place.name}.old-{new.name[-8:]}")
        place.rename(old)
        new.rename(place)
        shutil.rmtree(old, ignore_errors=True)
    else:
        new.rename(place)


def parts_of(source: Source, settings: Settings) -> Parts:
    """The programs of a policy."""
    spec, agent = source.spec, settings.agent
    index = None if agent is None else index_of(spec, agent)
    maps = action_maps(spec, agent)

    def made(explore: bool) -> tuple[Acting, Compiled]:
        whole = acting(source.algorithm, source.policy, spec, explore)
        whole = whole if index is None else of_one_agent(whole, spec, index)
        return whole, compiled(whole, maps)

    whole, greedy = made(False)
    acts = {"greedy": whole}
    programs = {"greedy": greedy.program}
    if greedy.noise is not None:
        raise UnsupportedOperation(
            "the greedy action of this algorithm depends on chance, so it cannot be exported."
        )
    if settings.sample:
        acts["sample"], sampled = made(True)
        programs["sample"] = sampled.program
        noise = Program((), {}, (), {}) if sampled.noise is None else sampled.noise
        programs["noise"] = noise
    needed = {port.name for each in programs.values() for port in each.inputs}
    start = {name: x[0] for name, x in whole.memory.items() if name in needed}
    return Parts(acts, maps, weights.with_common_names(programs), start, greedy.program)


def index_of(spec: EnvSpec, agent: str) -> int:
    """The row of an agent. Raises ConfigError for a name that is none."""
    names = list(map(str, spec.agents))
    if agent not in names:
        known = f"Its agents are {', '.join(names)}." if names else "It has one agent only."
        raise ConfigError(f"{spec.id} has no agent '{agent}'.{nearest(agent, names)} {known}")
    return names.index(agent)


def fill(
    place: Path, source: Source, parts: Parts, settings: Settings, forms: list[str]
) -> dict[str, Any]:
    """Writes all files to an empty directory; the report."""
    declared, data = weights.packed(constants_of(parts.programs), settings.weights)
    (place / WEIGHTS).write_bytes(data)
    values = described(source, parts, settings) | {"weights": declared}
    seal(place, values)
    stored = contracts.read(place)  # what the files say, with the weights as they are stored
    written, missing = {}, {}
    parts = parts._replace(programs=stored.programs)
    for form in forms:
        try:
            check_settings(form, settings)
            written[form] = FORMS[form](place, parts)
        except (UnsupportedOperation, MissingPackage) as error:
            missing[form] = str(error)
    report = judged(place, source, parts, settings, written)
    report["missing"] = missing
    (place / PARITY).write_text(json.dumps(report, indent=1) + "\n")
    (place / CARD).write_text(card(values, report, written))
    seal(place, values)
    return report


def check_settings(form: str, settings: Settings) -> None:
    """Raises UnsupportedOperation for what a form, which other forms have, has not."""
    if form in ACT_ITSELF and settings.weights != "float32":
        raise UnsupportedOperation(
            f"{form} holds the weights as they were trained, not as {settings.weights}: export it "
            "to a directory of its own, without --weights."
        )
    if form == "tflite" and settings.sample:
        raise UnsupportedOperation(
            "tflite acts greedily: export it to a directory of its own, without --sample."
        )


def illustrate(place: Path, report: dict[str, Any]) -> None:
    """Adds the report as a picture to a directory that was filled."""
    save(parity_figure(report), place / PICTURE)
    seal(place, contracts.read(place).values)


def seal(place: Path, values: dict[str, Any]) -> None:
    """Writes the contract with the hashes of all other files."""
    files = sorted(file for file in place.iterdir() if file.name != CONTRACT)
    hashes = {file.name: contracts.digest(file.read_bytes()) for file in files}
    (place / CONTRACT).write_bytes(contracts.sealed(values | {"files": hashes}))


def constants_of(programs: dict[str, Program]) -> dict[str, np.ndarray]:
    """All constants of some programs."""
    return {name: x for program in programs.values() for name, x in program.constants.items()}


def described(source: Source, parts: Parts, settings: Settings) -> dict[str, Any]:
    """All of a contract but weights and hashes."""
    spec, whole = source.spec, parts.whole
    needed = {port.name for each in parts.programs.values() for port in each.inputs}
    leaves = [
        leaf for leaf in leaves_of(spec, settings.agent is not None) if leaf.name in whole.obs
    ]
    memory = [
        {"name": name, "shape": list(x.shape), "dtype": x.dtype.name, "start": to_json(x)}
        for name, x in parts.start.items()
    ]
    return {
        "format": contracts.FORMAT,
        "schema": contracts.SCHEMA,
        "observations": [leaf.to_json() for leaf in leaves if leaf.name in needed],
        "preprocessing": preprocessing_of(spec, source.factory),
        "members": members_of(spec, source.factory),
        "choices": choices_of(spec) if "obs.legal" in needed and settings.agent is None else [],
        "memory": memory,
        "actions": {name: each.map.to_json() for name, each in parts.maps.items()},
        "programs": {name: each.to_json() for name, each in parts.programs.items()},
        "agents": list(map(str, spec.agents)),
        "agent": settings.agent,
        "environment": spec_to_json(spec),
        "weights_stored_as": settings.weights,
        "provenance": source.provenance,
    }


# --- the report -------------------------------------------------------------------------------


def judged(
    place: Path, source: Source, parts: Parts, settings: Settings, written: dict[str, str]
) -> dict[str, Any]:
    """The report of parity.json: every form beside JAX.

    Where weights were stored in fewer bits the forms are compared with one another, as NumPy acts
    with these, and by their returns with JAX.
    """
    program, whole, maps = parts.programs["greedy"], parts.whole, parts.maps
    exact, in_jax = settings.weights == "float32", jax_backend(whole, maps)
    start = {name: x[0] for name, x in whole.memory.items()} if exact else parts.start
    act = in_jax if exact else Runner(program)
    cases = cases_of(source, parts, settings, act, start)
    plays = source.factory if settings.agent is None and settings.episodes else None
    report: dict[str, Any] = {"tolerance": parity.TOLERANCE, "weights": settings.weights}
    if plays is not None:
        full = {name: x[0] for name, x in whole.memory.items()}
        played = returns_of(plays, in_jax, full, settings.episodes, settings.seed)
        report["jax"] = summary(played)
    forms = {}
    for form, file in written.items():
        backend = BACKENDS[form](place)
        result = parity.compare(form, backend, program, parts.start, cases)
        if form == "numpy":
            result["failures"] += parity.map_failures(program, maps, form)
        if "sample" in parts.programs and exact:
            result["sampled"], wrong = sampling.compared(form, place, parts, cases[0].rows)
            result["failures"] += wrong
        if plays is not None:
            played = returns_of(plays, backend, parts.start, settings.episodes, settings.seed)
            result["returns"] = summary(played)
            lost = LOST[settings.weights]
            result["failures"] += difference(form, result["returns"], report["jax"], lost)
        result["bytes"] = (place / (WEIGHTS if form == "numpy" else file)).stat().st_size
        result["microseconds"] = duration(backend, program, one_row(cases[0].rows))
        forms[form] = result
    samples.write(place, samples.kept(cases, program))
    return report | {"forms": forms}


def cases_of(
    source: Source, parts: Parts, settings: Settings, act: Any, start: dict[str, np.ndarray]
) -> list[parity.Case]:
    """What forms are compared on: observations of episodes, where there are any, and others."""
    rows = {}
    if source.factory is not None:
        rows["recorded"] = played_rows(source, source.factory, parts, settings)
    rows["adversarial"] = adversarial(source.spec, parts.whole, ADVERSARIAL, settings.seed)
    return [parity.case(name, act, parts.traced, each, start) for name, each in rows.items()]


def played_rows(source: Source, factory: EnvFactory, parts: Parts, settings: Settings) -> Rows:
    """Observations of episodes that the policy plays; those of one agent among all of its team."""
    if settings.agent is None:
        return recorded(factory, parts.whole, RECORDED, settings.seed)
    index = index_of(source.spec, settings.agent)
    team = acting(source.algorithm, source.policy, source.spec, explore=False)
    rows = recorded(factory, team, RECORDED, settings.seed)
    own = {name: x[:, :, index] for name, x in rows.obs.items() if name in parts.whole.obs}
    return rows._replace(obs=own)


def one_row(rows: Any) -> dict[str, np.ndarray]:
    """The first of some rows as inputs [1, ...] by name."""
    first = {name: x[0][:1] for name, x in rows.obs.items()}
    return first | {name: x[:1] for name, x in rows.memory.items()}


def duration(backend: Any, program: Program, row: dict[str, np.ndarray], calls: int = 50) -> float:
    """Microseconds of one action on a row [1, ...], the median of some."""
    inputs = {port.name: row[port.name] for port in program.inputs}
    times = []
    backend(inputs, 1)  # may compile
    for _ in range(calls):
        began = time.perf_counter()
        backend(inputs, 1)
        times.append(time.perf_counter() - began)
        if sum(times) > 1.0:
            break
    return round(float(np.median(times)) * 1e6, 2)


def card(values: dict[str, Any], report: dict[str, Any], written: dict[str, str]) -> str:
    """README.md of an artefact."""
    spec, origin = values["environment"], values["provenance"]
    inputs = "\n".join(
        f"- `{each['name']}` {each['dtype']}{[*each['shape']]}, of the observation"
        f"{'' if not each['source'] else ' at ' + '/'.join(map(str, each['source']))}"
        for each in values["observations"]
    )
    worst = lambda form: max(part["max_error"] for part in parity.parts_of(form))
    lines = "\n".join(
        f"| {name} | {written[name]} | {each['bytes']:,} | {each['microseconds']:.1f} | "
        f"{worst(each):.1e} | "
        f"{'differs' if each['failures'] else 'as JAX'} |"
        for name, each in report["forms"].items()
    )
    told = "\n".join(
        f"- {key}: {value}" for key, value in origin.items() if not isinstance(value, dict)
    )
    return f"""# A policy for {spec["id"]}

```python
import parl  # or, without PARL: import policy; actor = policy.load()

actor = parl.Policy.load(".")
state = actor.start()  # where an episode opens
action, state = actor.act(observation, state)
```

Observations are the environment's own, one or a batch [B, ...]; so are the actions.

{inputs}

| form | file | bytes | microseconds an action | largest error | acts |
|---|---|---|---|---|---|
{lines}

![How the forms compare with JAX](parity.png)

{told}
"""
