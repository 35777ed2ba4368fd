"""The settings of a run, as stored in config.json."""

import dataclasses
import importlib.metadata
import platform
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from parl.core.errors import ConfigError
from parl.core.settings import check_fields, declared
from parl.core.sharding import Averaging

EXECUTIONS = ("auto", "fused", "host", "ray")
SEEDS_AS = ("auto", "vmap", "map")
MODES = ("auto", "sync", "async")
REPLAYS = ("auto", "yes", "no")


@dataclass(frozen=True, kw_only=True)
class RunSettings:
    """Settings of a run with any algorithm, as flags, keywords or in config.json.

    Raises ConfigError for a value of the wrong type or out of bounds.
    """

    steps: int = declared(100_000, low=0)
    """Environment steps of each seed; with --data, updates on the data before any step online."""
    seed: int = declared(0, low=0)
    """The first seed; --num-seeds K runs seed, ..., seed + K - 1."""
    num_seeds: int = declared(1, low=1, high=100_000)
    """Seeds trained together in one program."""
    data: str = ""
    """Data set to learn from in place of an environment: a directory that 'parl record' wrote, one
    of Minari or Gymnasium-Robotics, or a file in D4RL's layout. --env then only evaluates."""
    online_steps: int = declared(0, low=0)
    """Environment steps of each seed after the --steps updates on --data."""
    data_share: float = declared(0.5, low=0.0, high=1.0)
    """Share of each batch that is of --data during --online-steps."""
    teacher: str = ""
    """Run whose policy dagger imitates, on the same environment."""
    teacher_checkpoint: str = "latest"
    """Whose policy of that run: latest, best, or the environment steps of a checkpoint."""
    init_from: str = ""
    """Run whose networks a new run starts from, of any algorithm: leaves of equal names and shapes
    are taken, and those that do not fit are named. Optimisers and replay begin anew."""
    init_checkpoint: str = "latest"
    """Which networks of that run: latest, best, or the environment steps of a checkpoint."""
    record: str = ""
    """Directory for a data set of all that training collects; for host execution and --actors."""
    randomize: tuple[str, ...] = ()
    """Parameters of the environment to draw anew for each episode, as NAME=LOW:HIGH, such as
    length=0.4:0.6; with --clients once for each client. Repeat for more. Evaluation draws them,
    too, unless --eval-env names another environment."""
    clients: int = declared(0, low=0, high=10_000_000)
    """Federated learning in simulation: clients that learn in environments of their own, each from
    a seed of its own, and are averaged. --steps are then those of a client that always takes part.
    0: none."""
    participate: float = declared(1.0, low=0, above=True, high=1.0)
    """Share of the --clients that takes part in a round."""
    average_every: int = declared(1, low=1, high=1_000_000)
    """Updates of each of the --clients between two averages: a round."""
    proximal: float = declared(0.0, low=0)
    """FedProx's mu, which holds --clients near the average; 0: FedAvg."""
    drop_out: float = declared(0.0, low=0, high=1.0)
    """Share of the clients of a round that send nothing."""
    straggle: float = declared(0.0, low=0, high=1.0)
    """Share of the clients of a round that send what they have before its last update."""
    clients_at_once: int = declared(1024, low=1, high=1_000_000)
    """Most --clients computed together, which bounds memory."""
    seeds_as: str = declared("auto", choices=SEEDS_AS)
    """How several seeds are updated: vmap, together; map, one by one, faster on a CPU if the
    joint batch outgrows its caches; auto: chosen by algorithm and device."""
    execution: str = declared("auto", choices=EXECUTIONS)
    """auto, fused (JAX environments), host, or ray."""
    actors: int = declared(0, low=0, high=100_000)
    """Ray rollout actors; 0 for none. MIN:MAX, such as 8:64, asks for MAX, begins with MIN and is
    content with them: others join when the cluster has room, and may leave."""
    min_actors: int = declared(0, low=0, high=100_000)
    """The MIN of --actors MIN:MAX; by default 1 in async mode. In sync mode all are needed."""
    learners: int = declared(1, low=1, high=10_000)
    """Learners, each with its share of the rollout actors: actors of Ray whose JAX works as one."""
    learner_gpus: int = declared(0, low=0, high=64)
    """GPUs of each learner, as Ray assigns them; 0: learners compute on CPUs."""
    sync: str = "step"
    """What several learners average: step, the gradient of every optimiser step, with the result of
    one learner on as many devices; update, the parameters after every update, or R, after every R
    updates, each learner from its own share of the batch until then."""
    flat_gradients: bool = False
    """With sync step: every learner computes the gradient of its own share of the batch, and one
    buffer with all of it is averaged per optimiser step, in place of one for each array."""
    mode: str = declared("auto", choices=MODES)
    """sync: every rollout uses the newest policy, and results are reproducible; async: learn from
    fragments as they arrive, possibly from older policies. auto: async for impala and appo, else
    sync."""
    max_policy_lag: int | None = declared(None, low=0)
    """Drop asynchronous rollouts whose policy is more than this many versions old."""
    replay_shards: int | None = declared(None, low=1, high=1_000)
    """Ray actors that hold replay together, each a share of --capacity in its memory. Rollout
    actors write to them; batches are drawn from all as from one replay, 32 or more in a call. For
    off-policy algorithms, asynchronously with --actors, which then explore unlike each other."""
    env_workers: int = declared(0, low=0, high=1_024)
    """Local processes that step the environments of host execution, if these are slow; 0: the
    run's own process. Results are the same."""
    address: str = "local"
    """Ray cluster: local (one of its own), auto (the one of this machine), or HOST:PORT."""
    worker_env: tuple[str, ...] = ()
    """Variables for the rollout actors' processes, as KEY=VALUE; repeat for more. The others are
    those that their node was started with."""
    worker_files: tuple[str, ...] = ()
    """Files, folders and globs below the current directory that go along to the rollout actors,
    which run in a directory with copies of these alone; their modules are found there."""
    deadline: float | None = declared(None, low=0.1, high=1e6)
    """Seconds without a step of any environment after which a rollout actor or environment worker
    counts as hung; by default ten times the longest so far, at least 30."""
    chaos: str = ""
    """Faults to inject, with probabilities per rollout:
    kill=0.01,hang=0.001,raise=0.01,slow=0.01,nan=0.01,seed=3.
    """
    eval_every: int = declared(0, low=0)
    """Environment steps between greedy evaluations; 0 for a tenth of the run."""
    eval_episodes: int | None = declared(None, low=0, high=1_000_000)
    """Episodes of one evaluation, 0 for none; by default at most 20, limited to a tenth of the
    run's environment steps."""
    eval_max_steps: int | None = declared(None, low=1)
    """Steps after which an evaluation episode is cut; by default the environment's time limit, or
    without one a tenth of the run's steps, between 1,000 and 10,000."""
    eval_env: str = ""
    """Environment for evaluation: an id with the same spaces; train: the training environments,
    which then start new episodes; none: no evaluation, training returns decide which policy is
    best. By default separate environments of the same kind."""
    log_info: str = ""
    """Numbers of the environment's info to log, such as success,score: the last of each episode."""
    absolute_episodes: int | None = declared(None, low=0, high=1_000_000)
    """Episodes of the best policy at the end; by default ten times those of an evaluation with
    several agents, else 0."""
    checkpoint_every: int = declared(0, low=0)
    """Environment steps between checkpoints; 0 for one at every evaluation."""
    keep: int = declared(3, low=1)
    """Number of latest checkpoints to keep, in addition to the best."""
    checkpoint_replay: str = declared("auto", choices=REPLAYS)
    """Whether checkpoints hold replay: yes, no, or auto, which keeps replay above 1 GB only in the
    newest checkpoint. Above 1 GB a save writes only the changes. A run resumed without replay
    refills it first and is not bit-exact."""
    opponent: str = ""
    """Opponent in games: random, self, pool (past policies of the run), the directory of another
    run on the same environment, or module:attribute for your own."""
    pool_size: int = declared(16, low=1, high=100_000)
    """Policies in the opponent pool."""
    admit_every: int = declared(0, low=0)
    """Environment steps between admissions to the pool; 0 for a fiftieth of the run."""
    stop_at: float | None = None
    """End the run once the return of an evaluation, the mean over seeds, reaches this."""
    max_hours: float | None = declared(None, low=0, above=True)
    """End the run after this many hours, counted from the start or resume; it can be resumed."""
    log: tuple[str, ...] = ()
    """Where each line of metrics goes, too: wandb, mlflow, trackio, csv, or module:function, which
    is called with it as a dict. Repeat for more."""
    metrics_port: int | None = declared(None, low=1, high=65_535)
    """Port on 127.0.0.1 where the newest line of metrics is given to Prometheus, at /metrics."""
    profile: str = ""
    """Iterations to trace with JAX's profiler, FIRST:LAST without the last, such as 10:13; the
    traces go to profile/ in the run's directory."""
    profile_worker: int | None = declared(None, low=0)
    """With --profile, a rollout actor whose fragments of these iterations' policies are traced."""
    on_start: str = ""
    """Function as module:function, called before the first step with a dict of path, env_steps and
    config. This hook and those below may end the run or change its environments."""
    on_record: str = ""
    """Like on_start: called with each line of metrics."""
    on_evaluation: str = ""
    """Like on_start: called after each evaluation with env_steps and its results."""
    on_checkpoint: str = ""
    """Like on_start: called after each checkpoint with env_steps and path."""
    on_end: str = ""
    """Like on_start: called after the last step with the content of result.json."""
    eager: bool = False
    """Run without compilation, for debugging."""

    def __post_init__(self) -> None:
        if isinstance(self.actors, str):
            least, most = spread(self.actors)
            object.__setattr__(self, "min_actors", least)
            object.__setattr__(self, "actors", most)
        check_fields(self)


