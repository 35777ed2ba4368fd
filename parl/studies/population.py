"""Population-based training: members that do badly go on from those that do well.

Jaderberg et al. 2017, arXiv:1711.09846. Every member is a run directory, trained a part at a time
by `parl.train` and `parl.resume`; all share one compiled program, whose data hyperparameters are,
or are rows of one, see studies/together.py.
"""

import json
import shutil
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ConfigError
from parl.core.files import write_json
from parl.report.plotting import read_json
from parl.runs.hooks import Stop
from parl.runs.saver import Diverged
from parl.studies.space import Range, Space
from parl.studies.together import in_batches
from parl.studies.trial import Trial, trained

STATE = "population.json"
SHARE = 0.25  # of the members that are replaced, and from which their replacements come
FACTORS = (0.8, 1.25)  # of a range's number; of its share of the way where that is logarithmic
RESAMPLED = 0.25  # chance that a choice is drawn anew


class Exploit(NamedTuple):
    """A member that goes on from another one."""

    member: int
    donor: int
    settings: dict[str, Any]


def train(
    place: Path,
    algorithm: Any,
    env: Any,
    space: Space,
    chosen: list[dict[str, Any]],
    rounds: int,
    settings: dict[str, Any],
    sample_seed: int,
    say: Any,
    together: int = 1,
) -> list[Trial]:
    """Trains a population for `rounds` parts, between which the worst go on from the best.

    `together` members at a time are rows of one program. `chosen` are the members' settings at the
    start. After a broken-off part the same call goes on. Raises ConfigError where there are fewer
    than four members.
    """
    if len(chosen) < 4:
        raise ConfigError(f"a population has at least 4 members, not {len(chosen)}.")
    steps = int(settings.get("steps", 100_000))
    state = read_json(place / STATE) or {"round": 0, "members": chosen, "exploits": []}
    members: list[Trial] = []
    for part in range(state["round"], rounds):
        target = steps if part == rounds - 1 else steps * (part + 1) // rounds
        tasks = [
            partial(until, member(place, i), algorithm, env, each, settings, target)
            for i, each in enumerate(state["members"])
        ]
        members = [each for done, _ in in_batches(tasks, together) for each in done]
        scores = np.array([each.score for each in members])
        say(
            f"part {part + 1} of {rounds}, {target:,} steps: best {np.nanmax(scores):.6g}, "
            f"worst {np.nanmin(scores):.6g}"
        )
        if part < rounds - 1:
            random = np.random.default_rng((sample_seed, part))
            apply(place, state, planned(space, state["members"], scores, random))
            state["round"] = part + 1
            write_state(place, state)
    return members


def member(place: Path, index: int) -> Path:
    """The directory of a member."""
    return place / "trials" / f"{index:04}"


def until(
    path: Path, algorithm: Any, env: Any, chosen: dict[str, Any], settings: dict, target: int
) -> Trial:
    """Trains or resumes a member up to `target` environment steps, where it is not there yet.

    One that diverges has no score.
    """
    result = read_json(path / "result.json")
    if result.get("env_steps", 0) >= target:
        return Trial(path, chosen, result)
    try:
        return trained(path, algorithm, env, chosen, settings, on_record=partial(ended, target))
    except Diverged as error:
        return Trial(path, chosen, {}, str(error))


def ended(target: int, line: dict[str, Any]) -> Any:
    """Stop at the end of a part."""
    return Stop("the part is over") if line["env_steps"] >= target else None


def planned(
    space: Space, members: list[dict[str, Any]], scores: np.ndarray, random: np.random.Generator
) -> list[Exploit]:
    """The worst quarter, each with a donor of the best quarter and its settings, perturbed.

    A member without a score counts as worse than all others.
    """
    count = max(1, int(len(members) * SHARE))
    order = np.argsort(np.where(np.isfinite(scores), scores, -np.inf), kind="stable")
    donors = random.choice(order[-count:], count)
    return [
        Exploit(int(worst), int(donor), perturbed(space, members[donor], random))
        for worst, donor in zip(order[:count], donors, strict=True)
    ]


def perturbed(
    space: Space, settings: Mapping[str, Any], random: np.random.Generator
) -> dict[str, Any]:
    """Settings near others: numbers times one of FACTORS, choices now and then drawn anew."""
    found = {}
    for name, each in space.items():
        if isinstance(each, Range):
            value = settings[name] * FACTORS[random.integers(len(FACTORS))]
            found[name] = each.at(each.share(min(max(value, each.low), each.high)))
        else:
            anew = random.random() < RESAMPLED
            found[name] = each.at(random.random()) if anew else settings[name]
    return found


def apply(place: Path, state: dict[str, Any], exploits: list[Exploit]) -> None:
    """Puts a copy of its donor in each member's place, with the new settings in its config."""
    for member_, donor, settings in exploits:
        source, target = member(place, donor), member(place, member_)
        scratch = target.with_name(f".{target.name}")
        shutil.rmtree(scratch, ignore_errors=True)
        shutil.copytree(source, scratch)
        content = json.loads((scratch / "config.json").read_text())
        content["settings"] |= json.loads(json.dumps(settings))
        write_json(scratch / "config.json", content)
        shutil.rmtree(target)
        scratch.replace(target)
        state["members"][member_] = settings
        state["exploits"].append({"part": state["round"] + 1, "member": member_, "donor": donor})
        write_state(place, state)


def write_state(place: Path, state: dict[str, Any]) -> None:
    """Writes what a population that is broken off goes on from."""
    write_json(place / STATE, json.loads(json.dumps(state)))
