"""The documentation: its pages are complete, its links lead somewhere, and it builds."""

import functools
import importlib.util
import itertools
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

import parl
from parl.recipes import RECIPES

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
LINK = re.compile(r"\]\(([^)\s#]+\.(?:md|png|svg))(?:#[^)]*)?\)")
FENCE = re.compile(r"^(```|:::).*?^\1\s*$", re.DOTALL | re.MULTILINE)


@functools.cache
def generated() -> dict[str, str]:
    """The pages that are made from the code, by their paths without the suffix."""
    sys.path.insert(0, str(DOCS))
    try:
        import generate  # pyright: ignore[reportMissingImports]
    finally:
        sys.path.remove(str(DOCS))
    return generate.all_pages()


@functools.cache
def pages() -> dict[str, str]:
    """All pages."""
    skipped = ("_build", *("algorithms", "environments", "api", "about", "jupyter_execute"))
    own = {
        file.relative_to(DOCS).with_suffix("").as_posix(): file.read_text()
        for file in DOCS.rglob("*.md")
        if file.relative_to(DOCS).parts[0] not in skipped
    }
    return own | generated()


def broken(pages: dict[str, str], exists: set[str]) -> list[str]:
    """Links of pages to pages and pictures that there are not."""
    found = []
    for name, text in pages.items():
        for target in LINK.findall(FENCE.sub("", text)):
            if "://" in target:
                continue
            path = (DOCS / name).parent / target
            place = Path(*path.parts).resolve()
            known = place.is_relative_to(DOCS) and (
                place.relative_to(DOCS).with_suffix("").as_posix() in pages or place.name in exists
            )
            if not known and not place.is_file():
                found.append(f"{name}: {target}")
    return found


def pictures() -> set[str]:
    """The names of the pictures that the build puts beside generated pages."""
    return {file.name for file in (ROOT / "experiments" / "results").rglob("*.png")}


def test_every_link_leads_to_a_page() -> None:
    assert broken(pages(), pictures()) == []
    wrong = {"start/why": "see [here](../concepts/no_such_page.md) and ![a](lost.png)"}
    assert broken(pages() | wrong, pictures()) == [
        "start/why: ../concepts/no_such_page.md",
        "start/why: lost.png",
    ]


def levels(page: str) -> list[int]:
    """The levels of a page's headings."""
    return [len(mark) for mark in re.findall(r"^(#+) ", FENCE.sub("", page), re.MULTILINE)]


def test_headings_go_down_one_by_one() -> None:
    """Sphinx takes a page without a title, or with a level left out, for a fault."""
    for name, text in pages().items():
        found = levels(text)
        assert found and found[0] == 1, f"{name} begins without a title"
        assert all(after <= before + 1 for before, after in itertools.pairwise(found)), (
            f"{name} leaves out a level"
        )
    assert levels("# a\n```sh\n# no\n```\n### c\n") == [1, 3]


RESERVED = {"search", "genindex", "modindex"}  # pages that Sphinx writes itself


def test_no_page_has_a_name_of_sphinx() -> None:
    assert not RESERVED & pages().keys()


def in_toctrees() -> set[str]:
    """The pages that some list of pages names."""
    found = set()
    for name, text in pages().items():
        for body in re.findall(r"^```\{toctree\}\n(.*?)^```", text, re.DOTALL | re.MULTILINE):
            entries = [x.strip() for x in body.splitlines() if x.strip() and x[0] != ":"]
            place = Path(name).parent
            found |= {(place / entry).as_posix() for entry in entries if entry != "*"}
            if "*" in entries:  # all pages beside it
                found |= {each for each in pages() if Path(each).parent == place}
    return found


def test_every_page_is_listed() -> None:
    assert pages().keys() - in_toctrees() - {"index"} == set()
    assert in_toctrees() <= pages().keys()


def test_every_algorithm_has_its_page() -> None:
    for name in RECIPES:
        page = generated()[f"algorithms/{name}"]
        for part in ("## Paper and equations", "## The recipe", "### Settings", "## Results"):
            assert part in page, f"{name} lacks {part}"
        assert f"parl train {name} --env " in page
    assert generated()["algorithms/index"].count("](") >= len(RECIPES)
    ppo = generated()["algorithms/ppo"]
    assert "https://arxiv.org/abs/1707.06347" in ppo and "Eq. 9: clipped surrogate" in ppo
    assert "| `clip` | `0.2` | `0.2` | `0.1` | Clipping range" in ppo
    assert "| `parl train ppo --env Hopper-v5 --steps 1000000" in ppo
    psro = generated()["algorithms/psro"]
    assert "Policy-space response oracles" in psro and "On Ray:** synchronously." in psro


def test_every_name_of_the_interface_is_told() -> None:
    for name in parl.HOMES:
        assert f":: parl.{name}\n" in generated()["api/parl"]


# --- Chinese ------------------------------------------------------------------------------------


