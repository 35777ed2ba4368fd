"""The card of a data set: what it holds, where it is from, and what its files must be.

card.json stands beside data/, whose files have Minari's layout. A data set is its card: shards that
the card does not name were left by a writer that died.
"""

import contextlib
import dataclasses
import hashlib
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from parl.core.checkpoint import sync
from parl.core.errors import DataError
from parl.core.spec import Box, Discrete, EnvSpec, MultiDiscrete, Space, example
from parl.core.spec_json import spec_from_json, spec_to_json

CARD = "card.json"
DATA = "data"  # the folder of the files
FORMAT = 1


@dataclass(frozen=True)
class Shard:
    """One file of episodes."""

    file: str
    episodes: int
    steps: int
    sha256: str
    until: int = 0  # environment steps of the run that collected it, if one did


@dataclass(frozen=True)
class Card:
    """What is known of a data set."""

    environment: str = ""  # its id; empty where it is not known
    spec: dict[str, Any] = field(default_factory=dict)  # see core/spec_json.py
    policy: dict[str, Any] = field(default_factory=dict)  # who acted, and how
    versions: dict[str, str] = field(default_factory=dict)
    commit: str = ""
    complete: bool = False
    episodes: int = 0
    steps: int = 0
    returns: dict[str, float] = field(default_factory=dict)  # of the episodes that ended
    reference: dict[str, float] = field(default_factory=dict)  # returns called random and expert
    shards: tuple[Shard, ...] = ()

    @property
    def sha256(self) -> str:
        """The identity of the data: of all shards in order."""
        joined = "".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(joined.encode()).hexdigest()

    def env_spec(self, where: Any) -> EnvSpec | None:
        """The environment's spec; None if it is not known."""
        return spec_from_json(self.spec, where) if self.spec else None

    def with_shard(self, shard: Shard, returns: list[float]) -> "Card":
        """The card with one more shard, in which episodes of these returns ended."""
        return dataclasses.replace(
            self,
            shards=(*self.shards, shard),
            episodes=self.episodes + shard.episodes,
            steps=self.steps + shard.steps,
            returns=joined(self.returns, returns),
        )


def joined(told: dict[str, float], returns: list[float]) -> dict[str, float]:
    """Statistics of returns with further ones."""
    if not returns:
        return told
    count, more = told.get("count", 0), len(returns)
    mean, square = told.get("mean", 0.0), told.get("std", 0.0) ** 2 + told.get("mean", 0.0) ** 2
    total = count + more
    new_mean = (count * mean + sum(returns)) / total
    new_square = (count * square + float(np.square(returns).sum())) / total
    return {
        "count": total,
        "mean": new_mean,
        "std": float(np.sqrt(max(new_square - new_mean**2, 0.0))),
        "min": min(told.get("min", np.inf), *returns),
        "max": max(told.get("max", -np.inf), *returns),
    }


def write_card(root: Path, card: Card) -> None:
    """Replaces card.json."""
    values = dataclasses.asdict(card) | {"format": FORMAT, "sha256": card.sha256}
    write_text(root / CARD, json.dumps(values, indent=1) + "\n")


def read_card(root: Path) -> Card | None:
    """The card of a directory; None if it has none. Raises DataError for a damaged one."""
    file = root / CARD
    if not file.exists():
        return None
    try:
        values = json.loads(file.read_text())
        if values.pop("format") != FORMAT:
            raise ValueError(f"its format is not {FORMAT}")
        digest, shards = values.pop("sha256"), values.pop("shards")
        card = Card(**values, shards=tuple(Shard(**shard) for shard in shards))
        if digest != card.sha256:
            raise ValueError("its checksum does not match")
        return card
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise DataError(f"{file} is not the card of a data set: {error}.") from error


def write_text(path: Path, text: str) -> None:
    """Writes a file atomically."""
    temporary = path.with_name(f".writing-{path.name}")
    try:
        with temporary.open("w") as file:
            file.write(text)
            sync(file)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


# --- what Minari reads ----------------------------------------------------------------------------


def metadata(card: Card, name: str) -> dict[str, Any]:
    """The content of Minari's metadata.json for a data set called `name`."""
    told: dict[str, Any] = {
        "total_episodes": card.episodes,
        "total_steps": card.steps,
        "data_format": "hdf5",
        "jpeg_encoding": False,
        "dataset_id": name,
        "minari_version": "0.5.4",
    }
    spec = card.env_spec(CARD)
    if spec is None:
        return told
    told["observation_space"] = json.dumps(minari_space(spec.observation_space))
    told["action_space"] = json.dumps(minari_actions(spec))
    return told


def minari_actions(spec: EnvSpec) -> dict[str, Any]:
    """The space of recorded actions as Minari writes it."""
    known, space = spec.action_map, spec.action_space
    if spec.num_agents is None and known is None:
        return minari_space(space)
    if known is None:
        like = example(space, spec.agent_shape)
        low, high = (-1, 1) if isinstance(space, Box) else (0, np.iinfo(like.dtype).max)
        return minari_box(like.shape, like.dtype.name, low, high)
    if known.choices and not known.shape:
        count = int(known.high[0] - known.low[0]) + 1
        return {"type": "Discrete", "dtype": "int64", "start": int(known.low[0]), "n": count}
    if known.choices:
        nvec = (known.high - known.low + 1).reshape(known.shape).tolist()
        start = known.low.reshape(known.shape).tolist()
        return {"type": "MultiDiscrete", "dtype": "int64", "nvec": nvec, "start": start}
    low, high = (x.reshape(known.shape) for x in (known.low, known.high))
    return minari_box(known.shape, known.dtype, low, high)


def minari_space(space: Space) -> dict[str, Any]:
    """A space as Minari writes it."""
    match space:
        case Box():
            return minari_box(space.shape, space.dtype, space.low, space.high)
        case Discrete():
            return {"type": "Discrete", "dtype": "int64", "start": 0, "n": space.n}
        case MultiDiscrete():
            start = [0] * len(space.nvec)
            return {"type": "MultiDiscrete", "dtype": space.dtype} | {
                "nvec": list(space.nvec),
                "start": start,
            }
    parts = {name: minari_space(part) for name, part in space.items()}
    return {"type": "Dict", "subspaces": parts}


def minari_box(shape: tuple[int, ...], dtype: str, low: Any, high: Any) -> dict[str, Any]:
    """A Box as Minari writes it; bounds beyond those of the type become those."""
    kind = np.dtype("int8" if dtype == "bool" else dtype)
    limits = np.iinfo(kind) if kind.kind in "iu" else None
    low, high = (np.broadcast_to(np.asarray(x, np.float64), shape) for x in (low, high))
    if limits is not None:
        low, high = (np.clip(x, limits.min, limits.max).astype(kind) for x in (low, high))
    return {"type": "Box", "dtype": kind.name, "shape": list(shape)} | {
        "low": low.tolist(),
        "high": high.tolist(),
    }


def card_for(spec: EnvSpec, environment: str, **about: Any) -> Card:
    """The card of a data set that is begun."""
    return Card(environment=environment, spec=spec_to_json(spec), **about)