def spread(text: str) -> tuple[int, int]:
    """The least and the most of `actors` as MIN:MAX. Raises ConfigError."""
    least, _, most = text.partition(":")
    if not (least.isdecimal() and most.isdecimal() and 1 <= int(least) <= int(most)):
        raise ConfigError(f"actors is a number, or MIN:MAX such as 8:64, not '{text}'.")
    return int(least), int(most)


RUN_FIELDS = frozenset(f.name for f in dataclasses.fields(RunSettings))
# what learning does not depend on, and what a copy of a checkpoint need not tell
BESIDE_LEARNING = frozenset(
    ["address", "checkpoint_replay", "keep", "log", "metrics_port", "profile", "profile_worker"]
) | {"record", "run_id", "store", "worker_env", "worker_files"}


@dataclass(frozen=True)
class RunConfig(RunSettings):
    """A resolved run: everything needed to resume it."""

    algorithm: str
    env: str
    settings: dict[str, Any] = field(default_factory=dict)  # the recipe's, by flat name
    schedule_steps: int = declared(0, low=0)  # environment steps that schedules span
    schedule_from: int = declared(0, low=0)  # step at which they began; 0 unless restarted
    spec: dict[str, Any] = field(default_factory=dict)  # of the environment, see core/spec_json.py
    data_steps: int = declared(0, low=0)  # updates on the data, before steps online
    store: str = ""  # URI of the store that the run is copied to
    without_env: bool = False  # whether the environment is known by its data only
    own_env: bool = False  # whether `env` only names an object of the user
    run_id: str = ""
    versions: dict[str, str] = field(default_factory=dict)

    def check(self) -> None:
        """Raises ConfigError for incompatible values."""
        if self.execution == "ray" and not self.actors:
            raise ConfigError("execution ray needs rollout actors: add --actors 2.")
        if self.actors and self.execution in ("fused", "host"):
            raise ConfigError(
                f"{self.execution} execution has no rollout actors: leave out one of the two."
            )
        if self.actors and self.env_workers:
            raise ConfigError("rollout actors step environments themselves: drop env_workers.")
        if self.actors and self.num_seeds > 1:
            raise ConfigError("Ray actors serve one seed: run --num-seeds without --actors.")
        if self.min_actors > self.actors > 0:
            raise ConfigError(f"{self.min_actors} min_actors are more than {self.actors} actors.")
        if self.profile_worker is not None and not self.profile:
            raise ConfigError("profile_worker needs the iterations to trace: add --profile 10:13.")
        profiled(self.profile)
        self.check_clients()
        self.check_actors()
        self.check_learners()
        self.check_shards()

    def check_shards(self) -> None:
        """Raises ConfigError for settings that do not go together with a replay in shards."""
        if self.replay_shards is None:
            return
        if self.mode == "sync":
            raise ConfigError("replay_shards are for asynchronous runs: leave out mode sync.")
        if self.learners > 1:
            raise ConfigError("replay_shards serve one learner: leave them out, or --learners.")
        if self.checkpoint_replay == "yes":
            raise ConfigError(
                "a replay in shards is in no checkpoint: leave out checkpoint_replay yes."
            )
        for name in ("data", "record", "teacher", "opponent"):
            if getattr(self, name):
                raise ConfigError(f"{name} is for a replay in one process: drop replay_shards.")

    def check_learners(self) -> None:
        """Raises ConfigError for settings of several learners that do not go together."""
        self.averaging  # noqa: B018  raises
        if self.learners == 1:
            for name in ("learner_gpus", "sync", "flat_gradients"):
                if getattr(self, name) != getattr(RunSettings, name):
                    raise ConfigError(f"{name} is for several learners: add --learners 2.")
            return
        for name in ("data", "record", "teacher", "opponent", "eager", "min_actors"):
            if getattr(self, name):
                raise ConfigError(f"{name} is for one learner: leave it out, or --learners.")
        if self.actors % self.learners:
            raise ConfigError(
                f"{self.actors} actors do not divide among {self.learners} learners; try --actors "
                f"{-(-self.actors // self.learners) * self.learners}."
            )

    @property
    def averaging(self) -> Averaging | None:
        """How learners are kept together; None where XLA does that. Raises ConfigError."""
        if self.sync == "step":
            return Averaging(gradients=True) if self.flat_gradients else None
        if self.flat_gradients:
            raise ConfigError("flat_gradients is for sync step: nothing else sums gradients.")
        updates = "1" if self.sync == "update" else self.sync
        if not (updates.isascii() and updates.isdigit() and int(updates)):
            raise ConfigError(
                f"sync is step, update, or a number of updates from 1 on, not {self.sync!r}."
            )
        return Averaging(int(updates))

    def check_clients(self) -> None:
        """Raises ConfigError for settings of clients without clients, or beside seeds."""
        fields = {f.name: f.default for f in dataclasses.fields(RunSettings)}
        names = ("participate", "average_every", "proximal", "drop_out", "straggle")
        said = [name for name in names if getattr(self, name) != fields[name]]
        if said and not self.clients:
            raise ConfigError(f"{said[0]} is for federated clients: add --clients 100.")
        if self.clients and self.num_seeds > 1:
            raise ConfigError("clients are seeds already: run --clients without --num-seeds.")
        if self.clients and self.mode == "async":
            raise ConfigError("clients take part in rounds: run --clients with --mode sync.")
        if self.straggle and self.average_every == 1:
            raise ConfigError("straggle needs rounds of several updates: add --average-every 2.")

    def check_actors(self) -> None:
        """Raises ConfigError for settings of rollout actors without actors."""
        said = {
            "mode async": self.mode == "async",
            f"address {self.address}": self.address != "local",
            f"chaos {self.chaos}": bool(self.chaos),
            f"max_policy_lag {self.max_policy_lag}": self.max_policy_lag is not None,
            f"profile_worker {self.profile_worker}": self.profile_worker is not None,
            f"min_actors {self.min_actors}": self.min_actors > 0,
            f"worker_env {' '.join(self.worker_env)}": bool(self.worker_env),
            f"worker_files {' '.join(self.worker_files)}": bool(self.worker_files),
            f"deadline {self.deadline}": self.deadline is not None and not self.env_workers,
            f"learners {self.learners}": self.learners > 1,
            f"replay_shards {self.replay_shards}": self.replay_shards is not None,
        }
        for what, is_said in said.items():
            if is_said and not self.actors:
                raise ConfigError(f"{what} is for rollout actors: add --actors 2.")
        if self.chaos:
            from parl.remote.chaos import parse  # only now: it loads Ray

            parse(self.chaos)

    def told(self) -> dict[str, Any]:
        """All settings in one flat dict, including the recipe's, for people to read."""
        flat = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return {k: x for k, x in flat.items() if not isinstance(x, dict)} | self.settings

    def learned(self) -> dict[str, Any]:
        """As `told`, without what only says where a run stands and what is told of it."""
        return {name: x for name, x in self.told().items() if name not in BESIDE_LEARNING}

    @property
    def workers(self) -> int:
        """Who shares the environments: rollout actors, or this process; clients have their own."""
        return 1 if self.clients else max(self.actors, 1)

    @property
    def info_names(self) -> tuple[str, ...]:
        """The numbers of `info` to log."""
        return tuple(name.strip() for name in self.log_info.split(",") if name.strip())

    @property
    def seeds(self) -> tuple[int, ...]:
        """The seed of each run."""
        return tuple(range(self.seed, self.seed + self.num_seeds))


