"""Records what a run's policy does as a data set."""

import dataclasses
import os
import subprocess
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from itertools import count, islice
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

import parl.core
from parl.agents.execution.collector import Collector
from parl.agents.execution.protocol import Seeds
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import named_leaves, params_sha256
from parl.core.errors import ConfigError
from parl.core.rewards import apart
from parl.core.seeding import env_seed
from parl.core.spec import EnvSpec
from parl.datasets.card import Card, card_for
from parl.datasets.cutter import Cutter
from parl.datasets.episode import Episode, cut_after
from parl.datasets.writer import SHARD_STEPS, Writer
from parl.envs.protocol import VectorEnv
from parl.runs.build import load_state
from parl.runs.config import versions
from parl.runs.directory import RunDir
from parl.runs.episodes import Rules
from parl.runs.layout import run_seeds
from parl.runs.preparation import prepare

RECORDING = 1_000_033  # keeps the seeds of recorded episodes apart from all others
LENGTH = 128  # most steps of each environment between two looks at what has ended
RANDOM, RANDOM_EPISODES = 2**20, 20  # what random play is numbered as, and how much of it
NUM_ENVS = 8  # stepped together
PICTURES = (".mp4", ".gif", ".png")  # which parl.record wrote in version 0.2
LONG = 1_000  # steps of an episode of unknown length


class Source(NamedTuple):
    """Whose policy to record; as in `parl.load`."""

    run: Path
    checkpoint: str | int = "latest"
    seed_index: int = 0
    env: Any = None
    algorithm: Any = None


class Amount(NamedTuple):
    """How much to record: one of the two."""

    episodes: int | None = None
    steps: int | None = None

    def left(self, card: Card) -> int:
        """Episodes or steps that are missing."""
        if self.episodes is not None:
            return self.episodes - card.episodes
        return (self.steps or 0) - card.steps


class Recorded(NamedTuple):
    """A data set that was recorded."""

    path: Path
    card: Card


class Workers(NamedTuple):
    """Who plays: rollout actors of a Ray cluster, or with none this process."""

    actors: int = 0
    address: str = "local"


ALONE = Workers()


def record(
    source: Source,
    out: Path,
    amount: Amount,
    sample: bool,
    seed: int,
    expert: float | None,
    workers: Workers = ALONE,
) -> Recorded:
    """Plays a run's policy and writes what it does; see `parl.record`."""
    if out.suffix in PICTURES:
        raise ConfigError(
            f"record writes a data set, and {out} is a picture: that is 'parl video {source.run} "
            f"--out {out}', or parl.video(...)."
        )
    if (amount.episodes is None) == (amount.steps is None):
        raise ConfigError("record takes --episodes N or --steps N, one of the two.")
    run = RunDir(source.run)
    parts, state = load_state(run, source.env, source.algorithm, source.checkpoint)
    seeds = parts.config.num_seeds
    if source.seed_index >= seeds:
        raise ConfigError(
            f"{run.path} has {seeds} seed{'s' * (seeds > 1)}, so seed_index must be below that, "
            f"not {source.seed_index}."
        )
    algorithm_state = run_seeds(parts.config).take(state.algorithm_state, source.seed_index)
    policy = parts.learner.algorithm.policy(algorithm_state)
    saved = run.pick(parts.config.run_id, source.checkpoint, replay=False)
    about = {
        "run": run.path.resolve().name,
        "run_id": parts.config.run_id,
        "algorithm": parts.config.algorithm,
        "checkpoint": saved.meta["env_steps"],
        "params_sha256": params_sha256(named_leaves(jax.device_get(algorithm_state))),
        "actions": "sampled" if sample else "greedy",
        "seed": seed,
        "seed_index": source.seed_index,
    }
    about |= {name: value for name, value in amount._asdict().items() if value is not None}
    algorithm, spec = parts.learner.algorithm, parts.factory.spec
    player = Player(parts.factory.vector, spec, algorithm, jax.device_get(policy), seed, sample)
    known = {} if expert is None else {"expert": expert, "random": player.random_return()}
    told = {"policy": about, "versions": versions(), "commit": commit(), "reference": known}
    plain = dataclasses.replace(spec, observation_space=apart(spec.observation_space)[0])
    with Writer(out, card_for(plain, parts.config.env, **told)) as writer:
        while (left := amount.left(writer.card)) > 0:
            plan = planned(player, len(writer.card.shards), left if amount.episodes else None)
            shards = played(player, [*islice(plan, max(workers.actors, 1))], workers)
            for shard in shards:
                writer.add([*fitting(shard, left if amount.steps else None)])
                writer.flush()
                if (left := amount.left(writer.card)) <= 0:
                    break
    return Recorded(out, writer.card)


