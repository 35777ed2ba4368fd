"""HDF5 files of episodes, in Minari's layout: the only importer of h5py.

episode_<i>/observations   [N + 1, *O], a group of such for a dict
episode_<i>/actions, rewards, terminations, truncations   [N, ...]
"""

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from parl.core.errors import DataError, MissingPackage
from parl.datasets.episode import Episode

if TYPE_CHECKING:
    import h5py

FIELDS = ("actions", "rewards", "terminations", "truncations")


def package() -> Any:
    """h5py. Raises MissingPackage."""
    try:
        import h5py
    except ImportError as error:
        raise MissingPackage(
            "data sets are HDF5 files, which need h5py: pip install 'parl-jax[data]'."
        ) from error
    return h5py


@contextlib.contextmanager
def opened(path: Path) -> Iterator["h5py.File"]:
    """A file to read. Raises DataError for one that is damaged, cut off or no HDF5 file."""
    library = package()
    try:
        with library.File(path, "r") as file:
            yield file
    except FileNotFoundError as error:
        raise DataError(f"{path} does not exist.") from error
    except (OSError, RuntimeError, KeyError, ValueError) as error:
        reason = str(error).strip().splitlines()[:1] or [type(error).__name__]
        raise DataError(
            f"{path} cannot be read as a file of episodes, it is damaged, cut off or something "
            f"else ({reason[0][:120]})."
        ) from error


def write(path: Path, episodes: Sequence[Episode], first: int) -> None:
    """Writes episodes as episode_<first>, ... into a new file."""
    with package().File(path, "w", libver="latest") as file:
        for index, episode in enumerate(episodes, first):
            group = file.create_group(name_of(index))
            group.attrs["id"], group.attrs["total_steps"] = index, episode.size
            write_tree(group, "observations", episode.observations)
            for name, array in zip(FIELDS, episode[1:], strict=True):
                group.create_dataset(name, data=array)


def write_tree(group: Any, name: str, tree: Any) -> None:
    """Writes an array, or a dict of such as a group."""
    if not isinstance(tree, dict):
        group.create_dataset(name, data=tree)
        return
    inner = group.create_group(name)
    for key, part in tree.items():
        write_tree(inner, key, part)


def write_links(path: Path, files: Sequence[tuple[str, int, int]]) -> None:
    """Writes a file of links to the episodes in others: (file, first, count) each."""
    library = package()
    with library.File(path, "w", libver="latest") as file:
        for name, first, count in files:
            for index in range(first, first + count):
                file[name_of(index)] = library.ExternalLink(name, f"/{name_of(index)}")


def name_of(index: int) -> str:
    """The name of an episode's group."""
    return f"episode_{index}"


def numbers_in(file: Any) -> list[int]:
    """The numbers of the episodes in a file, rising."""
    found = (name.removeprefix("episode_") for name in file if name.startswith("episode_"))
    return sorted(int(name) for name in found if name.isdecimal())


def read(group: Any, where: str) -> Episode:
    """The episode in a group. Raises DataError for what is none."""
    if missing := [name for name in ("observations", *FIELDS) if name not in group]:
        raise lacking(where, missing[0])
    actions, rewards, terminated, truncated = (group[name][()] for name in FIELDS)
    flags = (np.asarray(x).astype(bool) for x in (terminated, truncated))
    episode = Episode(tree_of(group["observations"], where), actions, rewards, *flags)
    return checked(episode, where)


def length_of(group: Any, where: str) -> int:
    """The number of steps of the episode in a group. Raises DataError for what is none."""
    if "rewards" not in group:
        raise lacking(where, "rewards")
    return group["rewards"].shape[0]


def lacking(where: str, name: str) -> DataError:
    """The error for a file without one of its fields."""
    why = {
        "terminations": "which steps ended an episode and which were only cut cannot be told",
        "terminals": "which steps ended an episode and which were only cut cannot be told",
    }.get(name, "it is no recorded episode")
    return DataError(f"{where} has no {name}: {why}.")


def tree_of(part: Any, where: str) -> Any:
    """An array, or a dict of the arrays in a group; a tuple is a dict of "0", "1", ..."""
    if hasattr(part, "keys"):
        return {key.removeprefix("_index_"): tree_of(part[key], where) for key in sorted(part)}
    found = part[()]
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "biuf":
        raise DataError(f"{where} has observations that are no numbers.")
    return found


def checked(episode: Episode, where: str) -> Episode:
    """The episode, if its arrays have one length. Raises DataError."""
    count = len(episode.rewards)
    if not count:
        raise DataError(f"{where} holds no step.")
    lengths = {len(part) for part in episode[1:]}
    seen = {len(leaf) for leaf in leaves(episode.observations)}
    if lengths != {count} or seen != {count + 1}:
        raise DataError(
            f"{where} has {count} rewards and {max(seen)} observations, where there has to be one "
            "observation more: it is cut off or of another layout."
        )
    return episode


def leaves(tree: Any) -> Iterator[np.ndarray]:
    """The arrays of a tree of dicts."""
    if not isinstance(tree, dict):
        yield tree
        return
    for part in tree.values():
        yield from leaves(part)
