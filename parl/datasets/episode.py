"""One recorded episode, and its steps as algorithms learn from them."""

from collections.abc import Iterator
from typing import Any, NamedTuple

import jax
import numpy as np

from parl.core.errors import DataError
from parl.core.rewards import shows_reward, with_reward
from parl.core.spec import EnvSpec, example, in_words
from parl.core.types import Step


class Episode(NamedTuple):
    """N steps in a row, in the environment's own actions.

    Where neither flag is set at the last step, recording ended before the episode did.
    """

    observations: Any  # [N + 1, *O] each; what followed the last action comes last
    actions: np.ndarray  # [N, *A]
    rewards: np.ndarray  # [N, *agent_shape] float32
    terminated: np.ndarray  # [N] bool: ended by the environment's rules
    truncated: np.ndarray  # [N] bool: cut, as by a time limit

    @property
    def size(self) -> int:
        """N, the number of steps."""
        return len(self.rewards)

    @property
    def total(self) -> float:
        """The return, over all agents."""
        return float(np.sum(self.rewards, dtype=np.float64))


def cut_after(episode: Episode, count: int) -> Episode:
    """The first `count` steps of an episode, where recording ended."""
    return Episode(
        jax.tree.map(lambda x: x[: count + 1], episode.observations),
        episode.actions[:count],
        episode.rewards[:count],
        episode.terminated[:count],
        episode.truncated[:count],
    )


def columns(episode: Episode) -> Iterator[tuple[str, np.ndarray]]:
    """The arrays of an episode by their names in messages."""
    for path, leaf in jax.tree.leaves_with_path(episode.observations):
        yield f"observations{jax.tree_util.keystr(path)}", leaf
    yield from zip(episode._fields[1:], episode[1:], strict=True)


def steps_of(episode: Episode, spec: EnvSpec, where: Any) -> Step:
    """The steps [N, ...] in the networks' spaces. Raises DataError if they are of other spaces.

    The last step has `last` set even if the episode was going on, with discount 1: nothing is known
    of what came after it.
    """
    obs = observations(seen(episode, spec), spec, where)
    count, last = episode.size, episode.terminated | episode.truncated
    last, first = last.copy(), np.zeros(count, bool)
    last[-1], first[0] = True, True
    return Step(
        jax.tree.map(lambda x: x[:-1], obs),
        network_actions(episode.actions, spec, where),
        np.asarray(episode.rewards, np.float32),
        1.0 - episode.terminated.astype(np.float32),
        jax.tree.map(lambda x: x[1:], obs),
        first,
        last,
        {},
    )


def seen(episode: Episode, spec: EnvSpec) -> Any:
    """Its observations, with the last rewards where the spec has them and the episode has not."""
    obs, space = episode.observations, spec.observation_space
    if not shows_reward(space) or shows_reward(obs):
        return obs
    return with_reward(obs, np.append(np.float32(0), episode.rewards)[:, None])


def observations(given: Any, spec: EnvSpec, where: Any) -> Any:
    """Observations in the types of the spec's space. Raises DataError if they do not fit."""
    like = example(spec.observation_space)
    shapes = lambda tree: jax.tree.map(lambda x: x.shape[1:], tree)
    if jax.tree.structure(given) != jax.tree.structure(like) or shapes(given) != shapes(like):
        raise DataError(
            f"{where} holds observations {described(given)}, but {spec.id} has "
            f"{in_words(spec.observation_space)}: give data of this environment."
        )
    return jax.tree.map(lambda x, to: np.asarray(x).astype(to.dtype, copy=False), given, like)


def network_actions(taken: np.ndarray, spec: EnvSpec, where: Any) -> np.ndarray:
    """Actions as networks give them. Raises DataError if they are not of the environment."""
    like = example(spec.action_space, (len(taken), *spec.agent_shape))
    try:
        if spec.action_map is not None:
            return spec.action_map.back(taken).astype(like.dtype, copy=False)
        if taken.shape == like.shape and (like.dtype.kind == "f" or taken.dtype.kind in "iu"):
            return taken.astype(like.dtype, copy=False)
    except ValueError:
        pass
    kind = "numbers" if taken.dtype.kind == "f" else "choices"
    raise DataError(
        f"{where} holds actions that are {kind} of shape {taken.shape[1:]}, but {spec.id} takes "
        f"{spec.action_space}: give data of this environment."
    )


def environment_actions(action: Any, spec: EnvSpec) -> np.ndarray:
    """The inverse of `network_actions`: what the environment was told."""
    return np.asarray(action if spec.action_map is None else spec.action_map(np.asarray(action)))


def described(tree: Any) -> str:
    """The shapes of observations as text."""
    if isinstance(tree, dict):
        return "{" + ", ".join(f"{name}: {described(part)}" for name, part in tree.items()) + "}"
    return f"of shape {tree.shape[1:]}"
