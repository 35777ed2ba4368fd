"""The two environment protocols, our own environments, and adapters of others' libraries."""

from typing import Any


def as_pettingzoo(env: Any) -> Any:
    """One of our environments of several agents, or its id, as an environment of PettingZoo.

    A ParallelEnv, or an AECEnv where agents take turns. Raises EnvError for a single agent.
    """
    from parl.envs.adapters.to_pettingzoo import export
    from parl.envs.factory import make_factory  # only now: `import parl` stays quick

    game = make_factory(env).jax
    if game is None:
        from parl.core.errors import EnvError

        raise EnvError(f"{env} is no environment in JAX; only those are exported to PettingZoo.")
    return export(game)
