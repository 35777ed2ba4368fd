"""One function a packaging: the files that a competition takes, from a policy and an adapter.

Every package holds policy.py, player.py, contract.json and weights.npz, and the user's adapter.py.
"""

import ast
import base64
import io
import tarfile
import textwrap
import zipfile
import zlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from parl.deploy.contract import CONTRACT, WEIGHTS
from parl.deploy.export import numpy as numpy_form
from parl.deploy.submit import player

MARGIN = 0.7  # of the time that an action may take; after it the fallback acts


class Parts(NamedTuple):
    """What packages are made of."""

    contract: bytes
    weights: bytes
    adapter: str | None  # the source of the user's module
    seconds: float  # that an action may take
    first: float  # likewise the first one

    @property
    def files(self) -> dict[str, bytes]:
        """The files that every package holds, by name."""
        assert player.__file__ is not None
        found = {
            "policy.py": numpy_form.source().encode(),
            "player.py": Path(player.__file__).read_bytes(),
            CONTRACT: self.contract,
            WEIGHTS: self.weights,
        }
        return found if self.adapter is None else found | {"adapter.py": self.adapter.encode()}

    @property
    def limits(self) -> str:
        """The last arguments of a Player."""
        return f"{MARGIN * self.seconds:g}, {MARGIN * self.first:g}"

    @property
    def importing(self) -> str:
        """The statements that import the adapter."""
        return "adapter = None" if self.adapter is None else "import adapter"


class Package(NamedTuple):
    """What is sent."""

    file: str  # its name; of a directory the name with / behind
    files: dict[str, bytes]  # all that lies in it, by path
    entry: str  # the file that is run or imported
    write: Callable[[Path, dict[str, bytes]], None]


def plain(parts: Parts) -> Package:
    """A directory with play.py: `reset()` and `act(observation)`."""
    return Package("package/", parts.files | {"play.py": play(parts).encode()}, "play.py", folder)


def play(parts: Parts) -> str:
    """play.py: a module that acts, whatever it is imported by."""
    return f'''"""Acts with the policy beside this file: `reset()` opens a game, then `act(obs)`."""

import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import player
import policy

{parts.importing}
PLAYER = player.Player(lambda: policy.load(HERE), adapter, {parts.limits})
reset, act = PLAYER.reset, PLAYER.act
'''


def kaggle(parts: Parts) -> Package:
    """main.py alone, whose last function is the agent: Kaggle runs it without a directory."""
    source = one_file(parts) + textwrap.dedent('''

    def agent(observation, configuration):
        """The move for an observation of Kaggle's."""
        if not observation.get("step", 0):
            PLAYER.reset()
        return PLAYER.act(observation, configuration)
    ''')
    return Package("main.py", {"main.py": source.encode()}, "main.py", single)


def lux(parts: Parts) -> Package:
    """A tar.gz of main.py: an agent for Kaggle, and a loop over lines of JSON for the engine."""
    source = one_file(parts) + textwrap.dedent('''

    def plain(move):
        """A move as JSON has it."""
        return move.tolist() if hasattr(move, "tolist") else move


    def answer(line):
        """The line that answers a line of the engine's."""
        raw = json.loads(line)
        CONFIG.update(raw.get("info", {}).get("env_cfg", {}))
        if not raw.get("step", 0):
            PLAYER.reset()
        return json.dumps({"action": plain(PLAYER.act(raw, CONFIG))})


    CONFIG = {}


    def agent_fn(observation, configurations):
        """The move for an observation of Kaggle's, which has the engine's as text."""
        obs = observation.obs
        raw = {
            "step": observation.step,
            "obs": json.loads(obs) if isinstance(obs, str) else obs,
            "remainingOverageTime": observation.remainingOverageTime,
            "player": observation.player,
        }
        if not raw["step"]:
            PLAYER.reset()
        return {"action": plain(PLAYER.act(raw, configurations["env_cfg"]))}


    if __name__ == "__main__":
        import sys

        for line in sys.stdin:
            print(answer(line), flush=True)
    ''')
    return Package("submission.tar.gz", {"main.py": source.encode()}, "main.py", archive_tar)