def planned(player: "Player", first: int, episodes: int | None) -> Iterator[tuple[int, int]]:
    """(number, episodes) of the shards from the number `first` on, up to so many episodes."""
    for number in count(first):
        most = player.episodes_of_a_shard
        most = most if episodes is None else min(most, episodes)
        if not most:
            return
        yield number, most
        episodes = None if episodes is None else episodes - most


def played(
    player: "Player", plan: Sequence[tuple[int, int]], workers: Workers
) -> Iterator[Iterable[Episode]]:
    """The episodes of each shard in order, whoever plays them.

    A shard depends on its number only: one whose actor died is played again by another.
    """
    if not workers.actors:
        yield from (player.play(*shard) for shard in plan)
        return
    from parl.remote import connect  # only now: it loads Ray
    from parl.remote.tasks import spread

    local = workers.address == "local"
    connect(workers.address, num_cpus=workers.actors if local else None)
    ready: dict[int, list[Episode]] = {}
    ended: Any = spread([partial(shard_of, player, *shard) for shard in plan])
    try:
        for index in range(len(plan)):
            while index not in ready:
                place, episodes = next(ended)
                ready[place] = episodes
            yield ready.pop(index)
    finally:
        ended.close()


def shard_of(player: "Player", number: int, episodes: int) -> list[Episode]:
    """A shard; runs in an actor's process."""
    prepare()
    return [*player.play(number, episodes)]


def fitting(episodes: Iterable[Episode], steps: int | None) -> Iterator[Episode]:
    """As many episodes as have `steps` steps, of which the last is cut; all for None."""
    for episode in episodes:
        if steps is not None and episode.size >= steps:
            yield cut_after(episode, steps)
            return
        yield episode
        steps = None if steps is None else steps - episode.size


@dataclasses.dataclass(frozen=True)
class Player:
    """Plays a policy in shards, each of which depends on the seed and on its number only."""

    vector: Callable[[int, int, int], VectorEnv]  # as in EnvFactory
    spec: EnvSpec
    algorithm: Algorithm
    policy: Any  # numpy arrays
    seed: int
    sample: bool

    @property
    def episodes_of_a_shard(self) -> int:
        """How many have about SHARD_STEPS steps."""
        return max(SHARD_STEPS // min(self.spec.max_steps or LONG, SHARD_STEPS), 1)

    def random_return(self) -> float:
        """The mean return of random actions."""
        return float(np.mean([each.total for each in self.play(RANDOM, RANDOM_EPISODES, True)]))

    def play(self, number: int, episodes: int, random: bool = False) -> Iterator[Episode]:
        """The episodes of a shard, so many, of the policy or with random actions.

        Each environment plays its share of them, so that short ones are not over-represented.
        """
        num_envs = min(NUM_ENVS, episodes)
        share = np.full(num_envs, episodes // num_envs)
        share[: episodes % num_envs] += 1
        limit = self.spec.max_steps or LONG
        length = -(-limit // -(-limit // LENGTH))  # no step is played beyond the last episodes
        found: list[list[Episode]] = [[] for _ in range(num_envs)]
        collector, policy = self.collector(number, num_envs), jax.device_put(self.policy)
        cutter = Cutter(self.spec, Rules().limit(self.spec))
        try:
            while any(len(mine) < least for mine, least in zip(found, share, strict=True)):
                steps = collector.collect(policy, length, random).rollout.steps
                obs, next_obs = apart(steps.obs)[0], apart(steps.next_obs)[0]
                steps = steps._replace(obs=obs, next_obs=next_obs)
                for mine, new in zip(found, cutter.add(steps), strict=True):
                    mine += new
        finally:
            collector.close()
        for mine, least in zip(found, share, strict=True):
            yield from mine[:least]

    def collector(self, shard: int, num_envs: int) -> Collector:
        """Fresh environments for a shard."""
        number = env_seed(self.seed, RECORDING, shard)
        env = self.vector(num_envs, number, 0)
        return Collector([env], self.algorithm, Seeds((number,)), explore=self.sample)


def commit() -> str:
    """The commit of the source that PARL runs from; empty for an installed package."""
    folder = os.path.dirname(parl.core.__path__[0])
    try:
        told = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, timeout=5
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    return told.stdout.strip() if told.returncode == 0 else ""
