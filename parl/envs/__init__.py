"""The environment protocols, PARL's own environments, and adapters for other libraries."""

from typing import Any


def as_pettingzoo(env: Any) -> Any:
    """Converts one of PARL's multi-agent environments, or its id, to a PettingZoo environment.

    Returns a ParallelEnv, or an AECEnv if agents take turns. Raises EnvError for a single agent.
    """
    from parl.envs.adapters.to_pettingzoo import export
    from parl.envs.factory import make_factory  # imported late to keep `import parl` fast

    game = make_factory(env).jax
    if game is None:
        from parl.core.errors import EnvError

        raise EnvError(f"{env} is not a JAX environment; only those are exported to PettingZoo.")
    return export(game)
