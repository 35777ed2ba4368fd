"""Runs that version 0.1 saved go on as if nothing had been renamed since.

tests/data/runs is what tests/data/make_runs.py wrote with that version.
"""

import shutil
from pathlib import Path

import numpy as np
import pytest
from marks import quick

import parl
from parl.core import checkpoint

RUNS = Path(__file__).parent / "data" / "runs"
NAMES = quick((path.name for path in sorted(RUNS.iterdir())), "ppo-host")


@pytest.mark.parametrize("name", NAMES)
def test_an_old_run_ends_where_it_would_have(name: str, tmp_path: Path) -> None:
    """To the bit where the processor is the same; others round differently."""
    run = Path(shutil.copytree(RUNS / name, tmp_path / "run"))
    done = parl.resume(run, quiet=True)
    saved = max((run / "checkpoints").iterdir(), key=lambda path: int(path.name))
    found = checkpoint.read(saved).arrays
    with np.load(run / "end.npz") as end:
        assert len(end.files) > 2
        for old in end.files:
            new = found[old.replace("run/learner/train/", "run/learner/algorithm_state/")]
            np.testing.assert_allclose(new, end[old], rtol=1e-4, atol=1e-6, err_msg=old)
    assert done.result["env_steps"] == int(saved.name)
