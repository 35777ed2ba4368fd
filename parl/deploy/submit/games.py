"""How the agent of each packaging is loaded and played, inside the sandbox.

NumPy and the standard library are enough; real environments are imported where they are played.
"""

import importlib
import importlib.util
import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np

TOLERANCE = 1e-5  # of numbers, in parts of their scale


class Loaded:
    """An agent of any packaging."""

    def __init__(self, player: Any, act: Any = None, reset: Any = None):
        self.player = player
        self.act = player.act if act is None else act
        self.reset = player.reset if reset is None else reset


# --- loading ----------------------------------------------------------------------------------


def plain(job: dict[str, Any]) -> Loaded:
    """play.py, imported."""
    made = imported("play", Path(job["package"]) / job["entry"])
    return Loaded(made.PLAYER)


def one_file(job: dict[str, Any]) -> Loaded:
    """main.py as Kaggle runs it: in an empty namespace, whose last callable is the agent."""
    namespace: dict[str, Any] = {}
    source = (Path(job["package"]) / job["entry"]).read_text()
    exec(compile(source, "<string>", "exec"), namespace)
    agent = [value for value in namespace.values() if callable(value)][-1]
    if agent.__name__ not in ("agent", "agent_fn"):
        raise RuntimeError(f"the last callable of main.py is {agent.__name__}, not the agent")
    player = namespace["PLAYER"]
    if "answer" not in namespace:
        return Loaded(player, lambda raw, config, info=None: agent(raw, config))

    def act(raw: Any, config: Any, info: Any = None) -> Any:
        """Over the engine's lines."""
        line = namespace["answer"](json.dumps(raw | {"info": {"env_cfg": config or {}}}))
        return json.loads(line)["action"]

    return Loaded(player, act)


def grid(job: dict[str, Any]) -> Loaded:
    """The agent that make_agent makes; without grid2op with a base of its own."""
    if importlib.util.find_spec("grid2op") is None:
        agents: Any = types.ModuleType("grid2op.Agent")
        agents.BaseAgent = type(
            "BaseAgent", (), {"__init__": lambda self, space: setattr(self, "action_space", space)}
        )
        sys.modules |= {"grid2op": types.ModuleType("grid2op"), "grid2op.Agent": agents}
    made = imported("submission", Path(job["package"]) / job["entry"])
    environment = types.SimpleNamespace(action_space=lambda choice: choice)
    agent = made.make_agent(environment, str(Path(job["package"]) / "submission"))

    def act(raw: Any, config: Any, info: Any = None) -> Any:
        if config is not None:
            agent.action_space = config
        return agent.act(raw, 0.0, False)

    return Loaded(made.PLAYER, act, lambda: agent.reset(None))


def myo(job: dict[str, Any]) -> Loaded:
    """agent_parl.py, with a client that answers what is recorded in place of the organisers'."""
    stub: Any = types.ModuleType("utils")
    stub.RemoteConnection = Remote
    sys.modules["utils"] = stub
    made = imported("agent_parl", Path(job["package"]) / job["entry"])
    Remote.agent = made
    return Loaded(made.PLAYER)


class Remote:
    """Stands in for the environment's server: two trials of the recorded observations."""

    agent: Any = None
    raws: list[Any] = []  # noqa: RUF012
    moves: list[Any] = []  # noqa: RUF012

    def __init__(self, address: str):
        self.trial, self.step = 0, 0

    def set_output_keys(self, keys: Any) -> None:
        """Is told the names of the observations."""

    def reset(self) -> Any:
        self.trial, self.step = self.trial + 1, 0
        return self.raws[0]

    def act_on_environment(self, action: Any) -> dict[str, Any]:
        self.moves.append(np.asarray(action).tolist())
        self.step += 1
        ended = self.step == len(self.raws)
        raw = self.raws[0 if ended else self.step]
        return {"feedback": [raw, 0.0, ended], "eval_completed": ended and self.trial == 2}


def poke(job: dict[str, Any]) -> Loaded:
    """main.py; without poke-env with a base of its own."""
    if importlib.util.find_spec("poke_env") is None:
        whole: Any = types.ModuleType("poke_env")
        whole.AccountConfiguration = whole.ServerConfiguration = tuple
        part: Any = types.ModuleType("poke_env.player")
        part.Player = type("Player", (), {"choose_default_move": lambda self: "/choose default"})
        sys.modules |= {"poke_env": whole, "poke_env.player": part}
    made = imported("main", Path(job["package"]) / job["entry"])
    agent = made.Agent.__new__(made.Agent)
    return Loaded(made.PLAYER, lambda raw, config, info=None: made.PLAYER.act(raw, agent))


def imported(name: str, path: Path) -> Any:
    """A module of this file."""
    spec: Any = importlib.util.spec_from_file_location(
        name, path, submodule_search_locations=[str(path.parent)]
    )
    made = importlib.util.module_from_spec(spec)
    sys.modules[name] = made
    spec.loader.exec_module(made)
    return made


