"""The budget of evaluation episodes: a tenth of a run's environment steps.

Half of it is spent while training, as it is earned, and the rest at the end. It counts on episodes
that are as long as they were so far. Nothing here depends on the time that anything takes.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

from parl.agents.execution.ended import Ended
from parl.core.manifest import quantity

SHARE = 0.1  # of a run's environment steps
MOST = 20
SIZES = (MOST, 10, 5, 3, 2, 1)  # of an evaluation
FEWEST_AT_END = 5


@dataclass
class Budget:
    """What a run has spent, and how long its episodes are; of each seed on average."""

    limit: int  # steps of the longest episode there may be
    total: int  # environment steps of the whole run
    spent: float = 0.0  # steps of evaluation
    steps: float = 0.0  # of training episodes that ended, and how many these were
    episodes: float = 0.0
    newest: float = 0.0  # mean length in the last evaluation

    def trained(self, ended: Ended) -> None:
        """Notes training episodes."""
        seeds = max(ended.count.size, 1)
        self.steps += float(ended.length_sum.sum()) / seeds
        self.episodes += float(ended.count.sum()) / seeds

    def evaluated(self, lengths: Any) -> None:
        """Notes an evaluation of episodes of these lengths [..., E]."""
        self.newest = float(lengths.mean())
        self.spent += self.newest * lengths.shape[-1]

    @property
    def length(self) -> float:
        """Steps that an episode is expected to take: a better policy may last twice as long."""
        trained = 2 * self.steps / self.episodes if self.episodes else 0.0
        return min(max(trained, self.newest) or self.limit, self.limit)

    def now(self, env_steps: int) -> int:
        """Episodes of an evaluation after `env_steps` steps; 0 if none is affordable.

        The fewest of the end are spared first.
        """
        spared = SHARE * self.total - FEWEST_AT_END * self.length
        return self.size(min(SHARE / 2 * env_steps, spared), 0)

    def at_end(self, env_steps: int, leaving_some: bool = False) -> int:
        """Episodes of the last evaluation, which may leave some for the best policy's."""
        share = 0.75 * SHARE if leaving_some else SHARE
        return self.size(share * env_steps, FEWEST_AT_END)

    def absolute(self, env_steps: int) -> int:
        """Episodes of the best policy of the run, after the last evaluation."""
        return self.size(SHARE * env_steps, FEWEST_AT_END, (10 * MOST, 5 * MOST, *SIZES))

    def size(self, allowed: float, fewest: int, sizes: Sequence[int] = SIZES) -> int:
        """Episodes that fit into what is left of an allowance of steps."""
        affordable = max((allowed - self.spent) / self.length, fewest)
        return next((size for size in sizes if size <= affordable), 0)

    def state(self) -> dict[str, float]:
        """What a checkpoint holds."""
        return {name: x for name, x in asdict(self).items() if name not in ("limit", "total")}

    def load(self, state: dict[str, float]) -> None:
        """Continues from there. Raises ValueError for what cannot be."""
        for name in self.state().keys() & state.keys():
            setattr(self, name, quantity(state[name]))
