"""Runs that learn from a teacher, the policy of another run."""

from parl.agents.learner import Learner
from parl.algorithms.dagger import DAgger, Teacher
from parl.core.errors import ConfigError
from parl.runs.config import RunConfig
from parl.runs.evaluation import Player


def check_taught(learner: Learner, config: RunConfig) -> None:
    """Raises ConfigError where a teacher is missing or of no use."""
    taught = isinstance(learner.algorithm, DAgger)
    if config.teacher and not taught:
        raise ConfigError(
            f"teacher is for dagger; {config.algorithm} learns without: leave out --teacher."
        )
    if taught and not config.teacher:
        raise ConfigError("dagger learns from a teacher: add --teacher RUN.")


def with_teacher(learner: Learner, config: RunConfig, player: Player) -> Learner:
    """The learner with its teacher. Raises ConfigError where it learns without."""
    check_taught(learner, config)
    teacher = Teacher(player.algorithm, player.policy)
    return learner.replace(algorithm=learner.algorithm.replace(teacher=teacher))