def profiled(text: str) -> range:
    """The iterations that `profile` names. Raises ConfigError."""
    first, _, end = text.partition(":")
    if not text:
        return range(0)
    if not (first.isdecimal() and end.isdecimal() and int(first) < int(end)):
        raise ConfigError(f"profile names iterations as FIRST:LAST, such as 10:13, not '{text}'.")
    return range(int(first), int(end))


def from_dict(values: Any) -> RunConfig:
    """The config from the content of config.json. Raises ConfigError if it is invalid."""
    if not isinstance(values, Mapping):
        raise ConfigError(f"config.json must hold an object, not a {type(values).__name__}.")
    known = {f.name for f in dataclasses.fields(RunConfig)}
    if odd := sorted(values.keys() - known):
        raise ConfigError(f"config.json has the unknown key '{odd[0]}'.")
    if missing := sorted({"algorithm", "env"} - values.keys()):
        raise ConfigError(f"config.json is incomplete: it has no '{missing[0]}'.")
    return RunConfig(**values)


def new_run_id() -> str:
    """A unique id that ties checkpoints to their run."""
    return uuid.uuid4().hex


def versions() -> dict[str, str]:
    """Versions of the packages that results depend on."""
    packages = ("parl-jax", "jax", "jaxlib", "flax", "optax", "numpy", "gymnasium")
    found = {}
    for name in packages:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "unknown"
    return found | {"python": platform.python_version()}
