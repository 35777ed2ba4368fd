"""What leaves a run: exports, data sets, smaller networks, submissions."""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parl.api.loading import load
from parl.api.training import Run, train
from parl.core.errors import ArtefactError, ConfigError
from parl.core.settings import Setting, checked, path_of
from parl.core.store import place_of, uri_of
from parl.face import Agent
from parl.runs.directory import RunDir
from parl.runs.fetch import run_path
from parl.runs.preparation import prepare

if TYPE_CHECKING:
    from parl.deploy.artefact import Artefact
    from parl.deploy.submit.submission import Submission
    from parl.runs.record import Recorded


def export(
    run_or_agent: Any,
    out: str | Path | None = None,
    to: Any = ("numpy",),
    checkpoint: str | int = "latest",
    seed_index: int = 0,
    agent: str | None = None,
    sample: bool = False,
    weights: str = "float32",
    episodes: int = 10,
    env: Any = None,
    algorithm: Any = None,
) -> "Artefact":
    """Writes the policy of a run, or of an Agent, as files that act without PARL and JAX.

    `to` are forms: numpy (always), onnx, stablehlo, tflite, c, js, web, or all. `out` is the
    directory, as it stands policy/ in the run's own. `agent` exports one of several agents alone,
    `sample` also the drawing of actions. `weights` float16, int8 or int4 take less room and act a
    little otherwise. Every form is compared with JAX on observations of real episodes and
    adversarial ones, and on the returns of `episodes`; what differs is in `failures`. `checkpoint`,
    `seed_index`, `env` and `algorithm` are as in `load`. Raises a ParlError with one sentence for
    whatever does not fit.
    """
    from parl.deploy import artefact, origin  # only now: most do not export

    prepare()
    if isinstance(run_or_agent, Agent):
        actor, told = run_or_agent, origin.of_agent(run_or_agent)
        place = Path("policy")
        played = env if env is not None else actor.config and actor.config["env"]
    else:
        place, is_here = run_path(run_or_agent), not uri_of(run_or_agent)
        actor = load(place, seed_index, env, algorithm, checkpoint)
        is_run = (place / "config.json").exists()
        told = origin.of_run(place, checkpoint, seed_index) if is_run else origin.of_agent(actor)
        played = env if env is not None else actor.config and actor.config["env"]
        place = place / "policy" if is_run and is_here else Path("policy")
    source = artefact.Source(
        actor.algorithm, actor.weights, actor.spec, origin.environment(played, actor.spec), told
    )
    forms = (to,) if isinstance(to, str) else tuple(to)
    settings = artefact.Settings(forms, agent, sample, weights, episodes)
    return artefact.export(source, place if out is None else out, settings)


def record(
    run: str | Path,
    out: str | Path,
    episodes: int | None = None,
    steps: int | None = None,
    sample: bool = False,
    seed: int = 0,
    checkpoint: str | int = "latest",
    seed_index: int = 0,
    env: Any = None,
    algorithm: Any = None,
    expert: float | None = None,
    actors: int = 0,
    address: str = "local",
) -> "Recorded":
    """Plays a run's policy and writes what it does as a data set into `out`, in Minari's layout.

    Either so many whole `episodes`, or exactly so many `steps`, of which the last episode is then
    cut. Actions are the likeliest, or drawn with `sample`. `expert` is the return that counts as
    100 in normalised scores. A recording that was broken off is continued. With `actors` so many
    processes of the Ray cluster at `address` play; the data set is the same. `checkpoint`,
    `seed_index`, `env` and `algorithm` are as in `load`. Raises a ParlError with one sentence for
    whatever does not fit.
    """
    from parl.runs import record as recording  # only now: most record nothing

    episodes = checked("episodes", episodes, int | None, Setting(low=1))
    steps = checked("steps", steps, int | None, Setting(low=1))
    seed = checked("seed", seed, int, Setting(low=0))
    seed_index = checked("seed_index", seed_index, int, Setting(low=0))
    prepare()
    amount = recording.Amount(episodes, steps)
    source = recording.Source(run_path(run), checkpoint, seed_index, env, algorithm)
    workers = recording.Workers(checked("actors", actors, int, Setting(low=0)), address)
    return recording.record(source, path_of(out), amount, sample, seed, expert, workers)


# of the recipe of dagger: long rounds with many updates after each, and a rate that falls to 0
DISTILLING: dict[str, Any] = {
    "num_envs": 8,
    "updates": 1000,
    "batch_size": 512,
    "learning_rate": 2e-3,
    "anneal": True,
    "normalize_obs": True,
    "exploration": 0.1,
}


