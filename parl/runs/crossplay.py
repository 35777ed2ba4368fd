"""Cross-play: the policies of runs against each other, as a table, JSON and a plot.

R runs. Row r plays column c. In symmetric games the row plays every side in turn; otherwise the row
plays the first side and the column all others.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from parl.core.errors import ConfigError
from parl.core.files import make_directory, write_json
from parl.core.loading import called
from parl.core.settings import Setting, checked
from parl.core.store import place_of
from parl.envs.factory import EnvFactory, make_factory, with_simulator
from parl.report.metrics import plain
from parl.report.plotting import heat_map, save
from parl.runs.build import load_player
from parl.runs.directory import RunDir
from parl.runs.evaluation import Contest, Player
from parl.runs.opponents import check, is_own, own_player
from parl.runs.preparation import prepare
from parl.runs.solvers import lossless, problems_of

Row = list[tuple[float, float | None]]  # mean return and win rate against each column


class Crossplay(NamedTuple):
    """Results of the rows' policies against those of the columns."""

    env: str
    names: list[str]  # [R]
    returns: np.ndarray  # [R, R] mean returns of the row's side
    win_rate: np.ndarray | None  # [R, R] games won by the row, a draw is 1/2; by turns only
    episodes: int  # of each pair
    lossless: np.ndarray | None = None  # [R] share of the row's moves that lose nothing, if known


def crossplay(
    runs: Sequence[Any],
    episodes: int = 100,
    seed: int = 0,
    sample: bool = False,
    actors: int = 0,
    address: str = "local",
    checkpoint: str = "latest",
    env: Any = None,
) -> Crossplay:
    """Plays the policies of runs on one environment against each other, the latest or the best.

    Policies are greedy unless `sample`. With `actors` the rows are distributed over that many Ray
    actors, of a new cluster or the one at `address`; results are the same. The runs may include the
    user's own players, as for `opponent` in `parl.train`. `env` is needed if the environment is the
    user's own object. In games with a perfect player, `lossless` are shares of good moves, see
    `parl.runs.solvers`. Raises ConfigError for fewer than two runs, runs of different environments,
    and games with a single side.
    """
    episodes = checked("episodes", episodes, int, Setting(low=1))
    seed = checked("seed", seed, int, Setting(low=0))
    actors = checked("actors", actors, int, Setting(low=0))
    if len(runs) < 2:
        raise ConfigError("crossplay needs at least two runs: parl crossplay RUN RUN.")
    envs = {str(run): RunDir(run).config().env for run in runs if is_directory(run)}
    if not envs:
        raise ConfigError("crossplay needs a run, which says what is played: parl crossplay RUN X.")
    first, name = next(iter(envs.items()))
    for run, other in envs.items():
        if other != name:
            raise ConfigError(
                f"runs of different environments cannot meet: {first} is on {name}, {run} on "
                f"{other}."
            )
    factory = with_simulator(make_factory(name if env is None else env))
    check("self", factory.spec)
    players = [place_of(run) if is_directory(run) else run for run in runs]
    job = players, name, env, episodes, seed, sample, checkpoint
    if actors:
        rows = rows_of_actors(job, min(actors, len(runs)), address)
    else:
        rows = list(map(RunsReferee(*job).row, range(len(runs))))
    shares = None
    if problems_of(factory.jax) is not None:
        shares = lossless(players_of(players, factory, name, env, checkpoint), factory.jax, sample)
    return Crossplay(name, names_of(runs), *matrices_of(rows), episodes, shares)


def rows_of_actors(job: tuple, actors: int, address: str) -> list[Row]:
    """All rows, distributed over Ray actors."""
    from parl.remote import connect, remote_class  # only now: it loads Ray

    connect(address, num_cpus=actors if address == "local" else None)
    remote = remote_class(RunsReferee, wait=False)
    referees = [remote(*job) for _ in range(actors)]
    rows = [referees[row % actors].row(row) for row in range(len(job[0]))]
    return [row.get() for row in rows]


def is_directory(player: Any) -> bool:
    """Whether a player is a run, not the user's own."""
    return isinstance(player, str | Path) and not is_own(str(player))


