"""Agent: acts and learns in the spaces of an environment.

It takes what the environment shows and gives what it takes; the networks' side is below, in
parl/agents/agent.py.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np

from parl.agents import agent as base
from parl.agents.learner import Learner, OffPolicy, OnPolicy
from parl.agents.learner_json import learner_from_json
from parl.core import checkpoint
from parl.core.algorithm import Algorithm
from parl.core.checkpoint import Checkpoint
from parl.core.errors import CheckpointError, ConfigError
from parl.core.loading import OBJECT
from parl.core.settings import Setting, checked, path_of
from parl.core.spec import EnvSpec, example, in_words
from parl.core.spec_json import spec_from_json, spec_to_json
from parl.core.types import Rollout, Step
from parl.envs.factory import make_factory, with_simulator
from parl.envs.native import Alone, Seen, Translator, translator
from parl.envs.rewards import shown, with_rewards_shown
from parl.recipes import make_recipe, needs_simulator, sees_reward
from parl.recipes.own import check_networks
from parl.runs.build import check_same, recipe_for, ruled
from parl.runs.preparation import prepare


class Agent(base.LearnerAgent):
    """Acts and learns in a loop of the user's own, in the environment's own spaces.

    `algorithm` is an Algorithm with its networks, or a Learner around one (which adds replay).
    Actions are always of the environment's action space. Below, `act` takes and gives what networks
    see and give.
    """

    config: dict[str, Any] | None = None  # algorithm, env and settings, where a recipe made it

    def __init__(self, algorithm: Algorithm | Learner, spec: EnvSpec, seed: int = 0):
        own = algorithm.algorithm if isinstance(algorithm, OnPolicy | OffPolicy) else algorithm
        check_networks(own)
        super().__init__(algorithm, spec, seed)
        self.translator: Translator = translator(spec)

    @classmethod
    def make(cls, algorithm: Any, env: Any, seed: int = 0, **settings: Any) -> "Agent":
        """An agent with the networks and settings of a recipe, untrained.

        `algorithm` and `env` as in `parl.train`; the learner has the recipe's replay, for rollouts
        given to `learn`.
        """
        prepare()
        seed = checked("seed", seed, int, Setting(low=0))
        factory = make_factory(env)
        if isinstance(algorithm, str) and needs_simulator(algorithm):
            factory = with_simulator(factory)
        if sees_reward(algorithm):
            factory = with_rewards_shown(factory)
        name, recipe = recipe_for(algorithm, factory)
        once = {"updates": 1} if "updates" in recipe.types() else {}
        recipe = recipe.override(once | settings)
        spec = factory.spec
        learner = recipe.with_goals(recipe.learner(spec, 0, recipe.num_envs), spec)
        config = {"algorithm": name, "env": factory.id or factory.spec.id}
        return cls.around(learner, config | {"settings": recipe.settings()}, spec, seed)

    @classmethod
    def configured(cls, config: dict[str, Any], spec: EnvSpec, seed: int = 0) -> "Agent":
        """The untrained agent of a recipe's settings; schedules span `config["steps"]`, if any."""
        recipe = make_recipe(config["algorithm"], spec).override(config["settings"])
        learner = recipe.learner(spec, config.get("steps", 0), recipe.num_envs)
        learner = recipe.with_goals(learner, spec)
        return cls.around(learner, config, spec, seed)

    @classmethod
    def around(cls, learner: Any, config: Any, spec: EnvSpec, seed: int = 0) -> "Agent":
        """The agent of a learner that a recipe made; a recipe of an object is not kept."""
        agent = cls(learner, spec, seed)
        agent.config = None if config and config["algorithm"].endswith(OBJECT) else config
        return agent

    # --- acting -------------------------------------------------------------------------------

    def sample(self, obs: Any, info: Any = None, agent: Any = None) -> Any:
        """Exploring actions for one observation of the environment, or a batch of them.

        A batch is an array with one more axis in front, a dict or tuple of such arrays, or a list
        of observations. Where masks come in the environment's `info`, give that. With several
        agents an observation is the environment's dict, of those in the game, or tuple; `agent` is
        the name of the one (or a list of those) whose action is wanted: with a name, the
        observation may be its alone. What the algorithm tells beside the actions is in `extras`.
        """
        return self.decide(obs, info, agent, explore=True)

    def predict(self, obs: Any, info: Any = None, agent: Any = None) -> Any:
        """Greedy actions; otherwise like `sample`."""
        return self.decide(obs, info, agent, explore=False)

    def decide(self, obs: Any, info: Any, agent: Any, explore: bool) -> Any:
        """Actions of the environment. Raises SpaceError for what is no observation of it."""
        seen = self.translator.observe(obs, info, agent)
        action = self.act(seen.obs, explore)
        if explore:
            self.extras = self.beside(action, seen)
        return self.translator.answer(action, seen)

    def beside(self, action: np.ndarray, seen: Seen) -> dict[str, Any]:
        """The extras of what was sampled, with the networks' actions where clipping loses them."""
        extras = self.extras
        if isinstance(self.translator, Alone) and self.translator.map.loses:
            extras = extras | {"action": action}
        return jax.tree.map(lambda x: x[0], extras) if seen.single else extras

    # --- learning -----------------------------------------------------------------------------

    def learn(self, data: Rollout | Step) -> Mapping[str, float]:
        """Learns from a rollout [T, B, ...], or makes one update on a batch of steps [B, ...].

        Observations and actions are the environment's. With replay, a rollout is stored first, and
        the first `warmup` steps are only stored; all rollouts must have one shape [T, B] then. What
        gives NaN or infinity is not learned, see `skipped`.
        """
        if isinstance(data, Rollout):
            return super().learn(Rollout(self.translated(data.steps), data.memory))
        if not isinstance(data, Step):
            raise ConfigError(f"learn takes what parl.transition gives, not {data!r:.60}.")
        return super().learn(self.translated(data))

    def translated(self, steps: Step) -> Step:
        """Steps of the environment as those of networks. Raises a ParlError for what is none."""
        lead, agents = np.shape(steps.first), self.spec.agent_shape
        back = lambda tree: jax.tree.map(lambda x: x.reshape(*lead, *x.shape[1:]), tree)

        def flat(name: str) -> Any:
            """A part of the steps with one axis in place of `lead`."""
            leaves, structure = jax.tree.flatten(getattr(steps, name))
            arrays = [np.asarray(leaf) for leaf in leaves]
            if not arrays or any(x.shape[: len(lead)] != lead for x in arrays):
                raise ConfigError(f"{name} of what is to be learned from lacks the axes {lead}.")
            inner = [x.reshape(-1, *x.shape[len(lead) :]) for x in arrays]
            return jax.tree.unflatten(structure, inner)

        def fit(name: str, dtype: type, *axes: int) -> np.ndarray:
            like = jax.ShapeDtypeStruct((*lead, *axes), dtype)
            return base.fitting(name, getattr(steps, name), like)

        extras = dict(steps.extras) if isinstance(steps.extras, Mapping) else {}
        action = extras.pop("action", None)
        if action is None:
            action = back(self.translator.actions(flat("action")))
        else:
            like = example(self.spec.action_space, (*lead, *agents))
            action = base.fitting("the extra 'action'", action, like)
        seen = lambda name: back(self.translator.observe(flat(name)).obs)
        return Step(
            seen("obs"),
            action,
            fit("reward", np.float32, *agents),
            fit("discount", np.float32),
            seen("next_obs"),
            fit("first", bool),
            fit("last", bool),
            extras,
        )

    # --- keeping ------------------------------------------------------------------------------

    def manifest(self) -> dict[str, Any]:
        return super().manifest() | {"config": self.config, "spec": spec_to_json(self.spec)}

    def save(self, path: str | Path) -> Path:
        """Writes the whole agent, replay included, to a directory of its own; see `restore`.

        An older save is replaced at once or not at all. Raises CheckpointError where the directory
        holds anything else, or cannot be written.
        """
        place = path_of(path).absolute()
        if place.is_dir() and any(place.iterdir()):
            names = {file.name for file in place.iterdir()} - {"manifest.json", "arrays.bin"}
            if names or not is_agent(place):
                odd = min(names, key=lambda name: (name[0] == ".", name), default="manifest.json")
                raise CheckpointError(
                    f"{path} holds other things than a saved agent, such as {odd}: save to a "
                    f"directory of its own, such as {Path(path) / 'agent'}."
                )
        try:
            checkpoint.save(place, *self.snapshot())
        except CheckpointError as error:
            if not isinstance(why := error.__cause__, OSError):
                raise
            reason = why.strerror or why
            raise CheckpointError(f"could not save the agent to {path}: {reason}.") from why
        return Path(path)

    @classmethod
    def restore(
        cls, path: str | Path, algorithm: Any = None, spec: Any = None, env: Any = None
    ) -> "Agent":
        """The agent that `save` wrote; one made by `make` or `parl.load` needs only the path.

        `algorithm` is the Algorithm with its networks, or the Learner around it, where these are of
        the user's own. The spec is stored; `spec` or `env` take its place. Raises CheckpointError
        where something does not fit.
        """
        return cls.revived(checkpoint.read(path_of(path)), algorithm, spec, env)

    @classmethod
    def revived(
        cls, saved: Checkpoint, algorithm: Any = None, spec: Any = None, env: Any = None
    ) -> "Agent":
        """The agent in a checkpoint."""
        prepare()
        found = saved.meta.get("agent")
        if not isinstance(found, dict):
            raise CheckpointError(
                f"{saved.path} holds no agent; of a run, give its directory to parl.load."
            )
        config: Any = found.get("config")
        stored: Any = found.get("spec")
        if spec is None and env is None and stored is None:  # saved by an older version
            env = config and config["env"]
        if spec is None:
            spec = make_factory(env).spec if env else spec_from_json(stored, saved.path)
            if env and config and sees_reward(config["algorithm"]):
                spec = shown(spec)
        if stored is not None:
            check_same(spec, spec_from_json(stored, saved.path))
        if algorithm is None and config is None:
            raise ConfigError(
                f"{saved.path} holds an agent with an algorithm of your own: give it to "
                "parl.Agent.restore(path, algorithm)."
            )
        if algorithm is None:
            if needs_simulator(config["algorithm"]):
                spec = ruled(spec, config["env"])
            return cls.configured(config, spec).continue_from(saved)
        if isinstance(algorithm, Algorithm) and found.get("learner"):
            algorithm = learner_from_json(found["learner"], algorithm)
        return cls.around(algorithm, config, spec).continue_from(saved)

    def save_inference_model(self, path: str | Path, **settings: Any) -> Path:
        """Writes the policy as files that act without PARL and JAX; settings as in `parl.export`.

        Raises ArtefactError where they do not act as this agent does.
        """
        from parl import api  # the face's other half

        return api.export(self, path, **settings).checked().path

    def load(self, path: str | Path) -> "Agent":
        """Restores what `save` wrote. Raises CheckpointError if it does not fit."""
        saved = checkpoint.read(path_of(path))
        stored = (saved.meta.get("agent") or {}).get("spec")
        if stored is not None:
            check_same(self.spec, spec_from_json(stored, path))
        return self.continue_from(saved)

    def __reduce__(self) -> Any:
        if self.config is None:
            raise ConfigError(
                "an agent with an algorithm of your own cannot be pickled: agent.save(path) here "
                "and parl.Agent.restore(path, algorithm) there carry it to another process."
            )
        tree, meta = self.snapshot()
        leaves = checkpoint.named_leaves(tree)
        arrays = {name: checkpoint.to_numpy(leaf) for name, leaf in leaves.items()}
        return type(self).revived, (Checkpoint(Path("a pickled agent"), meta, arrays),)

    def __repr__(self) -> str:
        name = self.config["algorithm"] if self.config else type(self.algorithm).__name__
        return (
            f"Agent({name} on {self.spec.id}, {in_words(self.spec.observation_space)} -> "
            f"{self.spec.action_space}, {self.env_steps:,} steps, {self.updates:,} updates)"
        )


def is_agent(path: Path) -> bool:
    """Whether a directory holds a saved agent, not a checkpoint of a run."""
    try:
        return "agent" in checkpoint.read_meta(path)
    except CheckpointError:
        return False
