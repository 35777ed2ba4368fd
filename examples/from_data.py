"""Learning from data: record a policy, imitate it, and go on online.

    python examples/from_data.py [DIR]

It needs h5py, pip install 'parl-jax[data]'.
"""

import sys
import tempfile
from pathlib import Path

import parl

SMALL = {"hidden": (32, 32), "quiet": True, "eval_episodes": 4}


def main(out: Path, steps: int = 6_000) -> None:
    """A teacher, a data set, a clone, and a learner that goes on from the data."""
    env = "jax:Pendulum-v1"
    teacher = parl.train("sac", env, out / "teacher", steps=steps, **SMALL)
    print(f"teacher: {teacher.result['return']['mean']:.0f}")
    parl.record(out / "teacher", out / "data", steps=steps // 2, sample=True)
    clone = parl.train("bc", env, out / "clone", data=str(out / "data"), steps=steps // 4, **SMALL)
    print(f"clone: {clone.result['return']['mean']:.0f}")
    more = parl.train(
        "rlpd",
        env,
        out / "online",
        data=str(out / "data"),
        steps=0,
        online_steps=steps // 4,
        updates=1,
        num_critics=2,
        **SMALL,
    )
    print(f"online with half of each batch from the data: {more.result['return']['mean']:.0f}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch))