AGENTS = {
    "plain": plain,
    "kaggle": one_file,
    "lux-s3": one_file,
    "l2rpn": grid,
    "myochallenge": myo,
    "pokeagent": poke,
}


# --- recorded observations --------------------------------------------------------------------


def recorded(probe: Any, report: dict[str, Any]) -> None:
    """Two games of the recorded observations in one process, and the policy on its samples."""
    raws = [decoded(each) for each in json.loads(Path(probe.job["raws"]).read_text())]
    games = []
    for game in range(2 if raws else 0):
        probe.stage(f"game {game + 1} of recorded observations")
        probe.reset()
        moves = [probe.act(*each) for each in raws]
        games.append([plain_move(move) for move in moves])
        for move in moves:
            check_move(probe, move)
    late = any(kind == "late" for kind, _ in probe.faults())
    if len(games) == 2 and games[0] != games[1] and not late:
        step = next(i for i, pair in enumerate(zip(*games, strict=True)) if pair[0] != pair[1])
        probe.watch.note(
            "state kept between games",
            f"observation {step} got {games[0][step]} in the first game and {games[1][step]} in "
            "the second",
        )
    if probe.job["kind"] == "myochallenge" and raws:
        trials(probe, [each[0] for each in raws], games[0])
    report["recorded"] = len(raws)
    probe.stage("comparing with the artefact")
    report["equality"] = equality(probe)


def trials(probe: Any, raws: list[Any], want: list[Any]) -> None:
    """Runs the agent's main() against two recorded trials."""
    import os

    os.environ["PARL_WAIT"] = "0"
    Remote.raws, Remote.moves = raws, []
    with probe.watch.entered():
        Remote.agent.main()
    if Remote.moves != want + want:
        probe.watch.note("not equal", "main() does not act as the policy does in its trials")


def decoded(value: Any) -> list[Any]:
    """[raw, config, info] of JSON, with arrays where there were some."""
    return [part(each) for each in value]


def part(value: Any) -> Any:
    """The inverse of `encoded` in submission.py."""
    if isinstance(value, list):
        return [part(each) for each in value]
    if not isinstance(value, dict):
        return value
    if value.keys() == {"array", "dtype", "shape"}:
        return np.array(value["array"], value["dtype"]).reshape(value["shape"])
    if value.keys() == {"items"}:
        return Observation((key, part(each)) for key, each in value["items"])
    return Observation((key, part(each)) for key, each in value.items())


class Observation(dict):
    """A dict whose keys are attributes, too, as those of several competitions are."""

    __getattr__ = dict.__getitem__


def plain_move(move: Any) -> Any:
    """A move that can be compared."""
    if isinstance(move, dict):
        return {key: plain_move(value) for key, value in move.items()}
    return move.tolist() if hasattr(move, "tolist") else move


def check_move(probe: Any, move: Any) -> None:
    """Notes numbers that no environment takes, and moves outside the environment's actions."""
    for each in move.values() if isinstance(move, dict) else [move]:
        if isinstance(each, float | np.ndarray) and not np.isfinite(np.asarray(each, float)).all():
            probe.watch.note("illegal action", f"{plain_move(each)!r:.100} is no number")
    space = probe.job["space"]
    if space is None or isinstance(move, dict):
        return
    try:
        x = np.asarray(move, float)
        shape = tuple(space["shape"])
        low, high = (np.array(space[key], float).reshape(shape) for key in ("low", "high"))
        tail = x.shape[x.ndim - len(shape) :]  # a team has its agents in front
        good = tail == shape and ((x >= low) & (x <= high)).all()
    except (TypeError, ValueError):
        good = False
    if not good:
        probe.watch.note("illegal action", f"{plain_move(move)!r:.100}")


