"""Pages that follow from the code: algorithms, environments, the interface.

    PYTHONPATH=. python docs/generate.py

writes docs/algorithms, environments, api and about, as the build does itself.
"""

import ast
import dataclasses
import importlib.util
import inspect
import re
import shutil
import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from docstrings import linked, markdown

import parl
from parl.core.spec import EnvSpec
from parl.envs.builtin import JAX_ENVS
from parl.envs.factory import make_factory
from parl.envs.suites import SUITES
from parl.recipes import KINDS, RECIPES, fits, recipe_class

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "experiments" / "RESULTS.md"
FOLDERS = ("algorithms", "environments", "api", "about")
IMAGE = parl.Box((84, 84, 4), "uint8", 0, 255)
MODULES = {  # beside the names of `parl` itself
    "core": ["parl.core.algorithm", "parl.core.model", "parl.core.types", "parl.core.spec"],
    "envs": ["parl.envs.protocol"],
    "ops": [
        "parl.ops.returns",
        "parl.ops.distributions",
        "parl.ops.values",
        "parl.ops.value_distributions",
        "parl.ops.noise",
        "parl.ops.statistics",
        "parl.ops.ratings",
    ],
    "models": ["parl.models.mlp", "parl.models.heads", "parl.models.recurrent", "parl.models.nnx"],
    "agents": ["parl.agents.learner", "parl.agents.replay.ring", "parl.agents.replay.sampling"],
    "recipes": ["parl.recipes.base"],
}


def all_pages() -> dict[str, str]:
    """All generated pages, by their paths without the suffix."""
    return {**algorithm_pages(), **environment_pages(), **api_pages(), **about_pages()}


def write_all(docs: Path) -> None:
    """Writes all generated pages, those that changed alone."""
    pages = all_pages()
    for name, text in pages.items():
        file = docs / f"{name}.md"
        file.parent.mkdir(exist_ok=True)
        if not file.exists() or file.read_text() != text:
            file.write_text(text)
    for folder in FOLDERS:
        for file in (docs / folder).glob("*.md"):
            if f"{folder}/{file.stem}" not in pages:
                file.unlink()
    for name in RECIPES:
        for picture in pictures(name):
            shutil.copy2(picture, docs / "algorithms" / picture.name)
    for picture in RESULTS.parent.rglob("results/**/*.png"):
        shutil.copy2(picture, docs / "about" / picture.name)


def table(head: Iterable[str], rows: Iterable[Iterable[Any]]) -> str:
    """A table in Markdown."""
    lines = [list(head), ["---"] * len(list(head))]
    lines += [[str(cell).replace("\n", " ") for cell in row] for row in rows]
    return "\n".join("| " + " | ".join(line) + " |" for line in lines)


def first_line(text: str | None) -> str:
    """The first line of a docstring."""
    return (text or "").strip().split("\n")[0]


def toctree(names: Iterable[str], *options: str) -> str:
    """A list of pages."""
    return "\n".join(["```{toctree}", *(f":{each}:" for each in options), "", *names, "```"])


# --- algorithms -----------------------------------------------------------------------------


def algorithm_pages() -> dict[str, str]:
    """A page for each recipe, and one that lists them."""
    pages = {f"algorithms/{name}": algorithm_page(name) for name in RECIPES}
    rows = [
        (
            f"[`{name}`]({name}.md)",
            serves(recipe_class(name)),
            first_line(recipe_class(name).__doc__),
        )
        for name in RECIPES
    ]
    head = "# Algorithms\n\n" + INDEX.strip() + "\n\n"
    index = head + table(("name", "actions", "what it is"), rows)
    pages["algorithms/index"] = f"{index}\n\n{toctree(RECIPES, 'hidden')}\n"
    return pages


INDEX = """
`parl train NAME --env ID` trains with one of these; `auto` picks one and says why. Each page is
made from the code: the paper and the equations from the algorithm's own file, the settings and
their reasons from its recipe, and the rows of [all results](../about/results.md) of its command.
"""


