"""Whether the Chinese pages say what the English ones say now.

    python docs/translation.py

prints what is stale and exits with 1: messages of a catalogue whose English has changed, is
missing or is marked fuzzy, and sections of README.zh-CN.md whose English is another one than they
were made from. `python docs/translation.py --accept` writes the README's sections as they are now,
after they were translated anew.
"""

import hashlib
import re
import sys
from pathlib import Path

DOCS = Path(__file__).parent
ROOT = DOCS.parent
CATALOGUES = DOCS / "locale" / "zh_CN" / "LC_MESSAGES"
PAGES = (
    "index",
    *(f"start/{page}" for page in ("why", "install", "quickstart", "migration", "questions")),
    *(f"tutorials/{file.stem}" for file in sorted((DOCS / "tutorials").glob("*.md"))),
)
ENTRY = re.compile(r'((?:^#.*\n)*)^msgid ((?:".*"\n)+)^msgstr ((?:".*"\n?)+)', re.MULTILINE)
MARK = re.compile(r"<!-- of: (.*?) ([0-9a-f]{12}) -->")
CODE = re.compile(r"`[^`]*`")  # which is the same in all languages
WORDS = re.compile(r"[A-Za-z]{2,}")


def messages(catalogue: str) -> list[tuple[str, str, bool]]:
    """(English, translation, whether it is fuzzy) of each message of a catalogue."""
    found = []
    for notes, key, value in ENTRY.findall(catalogue):
        if english := joined(key):
            found.append((english, joined(value), "fuzzy" in notes))
    return found


def joined(literal: str) -> str:
    """The text of one or more quoted lines."""
    text = "".join(line[1:-1] for line in literal.strip().split("\n"))
    return text.replace('\\"', '"').replace("\\n", "\n").replace("\\\\", "\\")


def stale(page: str, catalogue: str) -> list[str]:
    """What is wrong with the catalogue of a page of Markdown, a sentence each."""
    wrong, rest = [], prose(page)
    for english, translation, fuzzy in sorted(messages(catalogue), key=lambda x: -len(x[0])):
        flat = " ".join(english.split())
        if flat not in rest:
            wrong.append(f"the English has changed: '{flat[:80]}'")
        elif fuzzy or not translation:
            wrong.append(f"{'fuzzy' if fuzzy else 'no translation'}: '{flat[:80]}'")
        rest = rest.replace(flat, " \0 ")
    wrong += [f"not in the catalogue: '{left.strip()[:80]}'" for left in rest.split("\0")
              if WORDS.search(CODE.sub("", left))]  # fmt: skip
    return wrong


def prose(page: str) -> str:
    """What there is to translate of a page, in one line; list items and cells stand apart."""
    page = re.sub(r"\A---\n.*?\n---\n", "", page, flags=re.DOTALL)
    captions = re.findall(r"^:caption: (.*)$", page, re.MULTILINE)
    page = re.sub(r"^(```|:::).*?^\1\s*$", "\0", page, flags=re.DOTALL | re.MULTILINE)
    page = re.sub(r"<!--.*?-->", "\0", page, flags=re.DOTALL)
    page = re.sub(r"^(#+|[-*]|\d+\.) ", "\0", page, flags=re.MULTILINE)
    page = re.sub(r"^\|[-| ]+\|$", "\0", page, flags=re.MULTILINE)
    page = re.sub(r"^\|.*\|$", lambda row: row[0].replace("|", "\0"), page, flags=re.MULTILINE)
    page = re.sub(r"\n\s*\n", "\0", page)
    return " ".join("\0".join([page, *captions]).split())


def sections(readme: str) -> dict[str, str]:
    """The sections of the README by their titles, the one before the first title as 'PARL-JAX'."""
    parts = re.split(r"^##? (.*)$", readme, flags=re.MULTILINE)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def digest(text: str) -> str:
    """Twelve letters that change with the words of a text."""
    return hashlib.sha256(" ".join(text.split()).encode()).hexdigest()[:12]


def stale_sections(readme: str, chinese: str) -> list[str]:
    """The sections of the Chinese README that were made of another English, a sentence each."""
    now = {title: digest(text) for title, text in sections(readme).items()}
    found = []
    for title, made_of in MARK.findall(chinese):
        if title not in now:
            found.append(f"README.md has no section '{title}' any more")
        elif now[title] != made_of:
            found.append(f"the section '{title}' of README.md has changed")
    return found


def accepted(readme: str, chinese: str) -> str:
    """The Chinese README with the marks of the English as it is now."""
    now = {title: digest(text) for title, text in sections(readme).items()}
    return MARK.sub(lambda mark: f"<!-- of: {mark[1]} {now.get(mark[1], mark[2])} -->", chinese)


def check() -> list[str]:
    """All that is stale, a line each."""
    found = []
    for name in PAGES:
        text, catalogue = (DOCS / f"{name}.md").read_text(), CATALOGUES / f"{name}.po"
        found += [f"docs/{name}.md: {each}" for each in stale(text, catalogue.read_text())]
    readme, chinese = ROOT / "README.md", ROOT / "README.zh-CN.md"
    found += [
        f"README.zh-CN.md: {x}" for x in stale_sections(readme.read_text(), chinese.read_text())
    ]
    return found


def main() -> int:
    """Prints what is stale; 1 if anything is."""
    if sys.argv[1:] == ["--accept"]:
        chinese = ROOT / "README.zh-CN.md"
        chinese.write_text(accepted((ROOT / "README.md").read_text(), chinese.read_text()))
    found = check()
    print("\n".join(found) or "the translation is up to date")
    return bool(found)


if __name__ == "__main__":
    sys.exit(main())
