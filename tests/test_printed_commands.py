"""Commands and calls that documents print are ones that the program takes; none of them is run."""

import ast
import contextlib
import dataclasses
import importlib
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import parl
from parl.cli import flags, train
from parl.cli.main import COMMANDS, dispatch
from parl.core.errors import ConfigError
from parl.core.loading import is_path
from parl.recipes import RECIPES, recipe_class
from parl.studies.space import read_space

ROOT = Path(__file__).parents[1]
GENERATED = {"algorithms", "api", "about", "environments", "_build", "jupyter_execute"}
BLOCK = re.compile(r"^```(?:sh|bash)\n(.*?)^```", re.DOTALL | re.MULTILINE)
FENCE = re.compile(r"^```.*?^```", re.DOTALL | re.MULTILINE)
CODE = re.compile(r"`([^`]+)`")
FLAG = re.compile(r"--[a-z][a-z0-9-]*")
STANDS_FOR = {"auto": "ppo"}  # any algorithm would do
FOREIGN = {  # flags of other programs: CleanRL's, and those of our scripts
    "docs/start/migration.md": {
        *("--env-id", "--total-timesteps", "--num-steps", "--update-epochs", "--num-minibatches"),
        *("--anneal-lr", "--gae-lambda", "--clip-coef", "--ent-coef", "--vf-coef"),
        *("--track", "--capture-video"),
    },
    "docs/serve.md": {"--requests", "--rounds", "--only"},
    "docs/submit.md": {"--run"},
    "README.md": {"--algorithm"},
}


class Parsed(Exception):
    """Ends a command once its flags are known to be good."""


def documents() -> dict[str, str]:
    """The texts that print commands, by their paths."""
    files = [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "examples").glob("*.py")]
    return {
        file.relative_to(ROOT).as_posix(): file.read_text()
        for file in files
        if not GENERATED & set(file.parts) and file.name != "CHANGELOG.md"
    }


def in_blocks(text: str) -> Iterator[str]:
    """The lines of shell blocks that call the program, from `parl` on."""
    for block in BLOCK.findall(text):
        for line in block.replace("\\\n", " ").splitlines():
            if not line.lstrip().startswith("#"):
                yield from re.findall(r"(?<![\w/'.`])parl [a-z].*", line)


def in_text(text: str) -> Iterator[str]:
    """The commands within sentences and tables."""
    for code in CODE.findall(FENCE.sub("", text)):
        if code.startswith("parl ") and "`" not in code:
            yield " ".join(code.split())


def words_of(command: str) -> list[str]:
    """The words after `parl`; what stands for something has a value, and [optional] ones count."""
    command = re.sub(r"\$\(\(.*?\)\)|\$\w+", "64", re.sub(r" [&|;]+( .*)?$", "", command))
    words = shlex.split(re.sub(r"\[|\]", "", command), comments=True)[1:]
    return [STANDS_FOR.get(word, word) for word in words if word not in ("...", "&")]


def without_environment(verb: str, algorithm: str = "ppo", *rest: Any) -> tuple[None, Any]:
    """The recipe of an algorithm; no environment is opened, and one of the user's own is PPO's."""
    shape: Any = recipe_class("ppo" if is_path(algorithm) else algorithm)
    return None, shape()


