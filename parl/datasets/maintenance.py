"""What is done to whole data sets: described, checked, merged and split."""

import dataclasses
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from parl.core.errors import ConfigError, DataError
from parl.core.spec import EnvSpec
from parl.core.spec_json import spec_to_json
from parl.datasets.card import Card, joined
from parl.datasets.episode import Episode, columns, steps_of
from parl.datasets.reader import DataSet, open_data
from parl.datasets.writer import SHARD_STEPS, Writer

MOST = 20  # problems that are told


def described(path: str | Path) -> Card:
    """The card of a data set; of one without, what its episodes tell."""
    source = open_data(path)
    if source.card.shards:
        return source.card
    card = dataclasses.replace(source.card, episodes=0, steps=0)
    for episode in source.episodes():
        ended = [episode.total] if episode.terminated[-1] or episode.truncated[-1] else []
        card = dataclasses.replace(
            card,
            episodes=card.episodes + 1,
            steps=card.steps + episode.size,
            returns=joined(card.returns, ended),
        )
    return card


def problems(path: str | Path) -> list[str]:
    """What is wrong with a data set, a sentence each; at most MOST."""
    found: list[str] = []
    try:
        source = open_data(path)
        source.sha256()
        spec = source.card.env_spec(path)
        for number, episode in enumerate(source.episodes()):
            found += wrong_with(episode, f"episode {number}", spec, path)
            if len(found) >= MOST:
                return [*found[:MOST], "There may be more."]
    except DataError as error:
        found.append(str(error))
    return found


def wrong_with(episode: Episode, name: str, spec: EnvSpec | None, path: Any) -> list[str]:
    """What is wrong with an episode."""
    found = [
        f"{name} holds NaN or infinity in its {what}."
        for what, x in columns(episode)
        if x.dtype.kind == "f" and not np.isfinite(x).all()
    ]
    if (episode.terminated | episode.truncated)[:-1].any():
        found.append(f"{name} goes on after a step that ended it.")
    if spec is not None:
        try:
            steps_of(episode, spec, f"{path}, {name},")
        except DataError as error:
            found.append(str(error))
    return found


def merged(paths: Sequence[str | Path], out: str | Path) -> Card:
    """Writes the episodes of several data sets as one. Raises ConfigError if they do not fit."""
    sources = [open_data(path) for path in paths]
    if len(sources) < 2:
        raise ConfigError("merge takes two data sets or more.")
    card = common(sources)
    with Writer(Path(out), card) as writer:
        for source in sources:
            copy(source, writer, None)
    return writer.card


def common(sources: Sequence[DataSet]) -> Card:
    """A card for data sets of one environment. Raises ConfigError for others."""
    specs = [source.spec() for source in sources]
    for source, spec in zip(sources, specs, strict=True):
        for what in ("observation_space", "action_space", "num_agents"):
            if getattr(spec, what) != getattr(specs[0], what):
                raise ConfigError(
                    f"{source.path} is of another environment than {sources[0].path}: its "
                    f"{what.replace('_', ' ')} is {getattr(spec, what)}, not "
                    f"{getattr(specs[0], what)}."
                )
    first = sources[0].card
    return Card(
        environment=first.environment,
        spec=spec_to_json(specs[0]),
        policy={"merged": [origin(source) for source in sources]},
        reference=first.reference,
    )


def origin(source: DataSet) -> str:
    """The identity of a data set, or where it lies."""
    return source.card.sha256 if source.card.shards else str(source.path)


def parted(path: str | Path, out: Sequence[str | Path], share: float, seed: int) -> list[Card]:
    """Writes the episodes of a data set as two, a `share` of them in the first."""
    source = open_data(path)
    count = sum(1 for _ in source.episodes()) if not source.card.shards else source.card.episodes
    order = np.random.default_rng(seed).permutation(count)
    here = set(order[: round(share * count)].tolist())
    if not 0 < len(here) < count:
        raise ConfigError(
            f"a share of {share:g} of {count} episodes leaves one of the two parts empty."
        )
    cards = []
    for target, chosen in zip(out, (here, set(range(count)) - here), strict=True):
        policy = source.card.policy | {"part": len(cards), "of": origin(source)}
        begun = Card(
            environment=source.card.environment,
            spec=spec_to_json(source.spec()),
            policy=policy,
            reference=source.card.reference,
        )
        with Writer(Path(target), begun) as writer:
            copy(source, writer, chosen)
        cards.append(writer.card)
    return cards


def copy(source: DataSet, writer: Writer, chosen: set[int] | None) -> None:
    """Writes the chosen episodes of a data set; all for None."""
    for number, episode in enumerate(source.episodes()):
        if chosen is None or number in chosen:
            writer.add([episode])
            if writer.waiting_steps >= SHARD_STEPS:
                writer.flush()
