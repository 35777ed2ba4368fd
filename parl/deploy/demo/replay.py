"""Episodes that an exported policy plays, as small pictures."""

import base64
import io
from collections.abc import Sequence
from typing import Any, NamedTuple

import jax
import numpy as np

from parl.core.errors import EnvError
from parl.core.rewards import LAST_REWARD, with_reward
from parl.core.seeding import EVALUATION, env_seed
from parl.deploy.arrays import Runner
from parl.deploy.compiler import names_of
from parl.deploy.contract import Contract
from parl.deploy.names import ACTION
from parl.envs.adapters.frames import watched
from parl.envs.adapters.gymnasium import GymnasiumVectorEnv
from parl.envs.factory import EnvFactory
from parl.envs.jax_vector import within_bounds
from parl.envs.protocol import JaxEnv
from parl.runs.episodes import RULES
from parl.runs.video import FPS, drawn, image, rendering

SIDE = 240  # pixels of a picture's longer side
ROOM = 330_000  # bytes of all pictures; base 64 makes them a third longer
QUALITY = 50


class Episode(NamedTuple):
    """A whole episode."""

    frames: list[np.ndarray]  # [H, W, 3] uint8, of the start and after each step
    rewards: list[float]  # of several agents their sums
    terminated: bool


class Replay(NamedTuple):
    """Episodes as a page shows them."""

    episodes: list[dict[str, Any]]  # frames as data URLs, rewards, terminated
    every: int  # steps from picture to picture
    rate: float = FPS

    def to_json(self) -> dict[str, Any]:
        return self._asdict()


class Step(NamedTuple):
    """What an environment answers."""

    obs: Any  # [1, ...]
    reward: float
    terminated: bool
    truncated: bool


def replay_of(contract: Contract, env: Any, episodes: int, seed: int) -> Replay:
    """Episodes of a policy in its environment. Raises EnvError where it cannot be drawn."""
    if contract.values.get("agent") is not None:
        raise EnvError("one agent of several cannot play alone: export the whole team to show it.")
    factory = rendering(env)
    played = [played_in(contract, factory, seed + i) for i in range(episodes)]
    every, pictures = shrunk([episode.frames for episode in played])
    told = [
        {"frames": frames, "rewards": one.rewards, "terminated": one.terminated}
        for frames, one in zip(pictures, played, strict=True)
    ]
    return Replay(told, every)


def played_in(contract: Contract, factory: EnvFactory, seed: int) -> Episode:
    """One episode of the greedy policy."""
    act, limit = Runner(contract.programs["greedy"]), RULES.limit(factory.spec)
    memory = {name: x[None] for name, x in contract.start.items()}
    game = InJax(factory.jax, seed) if factory.jax is not None else OnHost(factory, seed)
    paid = any(leaf.name.endswith(f".{LAST_REWARD}") for leaf in contract.leaves)
    shown = lambda obs, reward: with_reward(obs, np.full((1, 1), reward, "f4")) if paid else obs
    obs, rewards, step = shown(game.obs, 0.0), [], None
    try:
        while step is None or not (step.terminated or step.truncated or len(rewards) >= limit):
            seen = dict(zip(names_of(obs), map(np.asarray, jax.tree.leaves(obs)), strict=True))
            outputs = act(seen | memory, 1)
            memory = {name: outputs[name] for name in memory}
            step = game.step(outputs[ACTION])
            obs = shown(step.obs, step.reward)
            rewards.append(round(step.reward, 4))
    finally:
        game.close()
    return Episode(game.frames[: len(rewards) + 1], rewards, step.terminated)


class InJax:
    """One of our own environments, which draws its states."""

    def __init__(self, env: JaxEnv, seed: int):
        self.env, self.key = env, jax.random.key(env_seed(seed, EVALUATION, 0))
        self.reset, self.advance = jax.jit(env.reset), jax.jit(env.step)
        self.state, obs = self.reset(self.key)
        self.obs, self.frames, self.time = batched(obs), [drawn(env, self.state)], 0

    def step(self, action: np.ndarray) -> Step:
        self.time += 1
        taken, key = (
            within_bounds(self.env.spec, action[0]),
            jax.random.fold_in(self.key, self.time),
        )
        self.state, obs, reward, terminated, truncated = self.advance(self.state, taken, key)
        self.frames.append(drawn(self.env, self.state))
        return Step(batched(obs), float(np.sum(reward)), bool(terminated), bool(truncated))

    def close(self) -> None:
        pass


def batched(obs: Any) -> Any:
    """An observation with one more axis in front."""
    return jax.tree.map(lambda x: np.asarray(x)[None], obs)


class OnHost:
    """An environment of another package."""

    def __init__(self, factory: EnvFactory, seed: int):
        self.env = factory.vector(1, env_seed(seed, EVALUATION, 0), 0)
        if not isinstance(self.env, GymnasiumVectorEnv):
            self.env.close()
            raise EnvError(f"{factory.spec.id} is a vector environment, which gives no pictures.")
        self.seen = watched(self.env)[0]
        self.obs = self.env.reset()

    @property
    def frames(self) -> list[np.ndarray]:
        return self.seen.episodes[0]

    def step(self, action: np.ndarray) -> Step:
        new = self.env.step(action)
        flags = bool(new.terminated[0]), bool(new.truncated[0])
        return Step(new.obs, float(np.sum(new.reward)), *flags)

    def close(self) -> None:
        self.env.close()


# --- pictures ---------------------------------------------------------------------------------


def shrunk(episodes: Sequence[Sequence[np.ndarray]]) -> tuple[int, list[list[str]]]:
    """(steps from picture to picture, data URLs of each episode's pictures) that fit in ROOM."""
    total = sum(map(len, episodes))
    pictures: dict[tuple[int, int], bytes] = {}  # by episode and step, each made once

    def picture(place: tuple[int, int]) -> bytes:
        if place not in pictures:
            pictures[place] = small(episodes[place[0]][place[1]])
        return pictures[place]

    places = [(e, t) for e, frames in enumerate(episodes) for t in range(len(frames))]
    some = places[:: max(1, total // 10)]
    each = sum(len(picture(place)) for place in some) / len(some)
    every = max(1, int(np.ceil(each * total / ROOM)))
    while True:
        chosen = [[(e, t) for t in kept(len(frames), every)] for e, frames in enumerate(episodes)]
        if sum(len(picture(x)) for row in chosen for x in row) <= ROOM or every > total:
            return every, [[url(picture(x)) for x in row] for row in chosen]
        every += 1


def kept(count: int, every: int) -> list[int]:
    """Every so many of some frames, and the last."""
    return [*range(0, count - 1, every), count - 1]


def small(frame: np.ndarray) -> bytes:
    """A frame as WebP."""
    picture, file = image(frame), io.BytesIO()
    picture.thumbnail((SIDE, SIDE))
    picture.save(file, "WEBP", quality=QUALITY)
    return file.getvalue()


def url(data: bytes) -> str:
    """A picture as a URL that holds it."""
    return "data:image/webp;base64," + base64.b64encode(data).decode()