def equality(probe: Any) -> dict[str, Any]:
    """How far the package's policy is from what the artefact's samples say."""
    policy = probe.agent.player.policy
    if policy is None:
        policy = probe.agent.player.load()
    with np.load(probe.job["samples"], allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    given = {name[3:]: x for name, x in arrays.items() if name.startswith("in.")}
    want = {name[4:]: x for name, x in arrays.items() if name.startswith("out.")}
    count, clear, scale = len(arrays["scale"]), arrays["clear"], arrays["scale"]
    memory = {name: given.pop(name) for name in list(given) if name in policy.contract.start}
    state = policy.start(count)._replace(memory=memory)
    with probe.watch.entered():
        found, after = policy.run(given, count, state)
    found = found | after.memory
    error, unequal, compared = 0.0, 0, 0
    for name, x in want.items():
        if x.dtype.kind == "f":
            wide = scale.reshape(-1, *[1] * (x.ndim - 1))
            error = max(error, float((abs(found[name] - x) / np.maximum(abs(x), wide)).max()))
            continue
        sure = clear.reshape(x.shape) if clear.size == x.size else clear.reshape(count, -1).all(1)
        sure = np.broadcast_to(sure.reshape(*sure.shape, *[1] * (x.ndim - sure.ndim)), x.shape)
        unequal += int(((found[name] != x) & sure).sum())
        compared += int(sure.sum())
    if error > TOLERANCE or unequal:
        probe.watch.note("not equal", f"largest error {error:.2g}, {unequal} of {compared} choices")
    return {"samples": count, "max_error": error, "unequal": unequal, "choices": compared}


# --- real environments ------------------------------------------------------------------------


def gymnasium_games(probe: Any, report: dict[str, Any]) -> None:
    """Episodes of the artefact's environment, where Gymnasium knows it."""
    gymnasium: Any = importlib.import_module("gymnasium")
    name = probe.job["environment"]
    if name not in gymnasium.registry:
        return
    env = gymnasium.make(name)
    report["tested_with"] = f"{name} of gymnasium {gymnasium.__version__}"
    returns = []
    for game in range(probe.job["games"]):
        (obs, info), total, over = env.reset(seed=game), 0.0, False
        probe.reset()
        while not over:
            move = probe.act(obs, None, info)
            if not env.action_space.contains(move):
                probe.watch.note("illegal action", f"{plain_move(move)!r:.100} in {name}")
            obs, reward, terminated, truncated, info = env.step(move)
            total, over = total + float(reward), terminated or truncated
        returns.append(total)
    env.close()
    report["played"] = {"games": len(returns), "returns": returns}


def kaggle_games(probe: Any, report: dict[str, Any]) -> None:
    """Games of kaggle-environments on every seat, against its own agents in turn, or itself."""
    package: Any = importlib.import_module("kaggle_environments")
    game, count = probe.job["game"], probe.job["games"]
    report["tested_with"] = f"{game} of kaggle-environments {package.__version__}"
    main = str(Path(probe.job["package"]) / probe.job["entry"])
    env = package.make(game, debug=False)
    numbers = env.specification.agents
    seats = 2 if 2 in numbers else max(numbers)
    env.run([main] * seats)  # as Kaggle validates: the file against itself
    statuses = [state["status"] for state in env.state]
    report["validation"] = statuses
    if set(statuses) != {"DONE"}:
        probe.watch.note("illegal action", f"the validation game ended as {statuses}")
    others = sorted(env.agents) or [main]
    scores: dict[str, list[float]] = {}
    for number in range(count):
        seat, other = number % seats, others[number // seats % len(others)]
        env = package.make(game, debug=False)
        players: list[Any] = [other] * seats
        players[seat] = lambda observation, configuration: probe.act(observation, configuration)
        env.run(players)
        if env.state[seat]["status"] != "DONE":
            status = env.state[seat]["status"]
            probe.watch.note("illegal action", f"game {number} ended as {status}")
        name = "itself" if other == main else other
        rewards = [each["reward"] for each in env.state]
        scores.setdefault(f"{name}, seat {seat + 1}", []).append(score(rewards, seat))
    mean = {name: float(np.mean(x)) for name, x in scores.items()}
    report["played"] = {"games": count, "score": mean}


def score(rewards: list[Any], seat: int) -> float:
    """1 for the most reward of all, 1/2 where others have as much, else 0; None is the least."""
    numbers = [-np.inf if x is None else x for x in rewards]
    best = max(x for i, x in enumerate(numbers) if i != seat)
    return 1.0 if numbers[seat] > best else 0.5 * (numbers[seat] == best)


def grid_games(probe: Any, report: dict[str, Any]) -> None:
    """Episodes of grid2op on its bundled chronics."""
    grid2op: Any = importlib.import_module("grid2op")
    given: dict[str, Any] = {"test": True}
    if importlib.util.find_spec("lightsim2grid") is not None:  # the quick solver of power flows
        given["backend"] = importlib.import_module("lightsim2grid").LightSimBackend()
    env = grid2op.make(probe.job["game"], **given)
    report["tested_with"] = f"{probe.job['game']} of grid2op {grid2op.__version__}"

    def survived(number: int, act: Any) -> tuple[int, float]:
        """(steps, return) of an episode of the chronic of this number."""
        env.seed(number)
        env.set_id(number)
        obs, total, steps, over = env.reset(), 0.0, 0, False
        while not over:
            obs, reward, over, info = env.step(act(obs))
            if info["is_ambiguous"] or info["is_illegal"]:
                kind = "ambiguous" if info["is_ambiguous"] else "illegal"
                probe.watch.note("illegal action", f"step {steps} of episode {number} is {kind}")
            total, steps = total + float(reward), steps + 1
        return steps, total

    played, idle = [], []
    for number in range(probe.job["games"]):
        probe.reset()
        played.append(survived(number, lambda obs: probe.act(obs, env.action_space)))
        idle.append(survived(number, lambda obs: env.action_space({})))
    report["played"] = {
        "games": len(played),
        "steps_survived": [steps for steps, _ in played],
        "by_doing_nothing": [steps for steps, _ in idle],
        "returns": [total for _, total in played],
    }


REAL = {"plain": gymnasium_games, "kaggle": kaggle_games, "l2rpn": grid_games}
