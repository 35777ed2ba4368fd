"""Recurrent networks: equations, sequences against single steps, and what is forgotten when."""

from functools import partial
from typing import Any

import flax.linen as nn
import jax
import numpy as np
import pytest
from marks import slow
from observations import SPACES, draw

from parl.core.spec import Box, Discrete
from parl.models import CELLS, MLP, CategoricalPolicy, Recurrent, Value, cell_output, lru, recurrent

SPACE, T, B, H = Box((3,)), 7, 4, 5
OBS = draw(SPACE, (T, B))
FIRST: Any = np.random.default_rng(1).random((T, B)) < 0.3
assert FIRST[1:].any(0).all() and not FIRST[0].all()


def network(cell: str = "gru", hidden: tuple[int, ...] = (6,)) -> Recurrent:
    return Recurrent(SPACE, MLP(hidden), CELLS[cell](H), Value(cell_output(H), MLP(())))


def setup(model: Any) -> tuple[Any, Any]:
    """Parameters, and a memory that is not zero."""
    params = recurrent.init(model, jax.random.key(0), OBS[0])
    fresh = recurrent.memory_of(model, (B,))
    return params, jax.tree.map(
        lambda x: x + np.linspace(-1, 1, x.shape[-1], dtype=np.float32), fresh
    )


def assert_close(ours: Any, theirs: Any) -> None:
    jax.tree.map(lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6), ours, theirs)


@pytest.mark.parametrize("cell", CELLS)
def test_a_sequence_is_its_steps(cell: str) -> None:
    model = network(cell)
    params, memory = setup(model)
    outputs, memories = recurrent.unroll(model, params, OBS, FIRST, memory)
    assert outputs.shape == (T, B)
    step = jax.jit(lambda obs, memory: recurrent.step(model, params, obs, memory))
    for t in range(T):
        opens = lambda x, t=t: np.where(FIRST[t][:, None], 0, x)
        output, memory = step(OBS[t], jax.tree.map(opens, memory))
        assert_close(outputs[t], output)
        assert_close(jax.tree.map(lambda x, t=t: x[t], memories), memory)


@pytest.mark.parametrize("recurs", [False, slow(True)])
def test_following_is_what_the_model_says_to_next_obs(recurs: bool) -> None:
    """With episodes cut nowhere, in few places and in many."""
    model: Any = network() if recurs else Value(SPACE, MLP((6,)))
    params, memory = setup(model) if recurs else (model.init(jax.random.key(0), OBS[0]), ())
    look = partial(recurrent.step, model, params)
    following = jax.jit(partial(recurrent.following, look))
    time, obs, rng = 3 * T, np.tile(OBS, (3, 1, 1)), np.random.default_rng(0)
    for share in 0, 0.03, 0.5:
        cut: Any = rng.random((time, B)) < share
        assert (cut[:-1].sum() > B) == (share > 0.1) and cut[:-1].any() == (share > 0)
        next_obs = np.where(cut[..., None], np.float32(0.5), np.roll(obs, -1, 0))
        first: Any = np.concatenate([np.zeros((1, B), bool), cut[:-1]])
        outputs, memories = recurrent.unroll(model, params, obs, first, memory)
        found = following(next_obs, memories, outputs, cut)
        for t in range(time):
            at = jax.tree.map(lambda x, t=t: x[t], memories)
            assert_close(found[t], look(next_obs[t], at)[0])
    some: Any = np.arange(time)[:, None] == [2, 5, 9, 9]
    stale = following(np.zeros_like(obs), memories, outputs, some)  # looked at there and at the end
    seen = np.concatenate([some[:-1], np.ones((1, B), bool)])
    assert_close(stale[:-1][~seen[:-1]], outputs[1:][~seen[:-1]])
    assert (np.abs(stale - np.roll(outputs, -1, 0))[seen] > 1e-6).all()