def translation() -> Any:
    """docs/translation.py."""
    spec = importlib.util.spec_from_file_location("translation", DOCS / "translation.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_chinese_pages_say_what_the_english_ones_say() -> None:
    found = translation()
    for name in found.PAGES:
        page, catalogue = DOCS / f"{name}.md", found.CATALOGUES / f"{name}.po"
        assert found.stale(page.read_text(), catalogue.read_text()) == [], name


PAGE = """---
kernel: python3
---

# The title

A paragraph of `code`
in two lines.

```sh
not translated
```

| you want | take |
|---|---|
| this | [that](that.md) |
"""
CATALOGUE = """msgid ""
msgstr "Language: zh_CN\\n"

#: one.md
msgid "The title"
msgstr "标题"

msgid "A paragraph of `code` "
"in two lines."
msgstr "两行"

msgid "you want"
msgstr "您想要"

msgid "take"
msgstr "取"

msgid "this"
msgstr "这个"

msgid "[that](that.md)"
msgstr "[那个](that.md)"
"""


def test_stale_and_missing_messages_are_found() -> None:
    stale = translation().stale
    assert stale(PAGE, CATALOGUE) == []
    assert stale(PAGE.replace("two lines", "three lines"), CATALOGUE) == [
        "the English has changed: 'A paragraph of `code` in two lines.'",
        "not in the catalogue: 'A paragraph of `code` in three lines.'",
    ]
    assert stale(PAGE + "\nMore of it.\n", CATALOGUE) == ["not in the catalogue: 'More of it.'"]
    fuzzy = CATALOGUE.replace("#: one.md", "#, fuzzy")
    assert stale(PAGE, fuzzy) == ["fuzzy: 'The title'"]
    assert stale(PAGE, CATALOGUE.replace("标题", "")) == ["no translation: 'The title'"]


def test_changed_sections_of_the_readme_are_found() -> None:
    found = translation()
    readme = "# PARL\n\nintro\n\n## One\n\ntext\n\n## Two\n\nmore\n"
    unknown = "<!-- of: One 000000000000 -->\n文\n<!-- of: Three 000000000000 -->\n"
    chinese = found.accepted(readme, unknown)
    assert found.stale_sections(readme, chinese) == ["README.md has no section 'Three' any more"]
    said = found.stale_sections(readme.replace("text", "other text"), chinese)
    assert said[0] == "the section 'One' of README.md has changed"


# --- the build ----------------------------------------------------------------------------------


def build(source: Path, out: Path, execution: str = "off") -> str:
    """What Sphinx complains about; empty for a good build."""
    said = out.with_suffix(".warnings")
    command = [
        sys.executable,
        "-m",
        "sphinx",
        "-q",
        "-W",
        "--keep-going",
        "-j",
        "2",
        "-w",
        str(said),
    ]
    done = subprocess.run(
        [*command, str(source), str(out)],
        env={**os.environ, "PARL_DOCS_EXECUTION": execution},
        capture_output=True,
        text=True,
        timeout=800,
    )
    text = said.read_text()
    assert bool(done.returncode) == bool(text.strip()), done.stderr
    return text


sphinx = pytest.mark.skipif(
    not all(map(importlib.util.find_spec, ("sphinx", "furo", "myst_nb", "sphinx_copybutton"))),
    reason="the extra docs is not installed",
)


@sphinx
@pytest.mark.slow
def test_the_site_builds_and_its_tutorials_run(tmp_path: Path) -> None:
    assert build(DOCS, tmp_path / "html", execution="force") == ""
    page = (tmp_path / "html" / "tutorials" / "own_model.html").read_text()
    assert re.search(r"a return of \d+ after 6,\d\d\d steps", page)


@sphinx
@pytest.mark.slow
def test_a_broken_link_fails_the_build(tmp_path: Path) -> None:
    """And so does a page that no list names."""
    small = tmp_path / "docs"
    small.mkdir()
    for name in ("docstrings.py", "_static"):
        place = shutil.copytree if (DOCS / name).is_dir() else shutil.copy2
        place(DOCS / name, small / name)
    conf = (DOCS / "conf.py").read_text().replace("generate.write_all(DOCS)", "")
    conf = conf.replace("import generate  # noqa: E402\n", "")
    conf = conf.replace("str(DOCS.parent)", repr(str(ROOT)))
    (small / "conf.py").write_text(conf)
    (small / "index.md").write_text("# Pages\n\n```{toctree}\none\n```\n")
    (small / "one.md").write_text("# One\n\nback to [the first](index.md)\n")
    assert build(small, tmp_path / "good") == ""
    (small / "one.md").write_text("# One\n\nto [nowhere](two.md), [nothing](index.md#no)\n")
    said = build(small, tmp_path / "bad")
    assert "two.md" in said and "no" in said
    (small / "one.md").write_text("# One\n")
    (small / "lost.md").write_text("# Lost\n")
    assert "isn't included in any toctree" in build(small, tmp_path / "lost")
