"""Episodes of a policy as pictures: those that `evaluate` plays with the same seed.

Frames are [H, W, 3] uint8, one of the start and one after each step.
"""

import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import jax
import numpy as np

from parl.core.errors import ConfigError, EnvError, MissingPackage, ParlError
from parl.core.files import writing
from parl.core.programs import as_data
from parl.core.seeding import EVALUATION, env_seed
from parl.envs.drawing import picture_of
from parl.envs.factory import EnvFactory, make_factory
from parl.envs.ids import with_arguments
from parl.envs.protocol import JaxEnv
from parl.runs.build import load_state, make_evaluator
from parl.runs.directory import RunDir
from parl.runs.episodes import HostPlayer, Rules, board_programs
from parl.runs.evaluation import Contest, Evaluator, MatchPolicy
from parl.runs.layout import run_seeds

FORMATS = (".mp4", ".gif", ".png")
STRIP = 6  # frames of a picture in .png
FPS = 30
Show = Callable[[np.ndarray], None]


class Recording(NamedTuple):
    """What was recorded."""

    path: Path | None  # None where nothing was written
    episodes: list[list[np.ndarray]]  # the frames of each episode
    returns: np.ndarray  # [episodes, *agent_shape]


def video(
    run: str | Path,
    out: str | Path | None = None,
    episodes: int = 1,
    seed: int = 0,
    checkpoint: str | int = "latest",
    seed_index: int = 0,
    fps: int = FPS,
) -> Recording:
    """Plays episodes of a run's greedy policy and writes them as .mp4, .gif or .png.

    Their returns are those of `parl.evaluate` with as many episodes and this seed; in games of
    sides the policy plays the first. A .png is a strip of STRIP frames of the first episode. Raises
    EnvError where the environment gives no pictures.
    """
    if out is not None and Path(out).suffix not in FORMATS:
        raise ConfigError(f"--out {out} must end in one of {', '.join(FORMATS)}.")
    player = player_of(run, episodes, checkpoint, seed_index)
    frames, returns = played(player, seed, episodes)
    path = None if out is None else write(Path(out), frames, fps)
    return Recording(path, frames, returns)


def watch(
    run: str | Path,
    show: Show,
    episodes: int = 1,
    seed: int = 0,
    checkpoint: str | int = "latest",
    seed_index: int = 0,
) -> Iterator[Recording]:
    """Plays episodes one after the other, each with a seed of its own, and shows every frame.

    Yields each of them once it is over, as `record` of one episode with its seed has it.
    """
    player = player_of(run, 1, checkpoint, seed_index)
    for i in range(episodes):
        yield Recording(None, *played(player, seed + i, 1, show))


class Player(NamedTuple):
    """A policy, and how its episodes are played."""

    evaluator: Evaluator
    policy: Any
    seed_index: int


def player_of(run: str | Path, episodes: int, checkpoint: str | int, seed_index: int) -> Player:
    """The greedy policy of a run, in its environment with pictures."""
    directory = RunDir(run)
    with_frames = rendering(directory.config().env)
    parts, state = load_state(directory, with_frames, None, checkpoint)
    taken = run_seeds(parts.config).take(state.algorithm_state, seed_index)
    rules = Rules(log_info=())
    evaluator = make_evaluator(parts, parts.learner.algorithm, episodes, rules)
    policy = parts.learner.algorithm.policy(taken)
    if isinstance(evaluator, Contest):
        policy = MatchPolicy(policy, evaluator.opponent.policy, np.int32(0))
        evaluator = evaluator.evaluator
    return Player(evaluator, policy, seed_index)


def rendering(env: str) -> Any:
    """The factory of an environment, asked for pictures if it takes a `render_mode`."""
    factory = make_factory(env)
    if factory.jax is not None:
        return factory
    try:
        return make_factory(with_arguments(env, ["render_mode=rgb_array"]))
    except ParlError:
        return factory  # it takes no such argument, and may give pictures without it


def played(
    player: Player, seed: int, episodes: int, show: Show = lambda frame: None
) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """(the frames of each episode, returns [episodes, ...]); `show` is called with every frame."""
    evaluator, policy, seed_index = player
    number = env_seed(seed + seed_index, EVALUATION, 0)
    if evaluator.factory.jax is not None:
        return played_in_jax(evaluator.factory.jax, evaluator, policy, number, episodes, show)
    return played_on_host(evaluator.factory, evaluator.host, policy, number, episodes, show)


