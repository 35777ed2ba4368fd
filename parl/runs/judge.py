"""Evaluation of policies during a run: number of episodes, results and the best policy."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from parl.agents.execution.ended import Ended, total
from parl.agents.execution.protocol import Execution, policy_program
from parl.core.checkpoint import Checkpoint
from parl.core.programs import as_data
from parl.core.spec import EnvSpec
from parl.envs.game_tree import enumerated, exploitability
from parl.envs.protocol import VectorEnv
from parl.runs.budget import MOST, Budget
from parl.runs.build import Parts, make_evaluators
from parl.runs.config import RunConfig
from parl.runs.episodes import MAX_STEPS, Rules
from parl.runs.evaluation import Apart, Contest, Evaluation, Evaluator
from parl.runs.exploit import has_memory, small_game, strategy_of

LEAST_LIMIT = 1_000  # steps of an episode without a time limit, however short the run


def limit_of(config: RunConfig, spec: EnvSpec) -> int:
    """Steps after which an evaluation episode is cut.

    If the environment has no time limit: a tenth of the run's steps, within bounds.
    """
    unlimited = min(max(config.steps // 10, LEAST_LIMIT), MAX_STEPS)
    return config.eval_max_steps or max(spec.max_steps or 0, unlimited)


class Judge:
    """Evaluates every seed's policy; without evaluation, training returns are used instead."""

    def __init__(
        self,
        parts: Parts,
        execution: Execution,
        stopped: Callable[[], bool],
    ):
        config, spec, layout = parts.config, parts.judged.spec, parts.layout
        num_envs = config.num_seeds * layout.workers * layout.envs_per_worker
        algorithm = execution.learner.algorithm
        self.config, self.execution = config, execution
        limit, self.several = limit_of(config, spec), bool(spec.num_agents)
        rules = Rules(limit, config.info_names, first=num_envs, stopped=stopped)
        self.make = lambda episodes: make_evaluators(parts, algorithm, episodes, rules)
        self.evaluates = config.eval_env != "none" and config.eval_episodes != 0
        self.game = small_game(parts.judged)
        self.budget = Budget(limit, config.steps)
        self.best: tuple[float, int] | None = None  # (score, environment steps)
        self.recent: list[Ended] = []  # training episodes since the last judgement
        self.evaluator: Evaluator | Contest | Apart | None = None

    def trained(self, ended: Ended) -> None:
        """Records training episodes."""
        self.budget.trained(ended)
        if not self.evaluates:
            self.recent = [total([*self.recent, ended])]

    def episodes(self, env_steps: int, at_end: bool = False) -> int:
        """Episodes of an evaluation that is due now; 0 if it would take too long."""
        if not self.evaluates:
            return 0
        if self.config.eval_episodes is not None:
            return self.config.eval_episodes
        if at_end:
            return self.budget.at_end(env_steps, leaving_some=self.several)
        return self.budget.now(env_steps)

    def evaluate(self, env_steps: int, episodes: int) -> Evaluation:
        """Plays `episodes` episodes with each seed's current policy."""
        lent = self.execution.lend() if self.config.eval_env == "train" else None
        evaluation = self.measure(self.execution.policy, env_steps, episodes, lent)
        if lent:
            self.execution.restart()
        self.take(evaluation, env_steps)
        return evaluation

    def measure(
        self,
        policy: Any,
        env_steps: int,
        episodes: int,
        lent: Sequence[VectorEnv] | None = None,
    ) -> Evaluation:
        """The evaluation of every seed's policy, of a step."""
        if self.evaluator is None:
            self.evaluator = self.make(self.config.eval_episodes or MOST)
        evaluation = self.played(self.evaluator, policy, env_steps, episodes, lent)
        if self.game is None:
            return evaluation
        return evaluation._replace(exploitability=self.exploited(policy))

    def take(self, evaluation: Evaluation, env_steps: int) -> None:
        """Counts an evaluation of the policy of a step, which may be the best so far."""
        assert evaluation.lengths is not None
        self.budget.evaluated(evaluation.lengths)
        exploited = evaluation.exploitability
        score = evaluation.mean if exploited is None else -np.asarray(exploited)
        self.note(float(np.mean(score)), env_steps)

    def exploited(self, policy: Any) -> np.ndarray:
        """The exploitability [...] of each seed's policy."""
        assert self.game is not None
        seeds, algorithm = self.execution.seeds, self.execution.learner.algorithm
        tree = enumerated(self.game, keep=has_memory(algorithm))
        found = [
            exploitability(tree, strategy_of(tree, algorithm, seeds.take(policy, k)))
            for k in range(len(seeds.values))
        ]
        each = np.array([one.exploitability for one in found])
        return each if seeds.vmapped else each[0]

    def look_back(self, env_steps: int) -> Ended | None:
        """The training episodes since the last call, as an evaluation of the current policy."""
        ended, self.recent = total(self.recent) if self.recent else None, []
        if ended is not None and np.all(ended.count):
            self.note(float(np.mean(ended.return_sum / ended.count)), env_steps)
        return ended

    def note(self, score: float, env_steps: int) -> None:
        """Records a score if it is the best so far: a mean return, or minus exploitability."""
        if self.best is None or score > self.best[0]:
            self.best = score, env_steps

    def absolute_episodes(self, env_steps: int) -> int:
        """Number of episodes of the best policy at the end."""
        if not self.evaluates or self.best is None:
            return 0
        if self.config.absolute_episodes is not None:
            return self.config.absolute_episodes
        return self.budget.absolute(env_steps)

    def absolute(self, checkpoint: Checkpoint, env_steps: int, episodes: int) -> Evaluation:
        """Evaluates a saved policy on fresh episodes: Gorsane et al. 2022, arXiv:2209.10485."""
        algorithm_state = checkpoint.restore(
            "run/learner/algorithm_state", self.execution.algorithm_state
        )
        algorithm = as_data(self.execution.learner.algorithm)
        policy = policy_program(self.execution.seeds, algorithm)(algorithm, algorithm_state)
        lent = self.execution.lend() if self.config.eval_env == "train" else None
        return self.played(self.make(episodes), policy, env_steps + 1, episodes, lent)

    def played(
        self,
        evaluator: Evaluator | Contest | Apart,
        policy: Any,
        when: int,
        episodes: int,
        lent: Sequence[VectorEnv] | None,
    ) -> Evaluation:
        """Evaluates every seed's policy, in lent environments if there are any."""
        take = self.execution.seeds.take
        games: list[Any] = [
            evaluator(take(policy, k), seed, when, episodes, lent[k] if lent else None)
            for k, seed in enumerate(self.config.seeds)
        ]
        return evaluator.summary(games)

    def state(self) -> dict[str, Any]:
        """The state for a checkpoint's metadata."""
        return {"best": self.best, "budget": self.budget.state()}

    def load(self, meta: dict[str, Any]) -> None:
        """Restores from a checkpoint's metadata. Raises ValueError if it is invalid."""
        self.best = best_in(meta)
        self.budget.load(meta.get("budget", {}))  # checkpoints of earlier versions have none


def best_in(meta: dict[str, Any]) -> tuple[float, int] | None:
    """The best mean return and its step in a checkpoint's metadata. Raises ValueError."""
    match meta["best"]:
        case None:
            return None
        case [int() | float() as mean, int() as env_steps]:
            return float(mean), env_steps
    raise ValueError(f"its best is {meta['best']!r}")
