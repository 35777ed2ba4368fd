"""Speed of the off-policy control algorithms beside SBX, at equal widths and updates per step.

    python experiments/bench/control.py --sbx PYTHON [--only crossq] [--repeats 3] [--steps 3000]

PYTHON is the interpreter of a throw-away environment with SBX (peers/stable_off_policy.py says how
to make one). For each algorithm, A B A B ... and the ratio pair by pair: beside SBX; beside our
jitted update alone, which no loop can beat; three vmapped seeds, counted together, beside one (at 1
or more a seed costs no more in company). At last what prioritised replay costs: at most 15 % more
time, a ratio of 0.87.
"""

import argparse

from compare import HERE, OURS, Pairs, run

SETTINGS = {  # where a recipe's networks are not two hidden layers everywhere and two critics
    "tqc": ["actor_hidden", "num_critics=2"],
    "crossq": ["actor_hidden"],
}
BURST, MANY = (8, 8), (1, 20)  # environment steps, then updates
RATIO = {"droq": MANY}
DELAY = {"td3": 2, "crossq": 3, "droq": 20}  # updates of the critics for one of the policy


def pairs(arguments: argparse.Namespace) -> Pairs:
    """What is measured, by name."""
    found: Pairs = {}
    env, peer = ["--env", arguments.env], str(HERE / "peers" / "stable_off_policy.py")
    layers = str([arguments.width] * 2)
    for algorithm in ("sac", "td3", "tqc", "crossq", "droq"):
        length, updates = RATIO.get(algorithm, BURST)
        steps = ["--steps", str(arguments.steps * length // updates)]
        ours = [*OURS, algorithm, *env, *steps, "--length", str(length), "--updates", str(updates)]
        for setting in ("hidden", *SETTINGS.get(algorithm, ())):
            ours += ["--set", setting if "=" in setting else f"{setting}={layers}"]
        delay = DELAY.get(algorithm, 1)
        ours += ["--set", f"policy_period={delay}"]
        other = [arguments.sbx, peer, "--peer", "sbx", "--algorithm", algorithm, *env, *steps]
        other += ["--train-freq", str(length), "--gradient-steps", str(updates)]
        other += ["--warmup", str(500 * length // updates)]
        other += ["--policy-delay", str(delay)] if algorithm != "sac" else []
        other += ["--hidden", *[str(arguments.width)] * 2]
        name = f"{algorithm} {length}/{updates}"
        found[f"{name} : SBX"] = (ours, other, 1.0)
        found[f"{name} : bare update"] = (ours, [*ours, "--bare"], 0.95)
        found[f"{name} 3 vmapped seeds : 1"] = ([*ours, "--num-seeds", "3"], ours, 1.0)
    for where in (arguments.env, "jax:Pendulum-v1"):
        uniform = [*OURS, "sac", "--env", where, "--steps", str(arguments.steps)]
        prioritised = [*uniform, "--set", "priority=0.6"]
        found[f"sac {where}, prioritised : uniform"] = (prioritised, uniform, 0.87)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--sbx", default="python", help="interpreter of an environment with SBX")
    parser.add_argument("--env", default="HalfCheetah-v5")
    parser.add_argument("--width", type=int, default=256, help="of both hidden layers everywhere")
    parser.add_argument("--steps", type=int, default=3_000, help="of a measurement, or its updates")
    run(parser, pairs)


if __name__ == "__main__":
    main()
