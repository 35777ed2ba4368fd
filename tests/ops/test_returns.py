"""Every number in the first half is worked by hand; the second half holds rlax against ours."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from parl import ops

# Three steps of one environment, gamma = lambda = 0.5. As is, an episode that goes on.
REWARD = jnp.array([[1.0], [2], [3]])
DISCOUNT = jnp.full((3, 1), 0.5)
LAST = jnp.zeros((3, 1), bool)
VALUE = jnp.ones((3, 1))
NEXT_VALUE = jnp.array([[1.0], [1], [2]])
LOG_RHOS = jnp.log(jnp.array([[2.0], [0.5], [1]]))

# The same with an end after the second step, whose next observation is worth 4.
ENDED = LAST.at[1].set(True)
NEXT_VALUE_ENDED = NEXT_VALUE.at[1].set(4.0)
TERMINATED = DISCOUNT.at[1].set(0.0)


def column(x):
    return np.asarray(x)[:, 0]


def close(x, expected, **kwargs):
    np.testing.assert_allclose(x, expected, rtol=1e-5, atol=1e-6, **kwargs)


def test_gae():
    # delta = [0.5, 1.5, 3], weight 0.25
    close(column(ops.gae(REWARD, DISCOUNT, LAST, VALUE, NEXT_VALUE, 0.5)), [1.0625, 2.25, 3])


def test_gae_bootstraps_at_a_time_limit_and_not_at_a_termination():
    limit = ops.gae(REWARD, DISCOUNT, ENDED, VALUE, NEXT_VALUE_ENDED, 0.5)
    close(column(limit), [1.25, 3, 3])  # delta_1 = 2 + 0.5 * 4 - 1
    end = ops.gae(REWARD, TERMINATED, ENDED, VALUE, NEXT_VALUE_ENDED, 0.5)
    close(column(end), [0.75, 1, 3])  # delta_1 = 2 - 1


@pytest.mark.parametrize(
    ("n", "expected"), [(1, [1.5, 2.5, 4]), (2, [2.25, 4, 4]), (3, [3, 4, 4]), (9, [3, 4, 4])]
)
def test_n_step(n, expected):
    close(column(ops.n_step(REWARD, DISCOUNT, LAST, NEXT_VALUE, n)), expected)


def test_n_step_windows_stop_at_the_end_of_an_episode():
    limit = ops.n_step(REWARD, DISCOUNT, ENDED, NEXT_VALUE_ENDED, 2)
    close(column(limit), [3, 4, 4])  # 1 + 0.5 * (2 + 0.5 * 4)
    end = ops.n_step(REWARD, TERMINATED, ENDED, NEXT_VALUE_ENDED, 2)
    close(column(end), [2, 2, 4])


def test_n_step_needs_a_step():
    with pytest.raises(ValueError, match="at least 1"):
        ops.n_step(REWARD, DISCOUNT, LAST, NEXT_VALUE, 0)


def test_lambda_returns():
    # 4; 2 + 0.5 * (0.5 + 2) ; 1 + 0.5 * (0.5 + 1.625)
    returns = ops.lambda_returns(REWARD, DISCOUNT, LAST, NEXT_VALUE, 0.5)
    close(column(returns), [2.0625, 3.25, 4])
    close(column(ops.lambda_returns(REWARD, DISCOUNT, LAST, NEXT_VALUE, 0.0)), [1.5, 2.5, 4])
    limit = ops.lambda_returns(REWARD, DISCOUNT, ENDED, NEXT_VALUE_ENDED, 0.5)
    close(column(limit), [2.25, 4, 4])  # 1 + 0.5 * (0.5 * 1 + 0.5 * 4)
    end = ops.lambda_returns(REWARD, TERMINATED, ENDED, NEXT_VALUE_ENDED, 0.5)
    close(column(end), [1.75, 2, 4])


def test_vtrace():
    # rho = c = [1, 0.5, 1], delta = [0.5, 0.75, 3], errors = [1.25, 1.5, 3]
    out = ops.vtrace(LOG_RHOS, REWARD, DISCOUNT, LAST, VALUE, NEXT_VALUE)
    close(column(out.target), [2.25, 2.5, 4])
    close(column(out.q_value), [2.25, 4, 4])
    close(column(out.advantage), [1.25, 1.5, 3])


def test_vtrace_clips_its_three_ratios_separately():
    args = (LOG_RHOS, REWARD, DISCOUNT, LAST, VALUE, NEXT_VALUE)
    wide = ops.vtrace(*args, clip_rho=2.0)
    close(column(wide.target), [2.75, 2.5, 4])  # delta_0 = 1
    close(column(wide.advantage), [1.25, 1.5, 3])
    close(column(ops.vtrace(*args, clip_c=2.0).target), [3, 2.5, 4])  # 0.5 + 0.5 * 2 * 1.5
    close(column(ops.vtrace(*args, clip_pg_rho=2.0).advantage), [2.5, 1.5, 3])


def test_vtrace_bootstraps_at_a_time_limit_and_not_at_a_termination():
    # delta_1 = 0.5 * (2 + 0.5 * 4 - 1), nothing flows back over the end
    limit = ops.vtrace(LOG_RHOS, REWARD, DISCOUNT, ENDED, VALUE, NEXT_VALUE_ENDED)
    close(column(limit.target), [2.25, 2.5, 4])
    close(column(limit.advantage), [1.25, 1.5, 3])
    end = ops.vtrace(LOG_RHOS, REWARD, TERMINATED, ENDED, VALUE, NEXT_VALUE_ENDED)
    close(column(end.target), [1.75, 1.5, 4])
    close(column(end.advantage), [0.75, 0.5, 3])


def test_vtrace_on_policy_is_the_lambda_return():
    out = ops.vtrace(0 * LOG_RHOS, REWARD, DISCOUNT, LAST, VALUE, NEXT_VALUE, lambda_=0.5)
    close(column(out.target), [2.0625, 3.25, 4])


def test_vtrace_gradient_is_finite_for_huge_ratios():
    def total(log_rhos):
        return ops.vtrace(log_rhos, REWARD, DISCOUNT, LAST, VALUE, NEXT_VALUE).advantage.sum()

    close(column(jax.grad(total)(jnp.full((3, 1), 500.0))), [0, 0, 0])


def test_retrace():
    # errors = [0.5 + 0.5 * 0.5 * 3, 1.5 + 0.5 * 1 * 3, 3]: the ratio of the step that follows
    returns = ops.retrace(LOG_RHOS, REWARD, DISCOUNT, LAST, VALUE, NEXT_VALUE)
    close(column(returns), [2.25, 4, 4])
    limit = ops.retrace(LOG_RHOS, REWARD, DISCOUNT, ENDED, VALUE, NEXT_VALUE_ENDED)
    close(column(limit), [2.25, 4, 4])  # errors = [0.5 + 0.25 * 3, 3, 3]
    end = ops.retrace(LOG_RHOS, REWARD, TERMINATED, ENDED, VALUE, NEXT_VALUE_ENDED)
    close(column(end), [1.75, 2, 4])


ESTIMATORS = {
    "gae": lambda r, d, last, v, nv: ops.gae(r, d, last, v, nv, 0.5),
    "n_step": lambda r, d, last, v, nv: ops.n_step(r, d, last, nv, 2),
    "lambda_returns": lambda r, d, last, v, nv: ops.lambda_returns(r, d, last, nv, 0.5),
    "vtrace": lambda r, d, last, v, nv: ops.vtrace(0.3 * v, r, d, last, v, nv).target,
    "retrace": lambda r, d, last, v, nv: ops.retrace(0.3 * v, r, d, last, v, nv),
}


@pytest.mark.parametrize("name", ESTIMATORS)
def test_an_agent_axis_is_one_more_batch_axis(name):
    estimate = ESTIMATORS[name]
    reward, value, next_value = np.random.default_rng(0).normal(size=(3, 6, 2, 3)).astype("f4")
    last = np.zeros((6, 2), bool)
    last[2, 0] = last[4, 1] = True
    discount = np.where(last & [True, False], 0.0, 0.9).astype("f4")
    together = jax.jit(estimate)(reward, discount, last, value, next_value)
    assert together.shape == (6, 2, 3)
    for i in range(3):
        alone = estimate(reward[..., i], discount, last, value[..., i], next_value[..., i])
        close(together[..., i], alone)


@pytest.mark.parametrize("name", ESTIMATORS)
def test_nothing_crosses_the_end_of_an_episode(name):
    later = NEXT_VALUE_ENDED.at[2].set(99.0)
    before = ESTIMATORS[name](REWARD, DISCOUNT, ENDED, VALUE, NEXT_VALUE_ENDED)
    after = ESTIMATORS[name](REWARD.at[2].set(-7.0), DISCOUNT, ENDED, VALUE.at[2].set(5.0), later)
    close(after[:2], before[:2])


@pytest.mark.parametrize("name", ESTIMATORS)
def test_wrong_shapes_are_refused(name):
    estimate = ESTIMATORS[name]
    with pytest.raises(ValueError, match=r"next_value \(2, 1\) must have the shape of reward"):
        estimate(REWARD, DISCOUNT, LAST, VALUE, NEXT_VALUE[:2])
    with pytest.raises(ValueError, match=r"discount \(3,\) must have the leading axes of reward"):
        estimate(REWARD[:2], DISCOUNT[:, 0], LAST[:2], VALUE[:2], NEXT_VALUE[:2])
    with pytest.raises(ValueError, match=r"last \(\) must have the leading axes of reward"):
        estimate(REWARD, DISCOUNT, False, VALUE, NEXT_VALUE)


# Against rlax, which knows no `last`: its functions run on every episode of a sequence by itself.
# One environment terminates after its second step, one meets a time limit after its third.
EXAMPLE = {
    "log_rhos": [[0.5, -0.3], [-0.7, 0.2], [0.1, 0.9], [-0.2, -1.1], [0.8, 0.05]],
    "reward": [[1.0, -0.5], [0.3, 2.0], [-1.2, 0.7], [0.0, 0.4], [2.5, -0.9]],
    "discount": [[0.9, 0.9], [0.0, 0.9], [0.9, 0.9], [0.9, 0.9], [0.9, 0.9]],
    "last": [[False, False], [True, False], [False, True], [False, False], [False, False]],
    "value": [[0.2, 1.1], [-0.4, 0.6], [0.9, -0.3], [1.5, 0.8], [-0.7, 0.1]],
    "next_value": [[-0.4, 0.6], [0.5, -0.3], [1.5, 1.9], [-0.7, 0.1], [0.3, -1.3]],
}

RLAX = {
    "gae": [[0.944, 1.158464], [0.7, 3.0812], [-0.484752, 2.71], [0.3684, -1.8724], [3.47, -2.17]],
    "n_step": [[1.27, 1.057], [0.3, 4.169], [-1.767, 2.41], [2.493, -1.463], [2.77, -2.07]],
    "lambda_returns": [
        [1.144, 2.258464],
        [0.3, 3.6812],
        [0.415248, 2.41],
        [1.8684, -1.0724],
        [2.77, -2.07],
    ],
    "vtrace_target": [
        [0.978279, 2.286907],
        [-0.05239, 4.29744],
        [0.582843, 2.952],
        [2.210724, 0.150067],
        [3.464, -2.181258],
    ],
    "vtrace_advantage": [
        [1.035419, 1.186907],
        [0.34761, 4.240026],
        [-0.263339, 4.065],
        [0.710724, -0.649933],
        [5.205, -2.281258],
    ],
    "vtrace_q_value": [
        [0.890279, 2.702157],
        [0.3, 4.07144],
        [0.661721, 2.41],
        [2.36808, -1.152506],
        [2.77, -2.07],
    ],
    "retrace": [
        [0.890279, 2.258464],
        [0.3, 3.6812],
        [0.367167, 2.41],
        [1.8684, -1.0724],
        [2.77, -2.07],
    ],
}


def example():
    return {name: jnp.array(x) for name, x in EXAMPLE.items()}


def ours(log_rhos, reward, discount, last, value, next_value):
    args = (reward, discount, last)
    vtrace = ops.vtrace(log_rhos, *args, value, next_value, 0.8, 1.2, 1.0, 1.5)
    return {
        "gae": ops.gae(*args, value, next_value, 0.8),
        "n_step": ops.n_step(*args, next_value, 2),
        "lambda_returns": ops.lambda_returns(*args, next_value, 0.8),
        "vtrace_target": vtrace.target,
        "vtrace_advantage": vtrace.advantage,
        "vtrace_q_value": vtrace.q_value,
        "retrace": ops.retrace(log_rhos, *args, value, next_value, 0.8),
    }


def theirs(rlax, log_rhos, reward, discount, last, value, next_value):
    """The same from rlax, episode by episode, for arrays [T, B]."""
    steps, batch = reward.shape
    out = {name: np.zeros((steps, batch)) for name in RLAX}
    for b in range(batch):
        ends = [*np.flatnonzero(last[:-1, b]) + 1, steps]
        for start, stop in zip([0, *ends[:-1]], ends, strict=True):
            part = slice(start, stop)
            x = (log_rhos, reward, discount, value, next_value)
            log_rho, r, d, v, nv = (leaf[part, b] for leaf in x)
            values = jnp.append(v, nv[-1])
            gae = rlax.truncated_generalized_advantage_estimation(r, d, 0.8, values)
            vtrace = rlax.vtrace_td_error_and_advantage(
                v, nv, r, d, jnp.exp(log_rho), 0.8, clip_rho_threshold=1.2,
                clip_pg_rho_threshold=1.5,
            )  # fmt: skip
            error = rlax.retrace_continuous(v, v[1:], nv, r, d, log_rho[1:], 0.8)
            found = {
                "gae": gae,
                "n_step": rlax.n_step_bootstrapped_returns(r, d, nv, 2),
                "lambda_returns": rlax.lambda_returns(r, d, nv, 0.8),
                "vtrace_target": vtrace.errors + v,
                "vtrace_advantage": vtrace.pg_advantage,
                "vtrace_q_value": vtrace.q_estimate,
                "retrace": error + v,
            }
            for name, x in found.items():
                out[name][part, b] = x
    return out


def test_numbers_of_rlax():
    found = jax.jit(ours)(**example())
    assert found.keys() == RLAX.keys()
    for name, x in found.items():
        close(x, RLAX[name], err_msg=name)


@pytest.mark.filterwarnings("ignore")
def test_rlax_gives_these_numbers():
    rlax = pytest.importorskip("rlax")
    for name, x in theirs(rlax, **example()).items():
        close(x, RLAX[name], err_msg=name)


@pytest.mark.filterwarnings("ignore")
def test_agrees_with_rlax_on_random_sequences():
    rlax = pytest.importorskip("rlax")
    rng = np.random.default_rng(0)
    log_rhos, reward, value, fresh = rng.normal(size=(4, 12, 3)).astype("f4")
    last = rng.random((12, 3)) < 0.25
    next_value = np.where(last, fresh, np.roll(value, -1, axis=0))
    next_value[-1] = fresh[-1]
    discount = np.where(last & (rng.random((12, 3)) < 0.5), 0.0, 0.97).astype("f4")
    args = tuple(map(jnp.asarray, (log_rhos, reward, discount, last, value, next_value)))
    expected = theirs(rlax, *args)
    for name, x in jax.jit(ours)(*args).items():
        close(x, expected[name], err_msg=name)


# -- what is not finite ---------------------------------------------------------------------------


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_nothing_after_an_end_leaks_before_it(bad):
    """The numbers of the ended episode above, with a third step that is not finite."""
    reward, value = REWARD.at[2].set(bad), VALUE.at[2].set(bad)
    limit = NEXT_VALUE_ENDED.at[2].set(bad)
    before = lambda x: column(x)[:2]
    tail = reward, DISCOUNT, ENDED
    close(before(ops.gae(*tail, value, limit, 0.5)), [1.25, 3])
    close(before(ops.lambda_returns(*tail, limit, 0.5)), [2.25, 4])
    close(before(ops.n_step(*tail, limit, 2)), [3, 4])
    zeros = jnp.zeros((3, 1))
    traced = ops.vtrace(zeros, *tail, value, limit)
    close(before(traced.target), [3, 4])
    close(before(traced.advantage), [2, 3])
    close(before(ops.retrace(zeros, *tail, value, limit)), [3, 4])
    slope = jax.grad(lambda x: ops.gae(*tail, value, limit, x)[:2].sum())(0.5)
    close(slope, 0.5 * 3)  # delta_0 + 0.5 * lambda * delta_1


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_follows_a_termination_counts_for_nothing(bad):
    tail = REWARD, TERMINATED, ENDED
    after = NEXT_VALUE.at[1].set(bad)
    close(column(ops.gae(*tail, VALUE, after, 0.5)), [0.75, 1, 3])
    close(column(ops.lambda_returns(*tail, after, 0.5)), [1.75, 2, 4])
    close(column(ops.n_step(*tail, after, 2)), [2, 2, 4])


def test_with_lambda_zero_nothing_later_counts():
    reward = REWARD.at[2].set(np.inf)
    close(column(ops.gae(reward, DISCOUNT, LAST, VALUE, NEXT_VALUE, 0.0))[:2], [0.5, 1.5])


@pytest.mark.parametrize("name", ["gae", "n_step", "lambda_returns", "vtrace", "retrace"])
def test_no_step_at_all_is_said_in_words(name):
    none = jnp.zeros((0, 2))
    count = {"gae": 5, "n_step": 4, "lambda_returns": 4, "vtrace": 6, "retrace": 6}[name]
    scalar = {"n_step": (3,), "gae": (0.9,), "lambda_returns": (0.9,)}.get(name, ())
    with pytest.raises(ValueError, match=r"reward \(0, 2\) must have at least one step"):
        getattr(ops, name)(*[none] * count, *scalar)