def algorithm_page(name: str) -> str:
    """All that there is to know about an algorithm."""
    recipe: Any = recipe_class(name)
    default = default_algorithm(recipe)
    algorithm = around(name, type(default))
    module = importlib.import_module(algorithm.__module__)
    origin = importlib.import_module(recipe.__module__)
    parts = [
        f"# {name}",
        linked(recipe.__doc__ or ""),
        command(name, recipe),
        facts(recipe, default if algorithm is type(default) else algorithm(default)),
        "## Paper and equations",
        markdown(module.__doc__ or ""),
        *equations(algorithm),
        f"Code: `{algorithm.__module__}.{algorithm.__qualname__}`.",
        "## The recipe, its reasons, and what differs from the paper",
        markdown(origin.__doc__ or "The settings are those of the paper."),
        *settings(recipe),
        "## Results",
        *results(name),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def default_algorithm(recipe: Any) -> Any:
    """The algorithm of a recipe with its default settings."""
    return next(f.default for f in dataclasses.fields(recipe) if f.name == "algorithm")


def around(name: str, inner: type) -> type:
    """The algorithm of that name where it is one around another, such as PSRO, else `inner`."""
    home = f"parl.algorithms.{name}"
    if importlib.util.find_spec(home) is None:
        return inner
    members = {key.lower(): found for key, found in vars(importlib.import_module(home)).items()}
    return members.get(name.replace("_", ""), inner)


def serves(recipe: Any) -> str:
    """Which actions an algorithm has, of how many agents."""
    kinds = ", ".join(KINDS[kind.__name__] for kind in recipe.serves)
    return f"{kinds}; several agents" if recipe.multi_agent else kinds


def command(name: str, recipe: Any) -> str:
    """A command that trains with it."""
    env = next(
        (spec.id for spec in samples() if fits(recipe, spec) and "sample" not in spec.id), "ID"
    )
    words = f"parl train {name} --env {env}"
    if recipe.needs_data:
        words += " --data DIR"
    if name == "dagger":
        words += " --teacher RUN"
    return f"```sh\n{words}\n```"


def facts(recipe: Any, algorithm: Any) -> str:
    """Where it runs."""
    found = [f"**Actions:** {serves(recipe)}."]
    if recipe.needs_data:
        found.append("**Learns from** a data set; no environment is stepped.")
    elif getattr(recipe, "takes_data", False) and not recipe.multi_agent:
        found.append("**Learns from** replay, which a data set can fill (`--data`).")
    elif hasattr(recipe, "takes_data"):
        found.append("**Learns from** replay.")
    else:
        found.append("**Learns from** each rollout once.")
    lag = algorithm.tolerates_lag
    found.append(f"**On Ray:** synchronously{' or asynchronously (`--mode async`)' * bool(lag)}.")
    return "\n".join(f"- {each}" for each in found)


def equations(algorithm: Any) -> list[str]:
    """What the algorithm and its own methods say of themselves."""
    found = (
        [linked(inspect.cleandoc(algorithm.__doc__ or ""))] if "__doc__" in vars(algorithm) else []
    )
    rows = []
    for name, member in vars(algorithm).items():
        text = inspect.cleandoc(getattr(member, "__doc__", None) or "")
        if not name.startswith("_") and inspect.isfunction(member) and text:
            rows.append((f"`{name}`", linked(" ".join(text.split()))))
    rows = [row for row in rows if row[0] not in ("`replace`",)]
    return [*found, table(("function", "what it computes"), rows)] if rows else found


def samples() -> list[EnvSpec]:
    """An environment of each kind."""
    ids = (
        "jax:CartPole-v1",
        "jax:Pendulum-v1",
        "jax:simple_spread",
        "jax:simple_spread_continuous",
        "jax:tic_tac_toe",
    )
    named = [make_factory(id).spec for id in ids]
    images = EnvSpec("sample-images", IMAGE, parl.Discrete(6), max_steps=1000)
    return [*named, images]


TITLES = (
    "vectors, discrete",
    "vectors, Box",
    "agents, discrete",
    "agents, Box",
    "agents in turn",
    "images, discrete",
)


def settings(recipe: Any) -> list[str]:
    """A table of all settings with their values for each kind of environment."""
    able = [(title, recipe.for_env(spec)) for title, spec in zip(TITLES, samples(), strict=True)
            if fits(recipe, spec)]  # fmt: skip
    if not able:
        able = [("default", recipe())]
    values = [made.settings() for _, made in able]
    rows = []
    for name in values[0]:
        cells = [f"`{each.get(name, '-')}`" for each in values]
        rows.append((f"`{name}`", *cells, linked(able[0][1].declared(name).doc or "")))
    head = ("setting", *(title for title, _ in able), "meaning")
    return [
        "### Settings",
        "A flag of `parl train`, a line of a YAML file or a keyword each.",
        table(head, rows),
    ]


def results(name: str) -> list[str]:
    """The rows of RESULTS.md that begin with its command, and its curves."""
    rows = result_rows(name)
    found = []
    if rows:
        head = ("command", "commit", "seeds", "returns", "mean", "reference", "time")
        found.append(table(head, rows))
    for picture in pictures(name):
        found.append(f"![{name}: {picture.stem}]({picture.name})")
    if not found:
        found.append(
            "No run of this algorithm is recorded alone. Its equations are tested; studies that "
            "compare several algorithms are among [all results](../about/results.md)."
        )
    return found


def result_rows(name: str) -> list[list[str]]:
    """The cells of the rows of an algorithm, seven each, without links."""
    found = []
    for line in RESULTS.read_text().splitlines():
        if not re.match(rf"\| *`parl train {re.escape(name)} ", line):
            continue
        cells = [cell.strip() for cell in re.split(r"(?<!\\)\|", line.strip().strip("|"))]
        cells = [re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", cell) for cell in cells]
        found.append((cells + [""] * 7)[:7])
    return found


def pictures(name: str) -> list[Path]:
    """Curves of an algorithm: results/NAME-ENV.png."""
    return sorted((ROOT / "experiments" / "results").glob(f"{name}-*.png"))


# --- environments ---------------------------------------------------------------------------


def environment_pages() -> dict[str, str]:
    """The built-in environments, and the suites of others."""
    one, several = [], []
    for name in JAX_ENVS:
        if name.endswith("_continuous"):
            continue
        factory = make_factory(f"jax:{name}")
        spec: EnvSpec = factory.spec
        module = sys.modules[type(unwrapped(factory.jax)).__module__]
        row = (f"`jax:{name}`", linked(first_line(module.__doc__)), f"{spec.action_space}",
               f"{spec.max_steps or '-'}")  # fmt: skip
        (several if spec.num_agents else one).append(
            row if not spec.num_agents else (*row, str(spec.num_agents))
        )
    head = ("id", "what it is", "actions", "steps at most")
    suites = [
        (
            f"`{s.prefix or '(none)'}`",
            s.title,
            f"`pip install {s.pip}`" if s.pip else "comes with PARL",
        )
        for s in SUITES
        if s.prefix != "jax:"
    ]
    text = "\n\n".join(
        [
            "# Environments",
            ENVIRONMENTS.strip(),
            "## Built in, one agent",
            table(head, one),
            "## Built in, several agents",
            CONTINUOUS,
            table((*head, "agents"), several),
            "## Of other packages",
            table(("prefix", "what it is", "to install"), suites),
            ARGUMENTS.strip(),
        ]
    )
    return {"environments/index": text + "\n"}


ENVIRONMENTS = """
`--env ID` names an environment: a bare id is Gymnasium's, a prefix is that of a suite, and
`my_lab.maze:Maze` is a class or a function of yours. Environments that are written in JAX run fused
with learning; all others run on the host or on rollout actors. `parl list` says what is installed.
"""
CONTINUOUS = (
    "A name that ends in `_continuous` has actions in a Box; `simple_spread-5` has five agents."
)
ARGUMENTS = """
## Arguments and own environments

Arguments stand behind a question mark, `'FrozenLake-v1?is_slippery=False&map_name=8x8'`, or in
`--env-arg name=value`. How to write an environment of your own, in Gymnasium or in JAX, is a
[tutorial](../tutorials/own_environment.md); `parl.check_env(env)` says what is wrong with one.
"""


def unwrapped(env: Any) -> Any:
    """The environment inside its wrappers."""
    return unwrapped(env.env) if hasattr(env, "env") else env


# --- results and changes --------------------------------------------------------------------


def about_pages() -> dict[str, str]:
    """RESULTS.md and CHANGELOG.md, whose links lead to files that are not pages."""
    texts = {"results": RESULTS.read_text(), "changelog": (ROOT / "CHANGELOG.md").read_text()}
    return {f"about/{name}": without_links(text) for name, text in texts.items()}


def without_links(text: str) -> str:
    """Markdown with its pictures beside it, and without links to files."""
    text = re.sub(r"(!\[[^]]*\])\((?:[^)]*/)?([^)/]+)\)", r"\1(\2)", text)
    return re.sub(r"(?<!!)\[([^]]*)\]\((?!https?:)[^)]*\)", r"\1", text)


# --- interface ------------------------------------------------------------------------------


def api_pages() -> dict[str, str]:
    """The names of `parl`, and the modules that own algorithms and models build on."""
    face = ["# parl", "Names are loaded when they are first used, so that `import parl` is quick."]
    face += [directive(name) for name in parl.HOMES]
    pages = {"api/parl": "\n\n".join(face) + "\n"}
    for title, modules in MODULES.items():
        parts = [f"# parl.{title}", *(module_page(each) for each in modules)]
        pages[f"api/{title}"] = "\n\n".join(parts) + "\n"
    index = "# Interface\n\nMade from the docstrings.\n\n" + toctree(["parl", *MODULES])
    pages["api/index"] = index + "\n"
    return pages


def directive(name: str) -> str:
    """What autodoc is asked for a name of `parl`."""
    home = parl.HOMES[name]
    found = getattr(importlib.import_module(home), name)
    kind = "function" if inspect.isfunction(found) else "class"
    return block(f"auto{kind}:: parl.{name}")


def module_page(name: str) -> str:
    """A module with all that its file defines."""
    file = ROOT / (name.replace(".", "/") + ".py")
    text = ast.get_docstring(ast.parse(file.read_text())) or ""
    parts = [f"## {name}", markdown(text)]
    module = importlib.import_module(name)
    for member, found in vars(module).items():
        if (
            member.startswith("_")
            or getattr(found, "__module__", None) != name
            or not found.__doc__
        ):
            continue
        if inspect.isfunction(found) or inspect.isclass(found):
            kind = "function" if inspect.isfunction(found) else "class"
            hidden = parl.HOMES.get(member) == name
            parts.append(block(f"auto{kind}:: {name}.{member}" + "\n   :no-index:" * hidden))
    return "\n\n".join(parts)


def block(text: str) -> str:
    """reStructuredText within Markdown."""
    return "```{eval-rst}\n.. " + text + "\n```"


if __name__ == "__main__":
    write_all(Path(__file__).parent)
