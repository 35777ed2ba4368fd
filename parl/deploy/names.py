"""The names of what goes into the programs of a policy, and of what comes out."""

KEY, ACTION, ENV_ACTION = "key", "action", "env_action"
MEMORY, NOISE, OBS = "memory", "noise", "obs"
