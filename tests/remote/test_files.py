"""Files that go along to the workers of a cluster."""

import os
import subprocess
import sys

import pytest

import parl
from parl.core.errors import ConfigError
from parl.remote import files
from parl.remote.files import staged


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A current directory with some files."""
    monkeypatch.chdir(tmp_path)
    for name in ("maps/a.txt", "maps/deep/b.txt", "model.xml", "secret.txt"):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path


def test_only_what_is_named_goes_along(folder):
    def sent(*patterns):
        place = staged(patterns)
        found = [path for path in place.rglob("*") if path.is_file()]
        assert all(path.read_text() == str(path.relative_to(place)) for path in found)
        return sorted(str(path.relative_to(place)) for path in found)

    assert sent("model.xml") == ["model.xml"]
    assert sent("maps") == ["maps/a.txt", "maps/deep/b.txt"]
    assert sent("maps/*.txt", "./*.xml") == ["maps/a.txt", "model.xml"]
    assert sent("**/*.txt") == ["maps/a.txt", "maps/deep/b.txt", "secret.txt"]


def test_what_cannot_be_sent_is_one_sentence(folder, monkeypatch):
    monkeypatch.setattr(files, "LARGEST", 5)
    for patterns, sentence in {
        "model.xml": r"is a list of files, such as \['model.xml'\]",
        ("nothing*.txt",): r"there is no 'nothing\*.txt' in ",
        ("/etc/passwd",): "below the current directory, which '/etc/passwd' is not",
        ("../other",): "below the current directory, which '../other' is not",
        (".",): "names files or folders, not '.'",
        ("",): "names files or folders, not '.'",
        ("model.xml",): "and up to 0 are sent",
    }.items():
        with pytest.raises(ConfigError, match=sentence):
            staged(patterns)


PROGRAM = """
import glob
import parl
from parl.core.errors import ConfigError
from parl.remote import remote_class

class Reader:
    def files(self):
        return sorted(glob.glob("**", recursive=True)), open("maps/a.txt").read()

parl.connect(num_cpus=1, distributed_files=["maps/*.txt"])
print(remote_class(Reader)().files())
try:
    parl.connect(distributed_files=["maps"])
except ConfigError as error:
    print(error)
parl.disconnect()
"""


@pytest.mark.slow
def test_workers_find_them_under_the_same_paths(folder):
    (folder / "program.py").write_text(PROGRAM)
    root = os.path.dirname(os.path.dirname(parl.__file__))
    done = subprocess.run(
        [sys.executable, "program.py"],
        capture_output=True,
        text=True,
        timeout=300,
        env=os.environ | {"PYTHONPATH": root},
    )
    assert done.stdout.splitlines() == [
        "(['maps', 'maps/a.txt'], 'maps/a.txt')",
        "distributed_files are sent by the first parl.connect of a program; call it before "
        "anything else works on the cluster, or parl.disconnect() first.",
    ], done.stderr
    assert done.stderr == ""
