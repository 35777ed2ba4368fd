"""The speed comparison with JaxMARL: that both sides are told to do the same work."""

import argparse

import jax
import pytest
from benches import after, load, settings

from parl.runs.build import Parts, resolve
from parl.runs.config import RunConfig


@pytest.fixture(scope="module")
def pairs():
    flags = {"jaxmarl": "python", "source": ".", "scale": 0.1, "seconds": 2.0}
    return load("jaxmarl").pairs(argparse.Namespace(**flags))


def parts(command: list[str]) -> Parts:
    """What our side makes of its command line."""
    seeds = int(after(command, "--num-seeds")[0])
    (env,) = after(command, "--env")
    algorithm = command[command.index("--env") - 1]
    return resolve(RunConfig(algorithm, env, num_seeds=seeds, settings=settings(command)))


@pytest.mark.parametrize(
    ("name", "steps", "seeds"),
    [("ippo, 1 seed", "50000", "1"), ("ippo, 8", "20000", "8"), ("qmix", "41600", "1")],
)
def test_both_sides_have_the_same_settings(pairs, name: str, steps: str, seeds: str) -> None:
    (found,) = [pair for full, pair in pairs.items() if full.startswith(name)]
    ours, theirs, aim = found
    assert aim == 1.3
    names, given = load("jaxmarl").JAXMARL_NAMES, settings(theirs)
    recipe = parts(ours).recipe.settings()
    common = {ours: theirs for ours, theirs in names.items() if theirs in given}
    assert {theirs: recipe[ours] for ours, theirs in common.items()} == {
        name: given[name] for name in common.values()
    }
    assert len(common) == len(given.keys() & set(names.values())) >= 10
    assert after(ours, "--steps") == after(theirs, "--steps") == [steps]
    assert after(ours, "--num-seeds") == after(theirs, "--num-seeds") == [seeds]


def shapes(tree) -> list[tuple[int, ...]]:
    """Those of all weight matrices."""
    return sorted(x.shape for x in jax.tree.leaves(tree) if x.ndim == 2)


def test_our_ippo_has_jaxmarls_networks(pairs) -> None:
    found = parts(pairs["ippo, 1 seed : JaxMARL"][0])
    spec, algorithm = found.factory.spec, found.learner.algorithm
    params = jax.eval_shape(lambda: algorithm.init(jax.random.key(0), spec)).net.params
    assert shapes(params["actor"]) == [(18, 64), (64, 5), (64, 64)]
    assert shapes(params["critic"]) == [(18, 64), (64, 1), (64, 64)]
    assert not found.recipe.normalize_obs and not found.recipe.normalize_reward


def test_our_qmix_has_jaxmarls_networks(pairs) -> None:
    """A layer, a GRU and a head; hypernetworks of 64 hidden units, as the peer is told."""
    ours, theirs, _ = pairs["qmix with GRU : JaxMARL"]
    found = parts(ours)
    spec, algorithm = found.factory.spec, found.learner.algorithm
    params = jax.eval_shape(lambda: algorithm.init(jax.random.key(0), spec)).net.params
    assert shapes(params["q"]) == [(21, 64), (64, 5)] + 6 * [(64, 64)]
    hidden, features = (settings(theirs)[f"MIXER_{name}"] for name in
                        ("HYPERNET_HIDDEN_DIM", "EMBEDDING_DIM"))  # fmt: skip
    assert shapes(params["mixer"]) == sorted(
        [*[(54, hidden)] * 3, (54, features), (hidden, 3 * features), (hidden, features),
         (hidden, 1)]
    )  # fmt: skip
    recipe = found.recipe.settings()
    assert recipe["agent_id"] and recipe["double"] and not recipe["normalize_reward"]


def test_ray_stands_beside_the_same_loop_and_beside_the_environment_alone(pairs) -> None:
    rows = [pair for name, pair in pairs.items() if name.startswith("mpe2")]
    assert [[command[-1] for command in pair[:2]] for pair in rows] == [
        ["ray", "bare"], ["ray", "raw"],
    ]  # fmt: skip
    assert all(pair[0][:-1] == pair[1][:-1] and pair[2] == 0.9 for pair in rows)
