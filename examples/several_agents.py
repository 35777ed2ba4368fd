"""Several agents: a team, then a game by self-play, and who beats whom.

python examples/several_agents.py [DIR]
"""

import sys
import tempfile
from pathlib import Path

import parl
from parl.cli import main as command


def main(out: Path, steps: int = 50_000) -> None:
    """Trains a team and two players, and lets the players meet."""
    common = {"quiet": True, "absolute_episodes": 0}
    team = parl.train(
        "mappo", "jax:simple_spread", out / "team", steps=steps, eval_episodes=10, **common
    )
    print(f"team: {team.result['return']['mean']:.1f}, the sum over agents")
    players = []
    for name, length in (("short", steps // 8), ("long", steps)):
        run = parl.train(
            "ippo",
            "jax:tic_tac_toe",
            out / name,
            steps=length,
            opponent="pool",
            eval_episodes=20,
            **common,
        )
        print(f"{name}: {run.result['return']['mean']:+.2f} against random moves")
        players.append(str(run.path))
    command(["crossplay", *players, "--episodes", "20"])


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as scratch:
        main(Path(sys.argv[1] if len(sys.argv) > 1 else scratch))
