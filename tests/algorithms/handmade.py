"""Models small enough to compute by hand, and what an algorithm's source may not mention."""

import inspect
import io
import keyword
import tokenize
from collections.abc import Callable
from dataclasses import dataclass
from types import ModuleType
from typing import Any

import numpy as np

from parl.core.types import Step

FOREIGN = "env envs environment replay buffer loop device devices logger config pmean ray gymnasium"


@dataclass(frozen=True)
class Function:
    """A Model from a function of (params, *inputs) and its initial parameters."""

    function: Callable[..., Any]
    params: Any = None

    def init(self, key: Any, *inputs: Any) -> Any:
        return self.params

    def apply(self, params: Any, *inputs: Any, method: Any = None) -> Any:
        return self.function(params, *inputs)


def steps(**fields: Any) -> Step:
    """Steps of float32 and int32 arrays; discount 1, first and last False where not given."""
    shape = np.shape(fields["reward"])
    flag = np.zeros(shape, bool)
    defaults = {"action": np.zeros(shape, np.int32), "discount": np.ones(shape, np.float32)}
    defaults |= {"first": flag, "last": flag, "extras": {}}

    def convert(x: Any) -> Any:
        if isinstance(x, dict):
            return {name: convert(part) for name, part in x.items()}
        x = np.asarray(x)
        return x.astype({"f": np.float32, "i": np.int32}.get(x.dtype.kind, x.dtype))

    return Step(**{name: convert(x) for name, x in (defaults | fields).items()})


def foreign_words(module: ModuleType) -> set[str]:
    """Identifiers of a module's source that belong to other layers; prose may mention them."""
    source = inspect.getsource(module)
    tokens = tokenize.generate_tokens(io.StringIO(source).readline)
    names = {
        t.string for t in tokens if t.type == tokenize.NAME and not keyword.iskeyword(t.string)
    }
    assert len(names) > 50
    return names & set(FOREIGN.split())


def line_count(module: ModuleType) -> int:
    return len(inspect.getsource(module).splitlines())