def test_what_follows_has_no_gradient() -> None:
    model: Any = Value(SPACE, MLP((6,)))
    params = model.init(jax.random.key(0), OBS[0])

    def total(params: Any) -> Any:
        look = partial(recurrent.step, model, params)
        return recurrent.following(look, OBS, (), model.apply(params, OBS), FIRST).sum()

    assert all((x == 0).all() for x in jax.tree.leaves(jax.grad(total)(params)))


def test_the_cell_is_a_gated_recurrent_unit() -> None:
    """Cho et al. 2014, arXiv:1406.1078, in the form whose reset gate follows the product."""
    model = network(hidden=())
    params, memory = setup(model)
    cell = jax.tree.map(lambda x: np.asarray(x) + 0.1, params["params"]["cell"])
    params["params"]["cell"] = cell
    head = params["params"]["head"]["Dense_0"]["kernel"]
    outputs, memories = recurrent.unroll(model, params, OBS, FIRST, memory)
    h, sigmoid = np.asarray(memory), lambda x: 1 / (1 + np.exp(-x))
    for t in range(T):
        h, x = np.where(FIRST[t][:, None], 0, h), OBS[t]
        given = {g: x @ cell[f"i{g}"]["kernel"] + cell[f"i{g}"]["bias"] for g in "rzn"}
        kept = {g: h @ cell[f"h{g}"]["kernel"] for g in "rzn"}
        reset, update = sigmoid(given["r"] + kept["r"]), sigmoid(given["z"] + kept["z"])
        new = np.tanh(given["n"] + reset * (kept["n"] + cell["hn"]["bias"]))
        h = (1 - update) * new + update * h
        assert_close(memories[t], h)
        assert_close(outputs[t], (h @ head)[:, 0])


@pytest.mark.parametrize("cell", CELLS)
def test_nothing_passes_from_one_episode_to_the_next(cell: str) -> None:
    """Each output depends on the observations of its own episode so far, and on no others."""
    model = network(cell)
    params, memory = setup(model)

    def outputs(obs: Any, memory: Any) -> Any:
        return recurrent.unroll(model, params, obs, FIRST, memory)[0].sum(1)

    by_obs, by_memory = jax.jacobian(outputs, argnums=(0, 1))(OBS, memory)
    episode = FIRST.cumsum(0)
    for t in range(T):
        same = (episode == episode[t]) & (np.arange(T) <= t)[:, None]
        np.testing.assert_array_equal(np.any(by_obs[t] != 0, -1), same)
        for part in jax.tree.leaves(by_memory):
            np.testing.assert_array_equal(np.any(part[t] != 0, -1), episode[t] == 0)


def test_feed_forward_models_pass_through() -> None:
    model = Value(SPACE, MLP((6,)))
    params = recurrent.init(model, jax.random.key(0), OBS[0])
    expected: Any = model.apply(params, OBS)
    assert not recurrent.is_recurrent(model) and recurrent.memory_of(model, (B,)) == ()
    outputs, memory = recurrent.unroll(model, params, OBS, FIRST, ())
    np.testing.assert_array_equal(outputs, expected)
    assert memory == ()
    output, memory = recurrent.step(model, params, OBS[2], ())
    assert_close(output, expected[2])
    assert memory == ()


def test_masks_reach_the_head_and_nothing_but_the_head() -> None:
    space = SPACES["dict"]
    obs = draw(space, (T, B))
    head = CategoricalPolicy(cell_output(H), Discrete(4), MLP(()))
    model = Recurrent(space, MLP((6,)), nn.GRUCell(H), head)
    params = recurrent.init(model, jax.random.key(0), jax.tree.map(lambda x: x[0], obs))
    memory = recurrent.memory_of(model, (B,))
    pi, memories = recurrent.unroll(model, params, obs, FIRST, memory)
    assert (pi.probs[~obs["legal"]] == 0).all() and (pi.probs[obs["legal"]] > 0).all()
    free = obs | {"legal": np.ones_like(obs["legal"])}
    np.testing.assert_array_equal(recurrent.unroll(model, params, free, FIRST, memory)[1], memories)


