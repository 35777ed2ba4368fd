"""Several learners as one execution: every rank is an actor, and this side alone decides.

The ranks meet in collectives, in which one that is stuck holds up all for ever. So nothing is
decided there: each order goes to all ranks at once, and where one dies or none gives a sign of life
within the deadline, all are ended and new ones begin at the last checkpoint. They repeat the orders
since then, so that whoever drives the run need not know: where workers continue exactly, all
numbers are the same.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

from parl.agents.execution.ended import nothing, total
from parl.agents.execution.protocol import (
    Devices,
    Discarded,
    Report,
    Seeds,
    Snapshot,
    updates_of,
    warmup_iterations,
)
from parl.agents.learner import Learner, LearnerState
from parl.core.checkpoint import Checkpoint
from parl.core.errors import CheckpointError, ConfigError, RemoteError
from parl.core.types import Rollout
from parl.envs.protocol import VectorEnv
from parl.envs.pulse import DEATHS
from parl.remote.rank import MakeExecution, Told
from parl.remote.ranks import RankLost, Ranks
from parl.remote.shares import stats_of_all, together

CHANGING = ("advance", "change", "set_state")  # orders that new ranks repeat
ITERATION = "run/iteration"  # the entry of a checkpoint


class Order(NamedTuple):
    """What all ranks were told to do."""

    iteration: int  # when
    name: str
    arguments: tuple[Any, ...]


class Group:
    """Learners that run one execution together; see `Execution`.

    `make(rank)` makes a rank's part in its process, a Pooled with its share of the workers, whose
    iterations have `steps` environment steps of all ranks; `rounds` of them are one here. `latest`
    gives the run's newest checkpoint, if there is one; `warn` is told what was lost.
    """

    def __init__(
        self,
        ranks: Ranks,
        make: MakeExecution,
        learner: Learner,
        seeds: Seeds,
        steps: int,
        rounds: int = 1,
        latest: Callable[[], Checkpoint | None] = lambda: None,
        warn: Callable[[str], None] = lambda text: None,
    ):
        self.ranks, self.make, self.latest, self.warn = ranks, make, latest, warn
        self.learner, self.seeds, self.steps, self.rounds = learner, seeds, steps, rounds
        self.mesh: Any = None  # its devices are the ranks'
        self.steps_per_iteration = rounds * steps
        self.warmup = -(-warmup_iterations(learner, steps) // rounds)
        self.iteration, self.restarts, self.deaths = 0, 0, 0
        self.base: Checkpoint | None = None  # that the run was resumed from
        self.done: list[Order] = []  # those that changed something
        self.told = Told(Report({}, nothing()), (0, 0), {})
        try:
            self.begin()
        except BaseException:
            self.close()
            raise

    # --- orders -------------------------------------------------------------------------------

    def advance(self, iterations: int) -> Report:
        answers: list[Told] = self.order("advance", iterations * self.rounds)
        self.iteration, self.deaths = self.iteration + iterations, 0
        first = answers[0]
        self.ranks.warm = self.ranks.warm or bool(first.report.metrics)
        ended = total([told.report.ended for told in answers])
        self.told = Told(
            first.report._replace(ended=ended),
            first.discarded,
            stats_of_all([told.stats for told in answers]),
        )
        return self.told.report

    @property
    def policy(self) -> Any:
        return self.order("policy")[0]

    @property
    def state(self) -> LearnerState:
        """The learner's state, without the rows of replay."""
        return self.order("state")[0]

    def set_state(self, state: LearnerState) -> None:
        self.order("set_state", state)

    @property
    def algorithm_state(self) -> Any:
        return self.state.algorithm_state

    def change(self, parameters: Mapping[str, Any]) -> None:
        self.order("change", dict(parameters))

    def snapshot(self, replay: bool = True) -> Snapshot:
        return together(self.order("snapshot", replay))

    def restore(self, checkpoint: Checkpoint) -> None:
        iteration = int(checkpoint.arrays[ITERATION])
        if iteration % self.rounds:
            raise CheckpointError(
                f"{checkpoint.path} lies between two averages of the parameters; go on from it "
                "with the --sync that it was saved with."
            )
        self.done = [order for order in self.done if order.name == "change"][-1:]
        self.order("restore", checkpoint)
        self.base, self.iteration = checkpoint, iteration // self.rounds

    def order(self, name: str, *arguments: Any) -> list[Any]:
        """Every rank's answer, in their order; where one was lost, those of new ranks."""
        while True:
            try:
                answers = self.ranks.ask(name, *arguments)
                break
            except RankLost as lost:
                self.recover(str(lost))
        if name in CHANGING:
            self.done.append(Order(self.iteration, name, arguments))
        return answers

    # --- recovery -----------------------------------------------------------------------------

    def begin(self) -> None:
        """Starts the ranks, again where one is lost on the way."""
        while True:
            try:
                return self.ranks.start(self.make)
            except RankLost as lost:
                self.count(str(lost))

    def recover(self, reason: str) -> None:
        """Ends all ranks and brings new ones to where the last ones were."""
        self.count(reason)
        found = self.latest()
        if found is None or int(found.arrays[ITERATION]) > self.iteration * self.rounds:
            found = self.base
        at = 0 if found is None else int(found.arrays[ITERATION]) // self.rounds
        self.begin()
        try:
            changes = [x for x in self.done if x.name == "change" and x.iteration <= at]
            for order in changes[-1:]:  # the form of what was saved
                self.ranks.ask("change", *order.arguments)
            if found is not None:
                self.ranks.ask("restore", found)
            for order in self.done:
                if order.iteration >= at:
                    self.ranks.ask(order.name, *order.arguments)
        except RankLost as lost:
            self.recover(str(lost))

    def count(self, reason: str) -> None:
        """Ends what is left of the ranks. Raises RemoteError where that comes again and again."""
        self.ranks.end()
        self.restarts, self.deaths = self.restarts + 1, self.deaths + 1
        if self.deaths > DEATHS:
            raise RemoteError(f"the learners were lost {self.deaths} times in a row: {reason}.")
        self.warn(f"{reason}; all learners start again from the last checkpoint")

    # --- what needs no order ----------------------------------------------------------------------

    @property
    def discarded(self) -> Discarded:
        return Discarded(*self.told.discarded)

    @property
    def devices(self) -> Devices:
        return Devices(self.ranks.kind, self.ranks.count * max(self.ranks.gpus, 1))

    def updates_since(self, iteration: int) -> int:
        begin = max(iteration * self.rounds, warmup_iterations(self.learner, self.steps))
        return updates_of(self.learner, self.iteration * self.rounds - begin)

    def stats(self) -> dict[str, float]:
        pools = {f"pool/{name}": value for name, value in self.told.stats.items()}
        return pools | {"learners": self.ranks.count, "learner_restarts": self.restarts}

    def keep(self, take: Callable[[Rollout, int], None]) -> None:
        raise ConfigError("rollouts of several learners are not recorded: leave out --record.")

    def lend(self) -> Sequence[VectorEnv] | None:
        """Rollout workers do not lend their environments."""

    def restart(self) -> None:
        """Nothing was lent."""

    def heed(self, stopped: Callable[[], bool]) -> None:
        """An order under way is not broken off: all ranks would have to do so at one point."""

    def close(self) -> None:
        self.ranks.close()
