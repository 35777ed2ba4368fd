"""Docstrings, which are plain English, as reStructuredText and as Markdown."""

import re
import textwrap
from typing import Any

ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")
DOI = re.compile(r"doi:(10\.\d{4,9}/[^\s,;)]*[^\s,;).])")


def as_rst(app: Any, what: str, name: str, obj: Any, options: Any, lines: list[str]) -> None:
    """Replaces the lines of a docstring, for autodoc: nothing in them is markup."""
    found: list[str] = []
    for paragraph in paragraphs("\n".join(lines)):
        found += [*rst(paragraph), ""]
    lines[:] = found


def paragraphs(text: str) -> list[str]:
    """The parts between empty lines; what is indented stays so."""
    text = textwrap.dedent(text.expandtabs())
    return [part.strip("\n") for part in re.split(r"\n\s*\n", text) if part.strip()]


def rst(paragraph: str) -> list[str]:
    """One paragraph: code where it is indented, a list where it begins so, else text."""
    lines = paragraph.split("\n")
    if all(line.startswith((" ", ">>>")) for line in lines):
        return ["::", "", *(f"    {line.strip()}" for line in lines)]
    if lines[0].startswith("- "):
        joined = re.sub(r"\n(?!- )\s*", " ", paragraph)
        return [f"- {escaped(line[2:])}" for line in joined.split("\n")]
    return [escaped(" ".join(line.strip() for line in lines))]


def escaped(text: str) -> str:
    """Text without markup; `code` is literal, papers are links."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return plain(text)
    code = lambda x: f"``{x}``" if x.strip() == x and x else plain(x)
    return "".join(code(x) if i % 2 else plain(x) for i, x in enumerate(parts))


def plain(text: str) -> str:
    """Text in which reStructuredText finds no markup."""
    text = re.sub(r"([\\*|`])", r"\\\1", text)
    text = re.sub(r"_(?=\W|$)", r"\\_", text)
    return ARXIV.sub(r"`arXiv:\1 <https://arxiv.org/abs/\1>`__", text)


def markdown(text: str) -> str:
    """A docstring as Markdown: paragraphs, code where it is indented, papers as links."""
    found = []
    for paragraph in paragraphs(text):
        lines = paragraph.split("\n")
        if all(line.startswith((" ", ">>>")) for line in lines):
            found.append("```text\n" + textwrap.dedent(paragraph) + "\n```")
        else:
            found.append(linked(paragraph))
    return "\n\n".join(found)


def linked(text: str) -> str:
    """Markdown text in which papers are links and nothing else is markup by accident."""
    parts = text.split("`")
    if len(parts) % 2 == 0:
        return links(safe(text))
    return "`".join(x if i % 2 else links(safe(x)) for i, x in enumerate(parts))


def safe(text: str) -> str:
    """Text in which Markdown finds no markup."""
    return re.sub(r"([\\*_<>$\[\]|])", r"\\\1", text)


def links(text: str) -> str:
    """Papers as links."""
    text = ARXIV.sub(r"[arXiv:\1](https://arxiv.org/abs/\1)", text)
    return DOI.sub(r"[doi:\1](https://doi.org/\1)", text)
