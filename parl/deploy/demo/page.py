"""One self-contained HTML page with a policy that acts, or with episodes that it has played."""

import json
import re
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any

from parl.deploy.builder import UnsupportedOperation
from parl.deploy.contract import Contract
from parl.deploy.demo.twins import Twin, twin_of
from parl.deploy.export import js

if TYPE_CHECKING:  # it loads JAX
    from parl.deploy.demo.replay import Replay

FILE = "index.html"
LARGEST = 500_000  # bytes of a page


def acting_page(contract: Contract) -> str:
    """The page of a policy that acts: the form web.

    Raises UnsupportedOperation where its environment has no twin.
    """
    twin = twin_of(contract)
    if twin is None:
        raise UnsupportedOperation(
            f"{named(contract)} has no twin in JavaScript: parl demo RUN shows episodes of it."
        )
    policy = js.source(contract.programs, contract.start)
    told = about(contract, twin) | {"samples": "sample" in contract.programs}
    return page(told, policy)


def replaying_page(contract: Contract, replay: "Replay") -> str:
    """The page of episodes that a policy has played."""
    return page(about(contract, None) | {"replay": replay.to_json()}, "const load = null;")


def named(contract: Contract) -> str:
    """The environment as a reader knows it, with the agent where it is one of several."""
    agent, id = contract.values.get("agent"), contract.values["environment"]["id"]
    return f"{id}" if agent is None else f"{agent} of {id} alone"


def about(contract: Contract, twin: Twin | None) -> dict[str, Any]:
    """What the page says, and the environment that it acts in."""
    origin = contract.values["provenance"]
    algorithm = str(origin.get("algorithm", "a policy"))
    steps = origin.get("env_steps")
    trained = f", trained for {steps:,} environment steps" if isinstance(steps, int) else ""
    acts = "The policy acts in this page" if twin else "Recorded episodes of the policy"
    told = {
        "title": f"{algorithm} on {named(contract).removeprefix('jax:')}",
        "subtitle": f"{acts}{trained}.",
        "origin": "Exported by PARL; this page needs no network and sends nothing.",
    }
    return told if twin is None else told | {"environment": twin.name, "settings": twin.settings}


def page(told: dict[str, Any], policy: str) -> str:
    """The page with all of its parts in it."""
    policy = f"const {{ load }} = (() => {{\n{plain(policy)}\nreturn {{ load }};\n}})();"
    code = "\n".join([policy, plain(part("environments.mjs")), plain(part("page.mjs"))])
    data = json.dumps(told).replace("</", "<\\/")  # nothing in it may end the element
    parts = {"{told}": data, "{code}": code.strip()}
    return re.sub(r"{told}|{code}", lambda match: parts[match[0]], part("page.html"))


def part(name: str) -> str:
    """A file beside this one."""
    return (resources.files("parl.deploy.demo") / name).read_text("utf-8")


def plain(module: str) -> str:
    """A module's statements without imports and exports, to stand beside those of others."""
    return re.sub(r"^(import .*\n|export )", "", module, flags=re.MULTILINE)


def write(text: str, out: Path) -> Path:
    """Writes a page; returns its path."""
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(text, "utf-8")
    return out
