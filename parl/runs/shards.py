"""From the parts of a run to its replay in shards."""

from collections.abc import Callable, Mapping
from functools import partial

from parl.agents.execution.sharded import ShardedLearner
from parl.agents.learner import shapes
from parl.agents.replay.shard import Shard
from parl.core.seeding import env_seed
from parl.core.types import Rollout
from parl.remote.shard_host import OnRay
from parl.remote.shards import Shards
from parl.remote.supervisor import Terms
from parl.runs.build import Parts

DRAWS = 1  # keeps the seeds of draws apart from all environments'


def shards_of(parts: Parts, say: Callable[[str], None], env: Mapping[str, str]) -> Shards:
    """The shards of a run's replay, as they start; `env` are variables of their processes."""
    config, learner, spec = parts.config, parts.learner, parts.factory.spec
    assert isinstance(learner, ShardedLearner) and config.replay_shards
    shape = parts.recipe.length, parts.layout.envs_per_worker
    _, rollout = shapes(learner.algorithm, spec, *shape)
    return Shards(
        OnRay(partial(make_shard, learner, rollout, config.seed), env),
        config.replay_shards,
        learner.replay,
        *learner.room(rollout),
        env_seed(config.seed, 0, DRAWS),
        Terms(config.deadline, say=say),
    )


def make_shard(learner: ShardedLearner, rollout: Rollout, seed: int, number: int) -> Shard:
    """A shard for rollouts of these shapes; runs in its process."""
    return Shard(learner, rollout, env_seed(seed, number + 1, DRAWS))
