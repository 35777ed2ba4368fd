"""Parses command-line flags into dataclasses.

Invalid flags raise ConfigError.
"""

import contextlib
import dataclasses
import io
import itertools
import re
import typing
from pathlib import Path
from typing import Annotated, Any

import tyro

from parl.core.errors import ConfigError
from parl.core.settings import check_fields, converted, kinds, names_of, suggestion
from parl.core.store import refuse_uri
from parl.core.yaml_text import parse_yaml


@dataclasses.dataclass(frozen=True)
class Flags:
    """Base of the commands' flags; values are checked on creation."""

    def __post_init__(self) -> None:
        check_fields(self)


def flag_of(name: str, doc: str) -> Any:
    """The name and help of a setting's flag; the underscore of `lambda_` is dropped."""
    return tyro.conf.arg(name=name.rstrip("_").replace("_", "-"), help=doc)


# a directory of this machine, or a URI in a store
Place = Annotated[Path | None, tyro.conf.arg(metavar="DIR|URI")]
MAY_BE_URIS = tuple(typing.get_args(kind)[1:] for kind in (Place, tyro.conf.Positional[Path]))
FLAGS = tyro.constructors.ConstructorRegistry()
WORDS = {"true": True, "false": False, "none": None}


@FLAGS.primitive_rule
def as_setting(info: tyro.constructors.PrimitiveTypeInfo) -> Any:
    """Parses numbers, switches and lists like those in a settings file."""
    kind, many = info.type, typing.get_origin(info.type) is tuple
    if not (many or {kind, *typing.get_args(kind)} & {int, float, bool}):
        return None  # words and paths, as tyro reads them
    item = typing.get_args(kind)[0] if many else kind
    if many and item not in (int, float):
        return None

    def read(words: list[str]) -> Any:
        texts = re.split(r"[\s,]+", " ".join(words).strip("[]() ,")) if many else words
        values = [value_of(text) for text in texts if text or not many]
        try:
            found = [converted(value, item) for value in values]
        except (TypeError, ValueError, OverflowError):
            said = " or ".join(names_of(kind))
            raise ValueError(f"must be {said}, not '{' '.join(words)}'") from None
        return tuple(found) if many else found[0]

    return tyro.constructors.PrimitiveConstructorSpec(
        nargs="*" if many else 1,
        metavar=names_of(item)[0].upper() + " ..." * many,
        instance_from_str=read,
        is_instance=lambda value: True,
        str_from_instance=lambda value: [str(x) for x in (value if many else (value,))],
    )


def value_of(text: str) -> Any:
    """A number, True, False or None in any case; other text is unchanged."""
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    try:
        return parse_yaml(text)
    except ConfigError:
        return text


def switched(shape: type, arguments: list[str]) -> list[str]:
    """Gives every switch a value: --quiet becomes --quiet True, --no-quiet becomes False."""
    switches = {flag_name(n) for n, kind in kinds(shape).items() if kind is bool}
    words = []
    for i, word in enumerate(arguments):
        following = arguments[i + 1].lower() if i + 1 < len(arguments) else ""
        name = word.replace("_", "-")
        if name in switches and following not in WORDS:
            words += [word, "True"]
        elif name.startswith("--no-") and "--" + name[5:] in switches:
            words += ["--" + name[5:], "False"]
        else:
            words.append(word)
    return words


def flag_name(name: str) -> str:
    """The flag of a setting."""
    return f"--{name.rstrip('_').replace('_', '-')}"


def parse(
    shape: type, arguments: list[str], prog: str, default: Any = None, description: str = ""
) -> Any:
    """Parses flags into a dataclass. Raises ConfigError for unknown flags or invalid values."""
    options = {} if default is None else {"default": default}
    said = io.StringIO()
    try:
        with contextlib.redirect_stderr(said):
            flags, rest = tyro.cli(
                shape,
                prog=prog,
                description=description,
                args=switched(shape, arguments),
                return_unknown_args=True,
                config=(tyro.conf.FlagConversionOff,),
                registry=FLAGS,
                **options,
            )
    except SystemExit as stop:
        if not stop.code:
            raise
        raise ConfigError(f"{first_sentence(said.getvalue())}; see {prog} --help.") from stop
    check_paths(shape, flags)
    if rest:
        names = [f.name for f in dataclasses.fields(shape)]
        raise unknown_flag(rest[0].partition("=")[0], names, prog)
    return flags


def check_paths(shape: type, flags: Any) -> None:
    """Raises ConfigError for a URI where a path of this machine is needed.

    Positional paths, such as those of runs, may be URIs, and those of type `Place`.
    """
    for name, hint in typing.get_type_hints(shape, include_extras=True).items():
        if getattr(hint, "__metadata__", ()) not in MAY_BE_URIS:
            value = getattr(flags, name, None)
            for each in value if isinstance(value, tuple) else (value,):
                if isinstance(each, Path):
                    refuse_uri(each, flag_name(name))


def first_sentence(box: str) -> str:
    """The text of a tyro error box between its title and the next rule."""
    lines = [line.strip(" │|") for line in box.splitlines()[1:]]
    is_rule = lambda line: set(line) <= set("─-╰╯")
    body = list(itertools.dropwhile(is_rule, lines))
    return " ".join(itertools.takewhile(lambda line: not is_rule(line), body)).rstrip(".")


def unknown(what: str, name: str, known: list[str]) -> ConfigError:
    """The error for a setting that does not exist."""
    hint = suggestion(name, known)
    return ConfigError(f"unknown {what} '{name}'.{hint} Known: {', '.join(known)}.")


def unknown_flag(word: str, names: list[str], prog: str) -> ConfigError:
    """The error for a flag that does not exist."""
    if not word.startswith("-"):
        return ConfigError(f"{prog} takes no argument '{word}'; see {prog} --help.")
    hint = suggestion(word, [flag_name(n)[2:].replace("-", "_") for n in names])
    head, _, name = hint.partition("Did you mean ")
    hint = f"{head}Did you mean --{name.replace('_', '-')}" if name else hint
    return ConfigError(f"unknown flag '{word}'.{hint} See {prog} --help.")


def flag_values(arguments: list[str], flag: str) -> list[str]:
    """All values of a flag, without parsing the others."""
    found = []
    for i, argument in enumerate(arguments):
        if argument == flag and i + 1 < len(arguments):
            found.append(arguments[i + 1])
        elif argument.startswith(flag + "="):
            found.append(argument.partition("=")[2])
    return found
