"""Tasks of the DeepMind Control Suite as Gymnasium environments.

Tassa et al. 2018, arXiv:1801.00690. Ids are `cheetah-run` and `cheetah-run?repeat=2`. With
`repeat=n` every action is held for n control steps, whose rewards are summed. Published results
mostly use a repeat of 2 and count control steps ("frames"); PARL counts actions.
"""

import functools
import importlib.metadata
import math
from collections.abc import Callable
from typing import Any

import gymnasium
import mujoco
import numpy as np
from dm_control import suite  # pyright: ignore[reportMissingImports]
from gymnasium import spaces
from gymnasium.envs import registration

from parl.core.errors import EnvError, MissingPackage, nearest
from parl.envs.adapters import gymnasium_state

CONSTANT = ("mesh_", "tex_", "skin_", "name_")  # large parts of models that no task changes


def make_dm_control(name: str, /, **options: Any) -> Callable[[], gymnasium.Env]:
    """A maker of the task `name`, such as 'cheetah-run', with `repeat`. Raises EnvError."""
    known = {f"{d}-{t}".replace("_", "-"): (d, t) for d, t in suite.ALL_TASKS}
    if name.replace("_", "-") not in known:
        raise EnvError(f"unknown environment 'dmc:{name}'.{nearest(name, known)}")
    for option, value in options.items():
        if option != "repeat" or type(value) is not int or value < 1:
            raise EnvError(
                f"'dmc:{name}?{option}={value}' has the option {option}={value}; it can be "
                "repeat=1, repeat=2, ..."
            )
    return functools.partial(DMControl, *known[name.replace("_", "-")], **options)


class DMControl(gymnasium.Env):
    """One task, whose observations are concatenated to one vector [O] in the task's order.

    The task's time limit is a truncation. If the task ends an episode earlier, that is a
    termination if its discount is 0.
    """

    def __init__(self, domain: str, task: str, repeat: int = 1):
        self.control, self.repeat = load(domain, task), repeat
        low, high = (
            np.broadcast_to(bound, self.control.action_spec().shape)
            for bound in (self.control.action_spec().minimum, self.control.action_spec().maximum)
        )
        self.action_space = spaces.Box(low, high, dtype=np.float64)
        parts = self.control.observation_spec().values()
        size = sum(math.prod(part.shape) for part in parts)
        self.observation_space = spaces.Box(-np.inf, np.inf, (size,), np.float64)
        limit = self.control._step_limit  # in control steps; there is no public name for it
        steps = None if math.isinf(limit) else math.ceil(limit / repeat - 1e-9)
        self.spec = registration.EnvSpec(f"dmc/{domain}-{task}", max_episode_steps=steps)
        self.pristine = {name: part.copy() for name, part in self.model_arrays().items()}

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[np.ndarray, dict[str, Any]]:
        super().reset(seed=seed)
        if seed is not None:
            self.control.task.random.seed(seed)
        return flat(self.control.reset().observation), {}

    def step(self, action: np.ndarray) -> tuple[np.ndarray, float, bool, bool, dict[str, Any]]:
        new = self.control.step(action)
        reward = new.reward
        for _ in range(self.repeat - 1):
            if new.last():
                break
            new = self.control.step(action)
            reward += new.reward
        terminated = new.last() and new.discount == 0
        return flat(new.observation), reward, terminated, new.last() and not terminated, {}

    def model_arrays(self) -> dict[str, np.ndarray]:
        """The arrays of the MuJoCo model that a task may change, such as the place of a target."""
        model = self.control.physics.model.ptr
        values = {name: getattr(model, name) for name in dir(model) if not name.startswith("_")}
        return {
            name: value
            for name, value in values.items()
            if isinstance(value, np.ndarray) and not name.startswith(CONSTANT)
        }

    def exact_state(self) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
        """Everything that later steps depend on; see `gymnasium_state`."""
        data, state = self.control.physics.data.ptr, self.control.task.random.get_state(False)
        arrays, meta = gymnasium_state.numbers([self.control, self.control.task])
        arrays |= {f"data/{name}": a for name, a in gymnasium_state.fixed_arrays(data).items()}
        for name, part in self.model_arrays().items():
            if not np.array_equal(part, self.pristine[name], equal_nan=part.dtype.kind == "f"):
                arrays[f"model/{name}"] = part
        arrays["random"] = state["state"]["key"]
        random = [int(state["state"]["pos"]), int(state["has_gauss"]), float(state["gauss"])]
        return arrays, {"numbers": meta, "time": data.time, "random": random}

    def set_exact_state(self, arrays: dict[str, np.ndarray], meta: dict[str, Any]) -> None:
        """Restores what `exact_state` returned."""
        physics, under = self.control.physics, gymnasium_state.under
        changed = under("model/", arrays)
        for name, part in self.model_arrays().items():
            part[...] = changed.get(name, self.pristine[name])
        data = physics.data.ptr
        gymnasium_state.restore_data(data, under("data/", arrays))
        data.time = meta["time"]
        # A step here begins with the second half of MuJoCo's, which takes contacts and constraints
        # from where the first half has left them.
        mujoco.mj_step1(physics.model.ptr, data)  # pyright: ignore[reportAttributeAccessIssue]
        gymnasium_state.restore_data(data, under("data/", arrays))
        gymnasium_state.set_numbers([self.control, self.control.task], arrays, meta["numbers"])
        position, has_gauss, gauss = meta["random"]
        self.control.task.random.set_state(
            ("MT19937", arrays["random"], position, has_gauss, gauss)
        )


def load(domain: str, task: str) -> Any:
    """Creates the suite's environment. Raises MissingPackage if MuJoCo does not fit to it."""
    try:
        return suite.load(domain, task, {"random": 0})
    except AttributeError as error:
        found = {name: importlib.metadata.version(name) for name in ("dm_control", "mujoco")}
        said = " and ".join(f"{name} {version}" for name, version in found.items())
        raise MissingPackage(
            f"{said} do not fit together ({error}): pip install --upgrade 'mujoco<4'"
        ) from error


def flat(observation: Any) -> np.ndarray:
    """A dict of arrays and numbers as one vector."""
    return np.concatenate([np.ravel(part) for part in observation.values()])
