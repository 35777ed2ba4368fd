"""A policy leaves: exported, acting in a process without JAX, and shown on a page.

python examples/deploy.py [DIR]
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import parl
from parl.cli import main as command

ACTS = """
import sys, numpy as np, parl
policy = parl.Policy.load(sys.argv[1])
action, _ = policy.act(np.zeros(4, np.float32))
print("the policy's action:", action, "- JAX is loaded:", "jax" in sys.modules)
"""


def main(out: Path, steps: int = 20_000) -> None:
    """Trains, exports, acts elsewhere, and writes the page."""
    settings = {"hidden": (32, 32), "eval_episodes": 4, "quiet": True}
    run = parl.train("ppo", "jax:CartPole-v1", out / "run", steps=steps, **settings)
    print(f"a return of {run.result['return']['mean']:.0f}")
    made = parl.export(out / "run", out / "policy", ("numpy",), episodes=1)
    print("forms that act otherwise than JAX:", made.failures or "none")
    subprocess.run([sys.executable, "-c", ACTS, str(out / "policy")], check=True)
    command(["demo", str(out / "policy"), "--out", str(out / "index.html")])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch))
