"""Time to a return beside the peer: when a run ends, the table, and that nothing is run twice."""

import sys
import time
from pathlib import Path

import pytest
from benches import load
from marks import slow

to_return = load("to_return")


def curve(name: str, *points: tuple[int, float, float], seed: int = 0) -> list:
    return [to_return.Evaluation(name, seed, *point) for point in points]


def test_a_run_ends_at_the_target_or_when_its_time_is_up() -> None:
    points = curve("a", (10, 1.0, 5.0), (20, 2.0, 50.0), (30, 3.0, 70.0))
    for target, limit, seen in ((50.0, 9.0, 2), (60.0, 1.5, 2), (99.0, 9.0, 3)):
        ended: list[bool] = []

        def evaluations(ended: list[bool] = ended):
            try:
                yield from points
            finally:
                ended.append(True)

        assert to_return.until(evaluations(), target, limit) == points[:seen]
        assert ended == [True]  # and its process with it


@pytest.mark.parametrize("evaluations", [slow(0), 1])
def test_the_peer_is_killed_when_its_time_is_up(evaluations: int, tmp_path: Path) -> None:
    """Also where it has not been evaluated yet, and the table says so."""
    peer, row = tmp_path / "peer", '{"env_steps": 5000, "seconds": 0.5, "return_mean": 7.0}'
    peer.write_text(
        f"#!/bin/sh\nfor i in $(seq {evaluations}); do echo '{row}'; done\nexec sleep 99"
    )
    peer.chmod(0o700)
    arguments = to_return.argparse.Namespace(env="X", target=50.0, limit=1.0, sbx=str(peer))
    start = time.perf_counter()
    found = to_return.until(to_return.sbx(arguments, "b", 3), 50.0, 1.0)
    assert 1.4 < time.perf_counter() - start < 30
    assert [point.seconds for point in found] == [0.5, 1.0][1 - evaluations :]
    best = ["none evaluated", "5,000, best 7"][evaluations]
    assert to_return.table({("SBX b", 3): found}, 50.0).endswith(f"| >1 ({best}) | **>1** |")
    to_return.write({("SBX b", 3): found}, tmp_path / "found.csv", "X", 50.0)
    assert to_return.read(tmp_path / "found.csv") == {("SBX b", 3): found}


def test_the_table_tells_means_and_what_failed() -> None:
    runs = {
        ("a", 0): curve("a", (10, 1.0, 5.0), (20, 2.0, 50.0)),
        ("a", 1): curve("a", (40, 4.0, 51.0), seed=1),
        ("SBX b", 0): curve("SBX b", (5_000, 60.0, 30.0), (10_000, 90.0, 20.0)),
    }
    assert to_return.table(runs, 50.0).splitlines()[2:] == [
        "| a | 2 (20), 4 (40) | **3** |",
        "| SBX b | >90 (10,000, best 30) | **>90** |",
    ]


def test_runs_are_kept_drawn_and_not_made_again(tmp_path: Path, monkeypatch, capsys) -> None:
    made: list[tuple[str, int]] = []

    def run(arguments, name: str, seed: int):
        made.append((name, seed))
        yield from curve(name, (10, 1.5, 99.0), seed=seed)

    monkeypatch.setattr(to_return, "ours", run)
    out = tmp_path / "found.csv"
    words = ["to_return.py", "--target", "50", "--peers", "--ours", "sac", "--out", str(out)]
    for seeds in ("1", "2"):
        monkeypatch.setattr(sys, "argv", [*words, "--seeds", seeds])
        to_return.main()
    assert made == [("sac", 0), ("sac", 1)]
    assert list(to_return.read(out)) == made
    assert "| sac | 2 (10), 2 (10) | **2** |" in capsys.readouterr().out
    assert "**2**" in out.with_suffix(".md").read_text()
    assert out.with_suffix(".png").stat().st_size > 10_000


def test_a_run_that_fails_is_told() -> None:
    arguments = to_return.argparse.Namespace(env="NoSuchEnv-v0", every=5_000)
    with pytest.raises(SystemExit, match="NoSuchEnv-v0"):
        list(to_return.ours(arguments, "sac", 0))