def played_on_host(
    factory: EnvFactory, player: HostPlayer, policy: Any, number: int, episodes: int, show: Show
) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Episodes one after the other in an environment each, as the evaluator has them."""
    from parl.envs.adapters.frames import watched
    from parl.envs.adapters.gymnasium import GymnasiumVectorEnv

    env = factory.vector(episodes, number, 0)
    try:
        if not isinstance(env, GymnasiumVectorEnv):
            raise EnvError(f"{factory.spec.id} is a vector environment, which gives no pictures.")
        seen = watched(env, show)
        games = player(env, policy, episodes, jax.random.key(number))
        return [each.episodes[0] for each in seen], games.returns
    finally:
        env.close()


def played_in_jax(
    env: JaxEnv, evaluator: Evaluator, policy: Any, number: int, episodes: int, show: Show
) -> tuple[list[list[np.ndarray]], np.ndarray]:
    """Episodes side by side, one step a call, drawn by the environment."""
    player = evaluator.fused
    assert player is not None
    key, data = jax.random.key(number), as_data(player.algorithm)
    start, go_on = board_programs(env, episodes, False, jax.tree.structure(data))
    board = start(data, key, episodes)
    frames: list[list[np.ndarray]] = [[] for _ in range(episodes)]

    def look(state: Any, i: int) -> None:
        frames[i].append(drawn(env, jax.tree.map(lambda x: x[i], state)))
        show(frames[i][-1])

    for i in range(episodes):
        look(jax.device_get(board.env), i)
    for step in range(player.limit):
        before = jax.device_get(board.over)
        board = go_on(data, policy, board, key, step + 1)
        state = jax.device_get(board.env)
        for i in np.flatnonzero(~before).tolist():
            look(state, i)
        if bool(board.over.all()):
            break
    return frames, player.returns(board)[:episodes]


def drawn(env: JaxEnv, state: Any) -> np.ndarray:
    """The picture of a state. Raises EnvError where the environment draws none."""
    frame = picture_of(env, jax.device_get(state))
    if frame is None:
        raise EnvError(
            f"{env.spec.id} cannot be drawn: give it a method draw(state) -> uint8 [H, W, 3]."
        )
    return frame


# --- files --------------------------------------------------------------------------------------


def write(path: Path, episodes: Sequence[Sequence[np.ndarray]], fps: int) -> Path:
    """Writes frames one episode after the other; returns the path. Raises ParlError."""
    frames = [frame for episode in episodes for frame in episode]
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.suffix == ".mp4":
            write_mp4(path, frames, fps)
        elif path.suffix == ".gif":
            write_gif(path, frames, fps)
        else:
            image(np.concatenate(strip(episodes[0]), 1)).save(path)
    return path


def image(frame: np.ndarray) -> Any:
    """A picture of Pillow's."""
    from PIL import Image

    return Image.fromarray(frame)


def strip(frames: Sequence[np.ndarray]) -> list[np.ndarray]:
    """STRIP frames of an episode, from its start to its end."""
    places = np.linspace(0, len(frames) - 1, min(STRIP, len(frames))).round().astype(int)
    return [frames[place] for place in places]


def write_gif(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    """Writes an animation that plays again and again; equal frames in a row become one."""
    first, *rest = (image(frame) for frame in frames)
    duration = max(20, 1000 // fps)  # milliseconds; viewers slow down what is faster
    first.save(path, save_all=True, append_images=rest, duration=duration, loop=0)


def write_mp4(path: Path, frames: Sequence[np.ndarray], fps: int) -> None:
    """Writes a video by ffmpeg. Raises MissingPackage."""
    try:
        import imageio_ffmpeg  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise MissingPackage(
            "a video needs ffmpeg: pip install imageio-ffmpeg, or --out x.gif."
        ) from error
    height, width = (size - size % 2 for size in frames[0].shape[:2])  # as its codec asks for
    writer = imageio_ffmpeg.write_frames(
        str(path), (width, height), fps=fps, macro_block_size=2, output_params=["-v", "error"]
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)  # JAX's, that a process is started
        writer.send(None)
        for frame in frames:
            writer.send(np.ascontiguousarray(frame[:height, :width]))
        writer.close()
