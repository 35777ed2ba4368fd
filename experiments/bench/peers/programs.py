"""For the drivers beside it whose peers train in one compiled program, and are no packages."""

import importlib.util
import statistics
import sys
import time
import types

import jax


def installed(package):
    """Whether a package can be imported."""
    return importlib.util.find_spec(package) is not None


def stand_in(name, **members):
    """Puts a module with `members` in place of `name`, whose parents come first."""
    module = sys.modules[name] = types.ModuleType(name)
    module.__path__ = []
    vars(module).update(members)
    parent, _, child = name.rpartition(".")
    if parent:
        setattr(sys.modules[parent], child, module)


def timed(train, seed, num_seeds, repeats, look):
    """(seconds to compile, seconds of each run, what `look` makes of each result).

    `train` takes a key to what training ends with; with several seeds it is vmapped. Each of the
    `repeats` has other keys.
    """
    keys = []
    for key in jax.random.split(jax.random.PRNGKey(seed), repeats):
        keys.append(key if num_seeds == 1 else jax.random.split(key, num_seeds))
    if num_seeds > 1:
        train = jax.vmap(train)

    began = time.perf_counter()
    compiled = jax.jit(train).lower(keys[0]).compile()
    compile_seconds = time.perf_counter() - began

    runs, looks = [], []
    for key in keys:
        jax.block_until_ready(key)
        began = time.perf_counter()
        out = jax.block_until_ready(compiled(key))
        runs.append(time.perf_counter() - began)
        looks.append(look(out))
        del out
    return compile_seconds, runs, looks


def speed(steps, compile_seconds, runs):
    """What every driver tells of runs of so many steps each, from the seconds of `timed`."""
    seconds = statistics.median(runs)
    return {
        "steps": steps,
        "seconds": seconds,
        "steps_per_second": steps / seconds,
        "runs_seconds": runs,
        "compile_seconds": compile_seconds,
        "backend": jax.default_backend(),
    }
