"""Settings of the smallest run of PPO, whose program several tests share.

The learning rate is constant: a schedule over other steps is another program.
"""

from typing import Any

SMALL: dict[str, Any] = {
    "steps": 64,
    "num_envs": 2,
    "length": 8,
    "minibatches": 2,
    "epochs": 1,
    "hidden": (4,),
    "anneal": False,
    "eval_episodes": 0,
}
