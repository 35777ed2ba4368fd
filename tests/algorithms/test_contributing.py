"""What CONTRIBUTING.md, the package's metadata and its version say is so."""

import configparser
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from handmade import Function, steps

import parl
from parl import ops
from parl.core.spec import Box, Discrete, EnvSpec

ROOT = Path(__file__).parents[2]
SPEC = EnvSpec("test", Box((1,)), Discrete(2), max_steps=5)


def example() -> SimpleNamespace:
    """The names of the only Python block."""
    (block,) = re.findall(
        r"^```python\n(.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.M | re.S
    )
    names: dict[str, Any] = {"__name__": "own"}
    exec(compile(block, "CONTRIBUTING.md", "exec"), names)
    return SimpleNamespace(**names)


def test_the_example_is_an_algorithm_and_a_recipe() -> None:
    """Returns of rewards 1, 2 at a discount of 0.5 are 2, 2; both actions have probability 1/2."""
    own = example()
    even = Function(
        lambda p, obs: ops.Categorical(p * jnp.concatenate([obs, obs], -1)), jnp.ones(())
    )
    rule = own.Reinforce(actor=even, gamma=0.5)
    obs, last = np.ones((2, 1, 1)), np.array([[False], [True]])
    batch = steps(obs=obs, next_obs=obs, reward=[[1.0], [2.0]], last=last)
    loss, _ = rule.loss(even.params, batch)
    np.testing.assert_allclose(loss, 2 * np.log(2), rtol=1e-6)
    learner = own.ReinforceRecipe(hidden=(4,)).learner(SPEC, 1_000, 8)
    state = jax.eval_shape(lambda key: learner.algorithm.init(key, SPEC), jax.random.key(0))
    assert isinstance(state, own.State)


def test_one_version() -> None:
    """It stands in the package; what is installed, cited and released follows."""
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    assert setup["metadata"]["version"] == "attr: parl.__version__"
    assert setup["options.package_data"]["parl"] == "py.typed" and (ROOT / "parl/py.typed").exists()
    assert f"\nversion: {parl.__version__}\n" in (ROOT / "CITATION.cff").read_text()
    released = re.findall(r"^## (\d+\.\d+\.\d+)", (ROOT / "CHANGELOG.md").read_text(), re.M)
    assert released[0] == parl.__version__