@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("lead", [(), (3,), (2, 3)])
def test_memory_is_zero_and_has_any_leading_axes(cell: str, lead: tuple[int, ...]) -> None:
    leaves = jax.tree.leaves(recurrent.memory_of(network(cell), lead))
    assert len(leaves) == {"gru": 1, "lstm": 2, "lru": 2}[cell]
    size = {"lru": 3}.get(cell, H)  # H numbers as half as many complex ones
    for leaf in leaves:
        np.testing.assert_array_equal(leaf, np.zeros((*lead, size), np.float32))


def test_parameters_are_shared_over_time() -> None:
    """As many for one step as for any sequence: those of torso, cell and head."""
    params = recurrent.init(network(), jax.random.key(0), OBS[0])["params"]
    assert set(params) == {"torso", "cell", "head"}
    count = lambda tree: sum(x.size for x in jax.tree.leaves(tree))
    assert count(params["torso"]) == 3 * 6 + 6
    assert count(params["cell"]) == 3 * (6 * H + H) + 3 * H * H + H
    assert count(params["head"]) == H + 1


def test_the_linear_unit_is_a_diagonal_recurrence_of_complex_numbers() -> None:
    """Step by step, in numpy: eq. 5 and 7 of Orvieto et al., reset where an episode opens."""
    cell = CELLS["lru"](6)
    start = cell.initialize_carry(jax.random.key(0), (B, 1))
    memory = jax.tree.map(lambda x: x + np.float32(0.5), start)
    found: Any = jax.jit(lambda: cell.init_with_output(jax.random.key(1), OBS, FIRST, memory))()
    (outputs, memories), variables = found
    params = jax.tree.map(np.asarray, variables["params"])
    radius = np.exp(-np.exp(params["nu"]))
    assert np.all((radius > 0.9) & (radius < 0.999))
    factor = radius * np.exp(1j * np.exp(params["theta"]))
    inputs, last = params["Dense_0"]["kernel"], params["Dense_1"]
    x = np.full((B, 3), 0.5 + 0.5j)
    for t in range(T):
        into = np.asarray(OBS[t] @ inputs) * np.tile(np.sqrt(1 - radius**2), 2)
        x = factor * np.where(FIRST[t][:, None], 0, x) + into[:, :3] + 1j * into[:, 3:]
        np.testing.assert_allclose(memories[0][t], x.real, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(memories[1][t], x.imag, rtol=1e-4, atol=1e-5)
        seen = np.concatenate([x.real, x.imag, OBS[t]], -1) @ last["kernel"] + last["bias"]
        np.testing.assert_allclose(outputs[t], nn.gelu(seen), rtol=1e-4, atol=1e-5)


def test_both_forms_of_the_linear_recurrence_and_its_own_gradient_agree() -> None:
    """The gradient by hand is that of jax for each form, memory and reset included."""
    draw = np.random.default_rng(0)
    pair = lambda *shape: tuple(np.float32(draw.normal(size=shape)) for _ in range(2))
    angle = draw.uniform(0, 6, 3)
    factor = np.float32(0.9 * np.cos(angle)), np.float32(0.9 * np.sin(angle))
    going = np.float32(draw.random((7, 2, 1)) < 0.7)
    inputs, start, weight = pair(7, 2, 3), pair(2, 3), pair(7, 2, 3)

    @partial(jax.jit, static_argnums=0)
    def gradients(form: Any) -> Any:
        def total(factor: Any, inputs: Any, start: Any) -> Any:
            x = form(factor, going, inputs, start)
            return sum((w * y**2).sum() for w, y in zip(weight, x, strict=True))

        return jax.value_and_grad(total, (0, 1, 2))(factor, inputs, start)

    ours = jax.tree.leaves(gradients(lru.recurrence))
    assert all(np.abs(x).max() > 0.1 for x in ours)
    for form in (lru.step_by_step, lru.doubling):
        for x, y in zip(ours, jax.tree.leaves(gradients(form)), strict=True):
            np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-5)