def kind_of(run: Any) -> Any:
    """A value that is equal for runs whose policies share one compiled program."""
    if not is_directory(run):
        return str(run)
    config = RunDir(run).config()
    return repr((config.algorithm, sorted(config.settings.items())))


def names_of(runs: Sequence[Any]) -> list[str]:
    """The last parts of the runs' paths, numbered if they are not unique."""
    name = lambda run: Path(run).resolve().name if is_directory(run) else called(run)
    names = [name(str(run) if isinstance(run, Path) else run) for run in runs]
    return [f"{n} {i}" if names.count(n) > 1 else n for i, n in enumerate(names, 1)]


class Referee:
    """Plays players against each other; those of one kind share their compiled programs."""

    def __init__(
        self,
        factory: EnvFactory,
        players: Sequence[Player],
        kinds: Sequence[Any],
        episodes: int,
        seed: int,
        sample: bool,
    ):
        self.factory, self.players, self.kinds = factory, players, kinds
        self.episodes, self.seed, self.sample = episodes, seed, sample
        self.contests: dict[Any, Contest] = {}

    def row(self, index: int) -> Row:
        """One player against each player, including itself."""
        return [self.play(index, column) for column in range(len(self.players))]

    def play(self, row: int, column: int) -> tuple[float, float | None]:
        """(mean return, win rate or None) of one player against another."""
        player, other = self.players[row], self.players[column]
        kinds = self.kinds[row], self.kinds[column]
        if kinds not in self.contests:
            only_first = len(set(self.factory.spec.groups)) > 1
            samples = self.sample, self.sample
            self.contests[kinds] = Contest(
                self.factory, player.algorithm, self.episodes, other, samples, only_first
            )
        contest = self.contests[kinds]
        games = contest(player.policy, self.seed, opponent=other.policy)
        found = contest.summary([games])
        return float(found.mean), None if found.scores is None else float(np.mean(found.scores))


class RunsReferee(Referee):
    """Plays the policies of runs; may run in another process."""

    def __init__(
        self,
        runs: Sequence[Any],
        name: str,
        env: Any,
        episodes: int,
        seed: int,
        sample: bool,
        checkpoint: str,
    ):
        prepare()
        factory = with_simulator(make_factory(name if env is None else env))
        players = players_of(runs, factory, name, env, checkpoint)
        kinds = [kind_of(run) for run in runs]
        super().__init__(factory, players, kinds, episodes, seed, sample)


def players_of(
    runs: Sequence[Any], factory: EnvFactory, name: str, env: Any, checkpoint: str
) -> list[Player]:
    """The policies of runs, and the user's own players."""
    player = lambda run: (
        load_player(run, name, env, checkpoint)
        if is_directory(run)
        else own_player(str(run) if isinstance(run, Path) else run, factory.spec)
    )
    return [player(run) for run in runs]


def matrices_of(rows: Sequence[Row]) -> tuple[np.ndarray, np.ndarray | None]:
    """(returns [R, R], win rates [R, R] or None) of the rows."""
    returns = np.array([[mean for mean, _ in row] for row in rows])
    wins = [[score for _, score in row] for row in rows]
    return returns, None if wins[0][0] is None else np.array(wins)


def write(result: Crossplay, out: Path) -> list[Path]:
    """Writes crossplay.json and crossplay.png into a directory; returns their paths."""
    make_directory(out)
    write_json(out / "crossplay.json", as_json(result))
    return [out / "crossplay.json", draw(result, out / "crossplay.png")]


def matrices(result: Crossplay) -> dict[str, np.ndarray]:
    """The matrices to show, by title."""
    shown = {"mean return of the row": result.returns}
    return shown if result.win_rate is None else shown | {"win rate of the row": result.win_rate}


def as_json(result: Crossplay) -> dict[str, Any]:
    """The result as JSON holds it."""
    return {name: x for name, x in plain(result._asdict()).items() if x is not None}


def draw(result: Crossplay, path: Path) -> Path:
    """Writes a heat map of the last matrix as PNG."""
    title, matrix = list(matrices(result).items())[-1]
    reach = max(float(np.abs(matrix).max()), 1e-6)
    limits = (0.0, 1.0) if result.win_rate is not None else (-reach, reach)
    figure = heat_map(matrix, result.names, f"{title}, {result.env}", "against", limits)
    return save(figure, path)
