"""A trained policy as an artefact that needs neither JAX nor PARL.

`trace` makes a Program of `algorithm.act`, `export/` writes it in several forms, `parity` shows
that these act alike. `shapes program arrays threefry contract policy` are the runtime: NumPy and
the standard library only, and together the `policy.py` of every artefact. `serve/` lets policies
act over HTTP, `Client` asks them.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from parl.deploy.client import Client as Client


def __getattr__(name: str) -> Any:
    """`Client`, loaded when it is first used: who acts in place needs no HTTP."""
    if name == "Client":
        from parl.deploy.client import Client

        return Client
    raise AttributeError(f"module 'parl.deploy' has no attribute '{name}'")