def one_file(parts: Parts) -> str:
    """The head of a main.py that holds all files of a package, and makes its PLAYER."""
    files = {n: bare(x) if n.endswith(".py") else x for n, x in parts.files.items()}
    packed = base64.b85encode(zlib.compress(joined(files), 9)).decode()
    adapter = "None" if parts.adapter is None else 'module("adapter")'
    return f'''"""Plays with a policy that PARL exported: FILES holds it, and what runs it."""

import base64
import io
import json
import sys
import types
import zipfile
import zlib

FILES = "{packed}"
FILES = zipfile.ZipFile(io.BytesIO(zlib.decompress(base64.b85decode(FILES))))


def module(name):
    """A module of FILES."""
    made = types.ModuleType(name)
    made.__file__ = name + ".py"
    sys.modules.setdefault(name, made)
    exec(compile(FILES.read(name + ".py"), name + ".py", "exec"), made.__dict__)
    return made


def load():
    """The policy of FILES."""
    return module("policy").load_bytes(FILES.read("{CONTRACT}"), FILES.read("{WEIGHTS}"))


PLAYER = module("player").Player(load, {adapter}, {parts.limits})
'''


def bare(source: bytes) -> bytes:
    """A module without comments and docstrings, for files whose size is limited."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        if (
            isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef | ast.AsyncFunctionDef)
            and ast.get_docstring(node) is not None
        ):
            node.body = node.body[1:] or [ast.Pass()]
    return ast.unparse(tree).encode()


def grid(parts: Parts) -> Package:
    """A zip of metadata and submission/, whose `make_agent(env, path)` makes a grid2op agent."""
    source = f'''"""An agent for grid2op: `make_agent(env, this_directory_path)`."""

import sys
from pathlib import Path

from grid2op.Agent import BaseAgent

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import player
import policy

{parts.importing}


class WithDoNothing:
    """The adapter, with doing nothing as the action that is always allowed."""

    def __getattr__(self, name):
        if name == "fallback" and not hasattr(adapter, name):
            return lambda raw, config: config({{}})
        return getattr(adapter, name)


PLAYER = player.Player(lambda: policy.load(HERE), WithDoNothing(), {parts.limits})


class Agent(BaseAgent):
    """Plays with the policy; `config` of the adapter is the action space."""

    def reset(self, obs):
        PLAYER.reset()

    def act(self, observation, reward, done=False):
        return PLAYER.act(observation, self.action_space)


def make_agent(env, this_directory_path):
    """The agent for an environment."""
    return Agent(env.action_space)
'''
    files = {f"submission/{name}": data for name, data in parts.files.items()}
    files["submission/__init__.py"] = source.encode()
    files["metadata"] = b"description: a policy that PARL exported\n"
    return Package("submission.zip", files, "submission/__init__.py", archive_zip)


def myo(parts: Parts) -> Package:
    """Files for the organisers' repository: agent/, a Dockerfile and requirements.

    Their module `utils` is the client of the environment; it is not a part of the package.
    """
    source = f'''"""An agent for MyoChallenge, which asks the environment over gRPC."""

import os
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import player
import policy
from utils import RemoteConnection

{parts.importing}
PLAYER = player.Player(lambda: policy.load(HERE), adapter, {parts.limits})
PORT = os.environ.get("PARL_PORT", "8085")  # the organisers' phases have different ones


def main():
    """Plays trials until the environment says that the evaluation is over."""
    time.sleep(float(os.environ.get("PARL_WAIT", "10")))  # until the environment is there
    host = "environment" if os.environ.get("LOCAL_EVALUATION") else "localhost"
    connection = RemoteConnection(host + ":" + PORT)
    keys = getattr(adapter, "KEYS", None)  # of the observations that the policy was trained on
    if keys:
        connection.set_output_keys(list(keys))
    over = False
    while not over:
        PLAYER.reset()
        obs, ended = connection.reset(), False
        while not ended and not over:
            answer = connection.act_on_environment(PLAYER.act(obs))
            obs, _, ended = answer["feedback"][:3]
            over = bool(answer["eval_completed"])


if __name__ == "__main__":
    main()
'''
    dockerfile = (
        "FROM python:3.11-slim\nENV PYTHONUNBUFFERED 1\nADD ./agent /\nADD ./utils /\n"
        "ADD requirements/agent_parl.txt /\nRUN pip install -r agent_parl.txt\n"
        'CMD ["python", "agent_parl.py"]\n'
    )
    files = {f"agent/{name}": data for name, data in parts.files.items()}
    files["agent/agent_parl.py"] = source.encode()
    files["docker/agent/Dockerfile_parl"] = dockerfile.encode()
    files["requirements/agent_parl.txt"] = b"numpy\ngrpcio\nprotobuf\ngymnasium\n"
    return Package("submission.zip", files, "agent/agent_parl.py", archive_zip)


def poke(parts: Parts) -> Package:
    """A zip of main.py: a player of poke-env that battles on a Showdown server."""
    source = f'''"""Battles on a Showdown server: python main.py --server ADDRESS --user NAME."""

import argparse
import asyncio
import os
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE))

import player
import policy
from poke_env import AccountConfiguration, ServerConfiguration
from poke_env.player import Player as Battler

{parts.importing}


class WithDefault:
    """The adapter, with Showdown's default as the order that is always allowed."""

    def __getattr__(self, name):
        if name == "fallback" and not hasattr(adapter, name):
            return lambda raw, config: config.choose_default_move()
        return getattr(adapter, name)