@pytest.fixture
def parsed(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """The flags that were parsed, of commands that go no further."""
    found: list[Any] = []

    def parse(shape: Any, arguments: list[str], *rest: Any) -> Any:
        if "--help" not in arguments:
            found.append(flags.parse(shape, arguments, *rest))
        raise Parsed

    for module in COMMANDS.values():
        home = importlib.import_module(module)
        if hasattr(home, "parse"):
            monkeypatch.setattr(home, "parse", parse)
    monkeypatch.setattr(train, "opened", without_environment)
    monkeypatch.setattr(train, "read_settings", lambda file: {})
    return found


def refused(words: list[str], found: list[Any]) -> str:
    """Why a command is refused; empty if it is not."""
    if words in (["list"], ["--version"], ["cluster", "status"], ["cluster", "stop"]):
        return ""  # these have no flags, and would do something
    del found[:]
    try:
        with contextlib.suppress(Parsed):
            dispatch(words)
            return "it was not parsed"
        if over := getattr(found[-1], "over", "") if found else "":
            read_space(over, without_environment(*words)[1])
    except ConfigError as error:
        return str(error)
    return ""


def test_commands_in_blocks_are_taken(parsed: list[Any]) -> None:
    wrong, count = {}, 0
    for name, text in documents().items():
        for command in dict.fromkeys(in_blocks(text)):
            count += 1
            if said := refused(words_of(command), parsed):
                wrong[f"{name}: {command}"] = said
    assert wrong == {} and count > 80
    assert "unknown flag '--step'" in refused(["train", "ppo", "--env", "X", "--step=3"], parsed)
    assert "--num-envs" in refused(["train", "ppo", "--env", "X", "--num-envs", "few"], parsed)
    assert "learning_rat" in refused(
        ["sweep", "ppo", "--env", "X", "--over", "learning_rat=1,2"], parsed
    )
    assert "unknown command" in refused(["trane"], parsed)


def all_flags() -> set[str]:
    """The flags of all commands and of all recipes, with those that switch one off."""
    shapes: list[Any] = [recipe_class(name) for name in RECIPES]
    for module in COMMANDS.values():
        shapes += [
            each
            for each in vars(importlib.import_module(module)).values()
            if isinstance(each, type) and issubclass(each, flags.Flags | train.TrainFlags)
        ]
    names = {field.name for shape in shapes for field in dataclasses.fields(shape)}
    names |= {name for shape in shapes[: len(RECIPES)] for name in shape().types()}
    known = {flags.flag_name(name) for name in names}
    return known | {f"--no-{name[2:]}" for name in known} | {"--help", "--debug", "--version"}


def test_commands_and_flags_in_sentences_exist() -> None:
    known, wrong = all_flags(), []
    for name, text in documents().items():
        for command in in_text(text):
            verb = command.split()[1]
            if verb not in COMMANDS and not verb.startswith("-"):
                wrong.append(f"{name}: {command}")
        for code in CODE.findall(FENCE.sub("", text)):
            if not re.match(r"(parl )?.*(pip|ray|git|sphinx|python|xparl) ", code):
                odd = {*FLAG.findall(code)} - known - FOREIGN.get(name, set())
                wrong += [f"{name}: {flag} of `{code}`" for flag in sorted(odd)]
    assert wrong == []


PYTHON = re.compile(r"^```(?:python|\{code-cell\} python3)\n(.*?)^```", re.DOTALL | re.MULTILINE)


def calls(text: str) -> Iterator[tuple[str, list[str]]]:
    """Names of `parl` that the blocks of a document call, with the keywords that they give."""
    for block in PYTHON.findall(text):
        try:
            found = ast.walk(ast.parse(block))
        except SyntaxError:  # a cell of IPython's, or an outline
            continue
        for node in found:
            name = ast.unparse(node.func) if isinstance(node, ast.Call) else ""
            if isinstance(node, ast.Call) and re.fullmatch(r"parl(\.\w+)+", name):
                yield name[5:], [each.arg for each in node.keywords if each.arg]


def odd_call(name: str, keywords: list[str], known: set[str]) -> str:
    """What is wrong with a call of the interface; empty if nothing is."""
    if name not in parl.HOMES:
        found = any(name.startswith(f"{each}.") for each in (*parl.HOMES, "ops", "envs", "models"))
        return "" if found else f"there is no parl.{name}"
    taken = inspect.signature(getattr(parl, name)).parameters
    allowed = {*taken}
    if any(each.kind is each.VAR_KEYWORD for each in taken.values()):
        allowed |= known if "settings" in taken else {*keywords}
    return ", ".join(f"parl.{name} takes no {each}" for each in keywords if each not in allowed)


def test_calls_in_python_blocks_are_taken() -> None:
    known = {each[2:].replace("-", "_") for each in all_flags()} | {"lambda_"}
    wrong, count = [], 0
    for document, text in documents().items():
        for name, keywords in calls(text) if document.endswith(".md") else ():
            count += 1
            if said := odd_call(name, keywords, known):
                wrong.append(f"{document}: {said}")
    assert wrong == [] and count > 40
    assert odd_call("train", ["step"], known) == "parl.train takes no step"
    assert odd_call("trane", [], known) == "there is no parl.trane"
