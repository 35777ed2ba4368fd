"""Whether a form draws the actions that JAX draws with the same key."""

from pathlib import Path
from typing import Any

import numpy as np

from parl.deploy import parity
from parl.deploy.backends import BACKENDS, jax_backend
from parl.deploy.parity import Case, Expected
from parl.deploy.rows import Rows

KEYS = 256
NOISY = ("numpy", "c", "js")  # forms that make the noise of a key themselves


def compared(form: str, place: Path, parts: Any, rows: Rows) -> tuple[dict[str, Any], list[str]]:
    """(numbers of the differences, sentences) on KEYS observations with a key each."""
    program = parts.programs["sample"]
    act = jax_backend(parts.acts["sample"], parts.maps)
    backend = BACKENDS[form](place, "sample")
    noise = BACKENDS[form if form in NOISY else "numpy"](place, "noise")
    needed = {port.name for port in program.inputs}
    steps, width = rows.first.shape
    want, found = [], []
    for i in range(min(KEYS, steps * width)):
        t, b = divmod(i, width)
        given = {name: x[t, b : b + 1] for name, x in rows.obs.items()}
        given |= {name: x[b : b + 1] for name, x in rows.memory.items()}
        given |= {"key": np.array([7, i], np.uint32)}
        want.append(act(given, 1))
        drawn = {} if form == "stablehlo" else noise(given, 1)
        mine = {name: x for name, x in given.items() if name in needed or name == "key"}
        found.append(backend(mine | drawn, 1))
    beside = lambda rows: {n: x.swapaxes(0, 1) for n, x in parity.joined_steps(rows).items()}
    wanted, given_back = beside(want), beside(found)  # [1, KEYS, ...]
    clear = np.ones(wanted["action"].shape, bool)
    scale = np.resize(rows.scale, len(want))
    case = Case("sampled", rows, Expected(wanted, {}, scale), clear)
    outputs = {name: given_back[name] for name in program.outputs}
    return parity.summarized(form, "sampled", outputs, case)
