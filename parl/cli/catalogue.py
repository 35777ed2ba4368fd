"""parl list: algorithms, environments and how to install them."""

import textwrap

from rich.table import Table

from parl.cli.printing import HELP, console
from parl.core.errors import ConfigError
from parl.envs.builtin import JAX_ENVS
from parl.envs.suites import SUITES, Suite, brought, is_installed
from parl.recipes import KINDS, RECIPES, recipe_class


def run(arguments: list[str]) -> int:
    """parl list."""
    if HELP & set(arguments):
        print("usage: parl list\n\nAlgorithms, and environments with how to install them.")
        return 0
    if arguments:
        raise ConfigError(f"list takes no arguments, not '{arguments[0]}'.")
    show()
    return 0


def show() -> None:
    """Prints both tables and the names of the built-in environments."""
    names = ", ".join(f"jax:{name}" for name in JAX_ENVS)
    console().print(algorithms(), "", suites(), "", "built in:")
    print(textwrap.fill(names, 100, initial_indent="  ", subsequent_indent="  "))


def algorithms() -> Table:
    """A table of algorithms, their action spaces and descriptions."""
    table = Table("algorithm", "action spaces", "what it is", box=None, title_justify="left")
    table.add_row("auto", "any", "Picks one of these for the environment.")
    for name in RECIPES:
        recipe = recipe_class(name)
        spaces = ", ".join(KINDS[kind.__name__] for kind in recipe.serves)
        table.add_row(name, spaces, (recipe.__doc__ or "").splitlines()[0])
    return table


def suites() -> Table:
    """A table of environment families, whether they are installed, and how to install them."""
    table = Table("prefix", "environments", "installed", "to install", box=None)
    for suite in [*SUITES, *brought()]:
        table.add_row(suite.prefix or "(none)", suite.title, *state(suite))
    return table


def state(suite: Suite) -> tuple[str, str]:
    """Whether a suite is installed, and the command to install it."""
    if not suite.ours:
        hidden = suite.prefix in {known.prefix for known in SUITES}
        return ("no, the prefix is PARL's" if hidden else "yes"), f"comes with {suite.title}"
    if suite.prefix == "jax:":
        return "yes", "comes with PARL"
    return "yes" if is_installed(suite) else "no", f"pip install {suite.pip}"