def distill(
    run: str | Path,
    hidden: Sequence[int] = (32, 32),
    rounds: int = 12,
    steps: int = 24_000,
    out: str | Path | None = None,
    checkpoint: str | int = "latest",
    episodes: int = 10,
    seed: int = 0,
    quiet: bool = False,
) -> Run:
    """Trains a smaller network to act as a run's policy does, which is a run of its own.

    That is `train("dagger", ..., teacher=run)`, of `rounds` with `steps` environment steps in all:
    the teacher acts in the first. Both policies then play `episodes`, with weights as they are and
    in int8: smaller.json in the new run holds sizes, durations and returns, see
    `parl.deploy.smaller.Row`.
    """
    from parl.deploy import origin, smaller  # only now: most do not distill
    from parl.deploy.artefact import Source

    prepare()
    config = RunDir(run).config()
    agents = load(run, checkpoint=checkpoint).spec.num_agents
    if agents:
        raise ConfigError(
            f"distill teaches one agent, and {config.env} has {agents}: "
            "parl export --weights int8 or int4 makes a team's policy smaller."
        )
    rounds = checked("rounds", rounds, int, Setting(low=1))
    steps = checked("steps", steps, int, Setting(low=1))
    length = max(round(steps / rounds / DISTILLING["num_envs"]), 1)
    a_round = length * DISTILLING["num_envs"]
    settings = DISTILLING | {"hidden": tuple(hidden), "length": length, "teacher_steps": a_round}
    done = train(
        "dagger",
        config.env,
        out,
        quiet,
        steps=rounds * a_round,
        seed=seed,
        teacher=place_of(run),
        teacher_checkpoint=str(checkpoint),
        **settings,
    )

    def source(place: str | Path, which: str | int) -> Source:
        actor = load(place, checkpoint=which)
        return Source(
            actor.algorithm,
            actor.weights,
            actor.spec,
            origin.environment(config.env, actor.spec),
            {},
        )

    places = {"teacher": source(run, checkpoint), "student": source(done.path, "latest")}
    rows = [
        smaller.measured(f"{who} {form}", found, form, episodes, seed + 1)
        for who, found in places.items()
        for form in ("float32", "int8")
    ]
    smaller.write(done.path, rows, {"teacher": place_of(run), "checkpoint": str(checkpoint)})
    return done


def submit(
    run_or_policy: str | Path,
    competition: str,
    out: str | Path | None = None,
    adapter: str | Path | None = None,
    python: str | Path | None = None,
    games: int = 20,
    recorded: str | Path | None = None,
    timeout: float = 600.0,
    **exporting: Any,
) -> "Submission":
    """Writes what a competition takes of an exported policy, or of a run, and tests it.

    `competition` is plain, kaggle:GAME, lux-s3, l2rpn, myochallenge or pokeagent; `adapter` is the
    user's module that maps its observations to the policy's and actions to its moves. The package
    runs in a sandbox of the interpreter `python`, in the real environment for `games` where that is
    installed there, else on observations that are `recorded` or the artefact's own. What is wrong
    is in `failures`, each with its name in front. `exporting` are settings of `export`. Nothing is
    uploaded.
    """
    from parl.deploy.contract import CONTRACT  # only now: most do not submit
    from parl.deploy.submit import submission

    place, is_here = run_path(run_or_policy), not uri_of(run_or_policy)
    optional = lambda path: None if path is None else path_of(path)
    settings = submission.Settings(
        optional(adapter), optional(python), optional(recorded), games, timeout
    )
    own = place / "submission" if is_here else Path("submission")
    target = own if out is None else path_of(out)
    if (place / CONTRACT).is_file():
        if odd := sorted(
            name for name, x in exporting.items() if x not in DEFAULTS.get(name, (None,))
        ):
            raise ConfigError(f"{place} is exported already: {odd[0]} is for a run.")
        return submission.submit(place, competition, target, settings)
    with tempfile.TemporaryDirectory(prefix="parl-submit-") as folder:
        made = export(place, Path(folder) / "policy", episodes=0, **exporting)
        if made.failures:
            raise ArtefactError(f"{place} cannot be submitted: {made.failures[0]}")
        return submission.submit(made.path, competition, target, settings)


DEFAULTS = {"weights": ("float32",), "checkpoint": ("latest",), "agent": (None,)}
