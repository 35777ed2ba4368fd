"""Seeds spread over devices give the same parameters as on one."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tiny import Case, make, params_of

SCRIPT = """
import re
import sys
import jax
import numpy as np
from pathlib import Path
from tiny import Case, make, params_of, save

assert len(jax.devices()) == 2
run = make(Case("dqn", "fused", 2))
run.advance(3)
kernel = max(jax.tree.leaves(run.train), key=lambda x: x.size)
assert len(kernel.sharding.device_set) == 2, kernel.sharding
text = run.programs[False].lower(run.run, 3).compile().as_text()
assert "num_partitions=2" in text
assert not re.findall(r" (?:all-|collective-|reduce-scatter)[a-z-]*\\(", text), "seeds talk"
saved = save(run, Path(sys.argv[1]) / "saved")
run.advance(2)
np.savez(Path(sys.argv[1]) / "params.npz", **params_of(run))
again = make(Case("dqn", "fused", 2))
again.restore(saved)
again.advance(2)
for name, x in params_of(run).items():
    assert x.tobytes() == params_of(again)[name].tobytes(), name
"""


@pytest.fixture(scope="module")
def two_devices(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("devices")
    here = Path(__file__).parent
    environment = os.environ | {
        "XLA_FLAGS": "--xla_force_host_platform_device_count=2",
        "PYTHONPATH": f"{here}:{here.parents[1]}",
    }
    words = [sys.executable, "-W", "error", "-W", "ignore::DeprecationWarning", "-c", SCRIPT]
    done = subprocess.run(
        [*words, str(out)], env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return out


def test_two_devices_equal_one(two_devices: Path) -> None:
    run = make(Case("dqn", "fused", 2))
    run.advance(5)
    theirs = np.load(two_devices / "params.npz")
    ours = params_of(run)
    assert ours.keys() == set(theirs.files)
    for name, x in ours.items():
        np.testing.assert_allclose(x, theirs[name], rtol=1e-5, atol=1e-5, err_msg=name)
