"""The experiment that damages checkpoints: a small one, and that it sees what goes unnoticed."""

import sys
from pathlib import Path

import numpy as np
import pytest

from parl.core import checkpoint
from parl.runs.config import RunConfig
from parl.runs.directory import RunDir

sys.path.insert(0, str(Path(__file__).parents[1] / "experiments"))

import mutations


def make_run(path: Path, seed: int) -> Path:
    draw = np.random.default_rng(seed)
    run = RunDir.create(path, RunConfig("sac", "jax:Pendulum-v1", run_id=f"run {seed}"))
    for env_steps in (100, 200):
        net = {"kernel": draw.normal(size=(8, 8)), "bias": draw.normal(size=8)}
        replay, target = {"rows": np.zeros(300)}, {"kernel": draw.normal(size=(8, 8))}
        tree = {"net": net, "target": target, "replay": replay}
        run.save(env_steps, tree, {"run_id": f"run {seed}", "best": [1.5, 100], "exact": True})
    return path


@pytest.fixture
def runs(tmp_path: Path) -> tuple[Path, Path]:
    return make_run(tmp_path / "0", 0), make_run(tmp_path / "1", 1)


def test_every_mutation_is_detected(runs: tuple[Path, Path]) -> None:
    results = mutations.mutate(runs, 48)
    assert len(results) == 12
    assert all(counts == {"detected": 4} for counts in results.values()), results
    assert mutations.table(results).endswith("| all | 48 | 48 | 0 |")


def test_what_is_not_verified_is_counted_as_missed(
    runs: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(checkpoint, "sha256", lambda data: checkpoint.BLANK)
    results = mutations.mutate((make_run(runs[0].parent / "2", 2), runs[1]), 48)
    assert results["arrays swapped"] == {"missed: loaded": 4}
    assert results["file missing"] == {"detected": 4}
    assert "| arrays swapped | 4 | 0 | 4 loaded |" in mutations.table(results)