PLAYER = player.Player(lambda: policy.load(HERE), WithDefault(), {parts.limits})


class Agent(Battler):
    """Plays with the policy; `config` of the adapter is this player, which makes orders."""

    battle = None  # the tag of the battle that is played

    def choose_move(self, battle):
        if battle.battle_tag != self.battle:
            self.battle = battle.battle_tag
            PLAYER.reset()
        return PLAYER.act(battle, self)


def main():
    """Plays battles on the ladder; the password is in SHOWDOWN_PASSWORD."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--server", default="localhost:8000")
    parser.add_argument("--user", required=True)
    parser.add_argument("--format", default="gen9randombattle")
    parser.add_argument("--battles", type=int, default=10)
    given = parser.parse_args()
    scheme = "ws" if given.server.startswith(("localhost", "127.0.0.1")) else "wss"
    server = ServerConfiguration(
        f"{{scheme}}://{{given.server}}/showdown/websocket",
        "https://play.pokemonshowdown.com/action.php?",
    )
    account = AccountConfiguration(given.user, os.environ.get("SHOWDOWN_PASSWORD"))
    agent = Agent(
        account_configuration=account,
        server_configuration=server,
        battle_format=given.format,
        max_concurrent_battles=1,
    )
    asyncio.run(agent.ladder(given.battles))
    print(f"{{agent.n_won_battles}} of {{agent.n_finished_battles}} battles won")


if __name__ == "__main__":
    main()
'''
    files = parts.files | {"main.py": source.encode(), "requirements.txt": b"numpy\npoke-env\n"}
    return Package("submission.zip", files, "main.py", archive_zip)


# --- archives, with nothing in them that differs from time to time ------------------------------


def joined(files: Mapping[str, bytes]) -> bytes:
    """A zip of files that is not compressed, so that it can be as a whole."""
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_STORED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), data)
    return file.getvalue()


def folder(path: Path, files: dict[str, bytes]) -> None:
    """Writes files to a directory."""
    for name, data in files.items():
        file = path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(data)


def single(path: Path, files: dict[str, bytes]) -> None:
    """Writes the only file."""
    (data,) = files.values()
    path.write_bytes(data)


def archive_zip(path: Path, files: dict[str, bytes]) -> None:
    """Writes a zip."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in sorted(files.items()):
            archive.writestr(zipfile.ZipInfo(name), data, zipfile.ZIP_DEFLATED, 9)


def archive_tar(path: Path, files: dict[str, bytes]) -> None:
    """Writes a tar.gz."""
    with tarfile.open(path, "w:gz", compresslevel=9) as archive:
        for name, data in sorted(files.items()):
            info = tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))


def unpacked(path: Path) -> dict[str, bytes]:
    """The files of a package that was written, by their paths in it."""
    if path.is_dir():
        files = (file for file in path.rglob("*") if file.is_file())
        return {str(file.relative_to(path)): file.read_bytes() for file in files}
    if path.suffix == ".zip":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    if path.suffix == ".gz":
        with tarfile.open(path) as archive:
            members = ((member.name, archive.extractfile(member)) for member in archive)
            return {name: file.read() for name, file in members if file is not None}
    return {path.name: path.read_bytes()}
