"""Opponents and functions of the user's own: by module:attribute, or as objects."""

import importlib

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import parl
from parl.algorithms.wrappers.match import Uniform
from parl.core.algorithm import Algorithm
from parl.core.errors import ConfigError
from parl.envs.factory import make_factory
from parl.runs.crossplay import crossplay
from parl.runs.opponents import own_player

SPEC = make_factory("jax:tic_tac_toe").spec
SOURCE = """
import jax.numpy as jnp
from parl.core.algorithm import Algorithm

def first_free(obs, key):
    return obs["legal"].argmax(-1).astype(jnp.int32)

class LastFree(Algorithm):
    def policy(self, state):
        return ()
    def act(self, policy, obs, memory, key, explore):
        return 8 - obs["legal"][..., ::-1].argmax(-1).astype(jnp.int32), memory, {}

heard = []
def hear(values):
    heard.append(values["env_steps"])
"""
RUN = {
    "env": "jax:tic_tac_toe",
    "hidden": (4,),
    "num_envs": 8,
    "length": 9,
    "epochs": 1,
    "minibatches": 1,
    "steps": 144,
    "eval_every": 72,
    "eval_episodes": 4,
    "absolute_episodes": 0,
    "quiet": True,
}


@pytest.fixture
def lab(tmp_path, monkeypatch):
    (tmp_path / "own_rivals.py").write_text(SOURCE)
    monkeypatch.syspath_prepend(tmp_path)
    return tmp_path


@pytest.mark.slow
def test_a_named_opponent_is_found_again(lab):
    own_rivals = importlib.import_module("own_rivals")

    path = lab / "a"
    run = parl.train("ippo", out=path, opponent="own_rivals:first_free", **RUN)
    assert parl.resume(path, steps=216, quiet=True).result["env_steps"] == 216
    # the first player always wins its column against one that fills the board in order
    rivals = ["own_rivals:first_free", own_rivals.LastFree]
    table = crossplay([path, *rivals], episodes=2)
    assert table.names == ["a", "own_rivals:first_free", "own_rivals:LastFree"]
    assert table.win_rate is not None and table.win_rate[1, 1] == 0.5
    assert parl.evaluate(path, 2, opponent="own_rivals:LastFree").scores is not None
    assert run.result["win_rate"] is not None
    assert parl.load(path).algorithm is not None  # nobody is played


@pytest.mark.slow
def test_an_object_is_asked_for_again(lab):
    rival = lambda obs, key: obs["legal"].argmax(-1).astype(jnp.int32)
    run = parl.train("ippo", out=lab / "a", opponent=rival, **RUN)
    with pytest.raises(ConfigError, match=r"an opponent of your own, <lambda>\(\): give it again"):
        parl.resume(run.path, steps=216, quiet=True)
    assert parl.resume(run.path, steps=216, quiet=True, opponent=rival).result["env_steps"] == 216
    agent = parl.load(run.path)
    assert parl.evaluate(run.path, 2, opponent=agent).returns.shape == (2,)


def test_players_of_every_kind():
    uniform = Uniform(SPEC.action_space, 2)
    assert own_player(uniform, SPEC).algorithm is uniform
    first = own_player(lambda obs, key: obs["legal"].argmax(-1).astype(jnp.int32), SPEC)
    obs = {"legal": jnp.array([[[False, True], [True, True]]])}
    assert first.algorithm.act((), obs, (), jax.random.key(0), False)[0].tolist() == [[1, 0]]


class Lazy(Algorithm):
    """No actions at all."""


@pytest.mark.parametrize(
    ("own", "said"),
    [
        (3, "opponent 3 is not a player"),
        (lambda obs, key: jnp.zeros((1, 2)), r"gives actions float32\[1, 2\]; .* int32\[1, 2\]"),
        (lambda obs, key: obs["nothing"], "cannot play jax:tic_tac_toe: KeyError"),
        (Lazy, "cannot play jax:tic_tac_toe: NotImplementedError"),
        ("no_module_here:f", "there is no module 'no_module_here'"),
    ],
)
def test_what_cannot_play_is_one_sentence(own, said):
    with pytest.raises(ConfigError, match=said):
        own_player(own, SPEC)


@pytest.mark.slow
def test_named_functions_are_heard_again_and_lost_ones_are_told(lab, capsys):
    own_rivals = importlib.import_module("own_rivals")

    small = {name: x for name, x in RUN.items() if name not in ("env", "absolute_episodes")}
    run = parl.train(
        "ppo",
        "jax:CartPole-v1",
        out=lab / "b",
        on_evaluation=own_rivals.hear,
        on_record="own_rivals:hear",
        on_end=lambda values: None,
        **small,
    )
    assert own_rivals.heard[-2:] == [144, 144]
    capsys.readouterr()
    parl.resume(run.path, steps=216, quiet=True)
    assert own_rivals.heard[-2:] == [216, 216]
    assert "was started with on_end=<lambda> of your own" in capsys.readouterr().err
    with pytest.raises(ConfigError, match="the run plays against nobody, not"):
        parl.resume(run.path, steps=288, opponent=Uniform(), quiet=True)
    assert np.isfinite(run.result["return"]["mean"])
