"""What the settings of recipes mean, and which values they may have, by their names.

A name means the same in every recipe, so it stands here once. A recipe or an algorithm of your own
declares its own names: `field(default=..., metadata={"setting": Setting("...", low=0)})`.
"""

import dataclasses
from collections.abc import Mapping
from functools import partial
from types import MappingProxyType
from typing import Any

from parl.core.settings import Setting

count = partial(Setting, low=1)  # at least one
natural = partial(Setting, low=0)
positive = partial(Setting, low=0.0, above=True)
rate = partial(Setting, low=0.0)
share = partial(Setting, low=0.0, high=1.0)
choice = Setting

WIDTH = 65_536  # units of a layer

SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        # collecting
        "num_envs": count("Environments stepped in parallel, over all workers."),
        "length": count(
            "Steps of each environment in one rollout; on-policy algorithms learn from "
            "--num-envs times --length steps per update."
        ),
        "normalize_obs": choice("Normalise observations by their running mean and variance."),
        "normalize_reward": choice("Divide rewards by the running std of discounted returns."),
        # learning from rollouts
        "learning_rate": rate("Learning rate; for actor-critics that of the actor."),
        "critic_learning_rate": rate("Learning rate of the critics."),
        "gamma": share("Discount factor of future rewards, per step."),
        "lambda_": share("Lambda of the returns: 0 for one-step, 1 for full returns."),
        "entropy_cost": rate("Weight of the policy's entropy in the loss."),
        "value_cost": rate("Weight of the value loss."),
        "max_grad_norm": positive("Maximum global norm of gradients."),
        "anneal": choice("The learning rate falls linearly to 0 at the end of the run."),
        "rms_epsilon": positive("Epsilon of RMSProp."),
        "clip": positive("Clipping range of the probability ratio around 1."),
        "clip_value": choice("Also clip the change of values."),
        "epochs": count("Passes over each rollout."),
        "minibatches": count("Minibatches per epoch, one optimiser step for each."),
        "target_kl": positive("KL divergence from the old policy that ends an update; None: none."),
        "normalize_value": choice("Train critics on returns normalised to mean 0 and variance 1."),
        "huber_delta": positive("Value errors are squared up to this size and linear beyond."),
        "team_reward": choice("Each agent gets the sum of all agents' rewards."),
        # learning from replay
        "batch_size": count("Samples per update."),
        "updates": count("Updates after each rollout of --num-envs times --length steps."),
        "warmup": natural("Environment steps with random actions before learning begins."),
        "capacity": count("Samples that replay holds; new ones replace the oldest."),
        "replay_on_host": choice("Keep replay in host memory instead of on the device."),
        "n_step": count("Steps of n-step returns.", high=1_000),
        "window": count("Steps of a sampled window, burn-in included.", high=100_000),
        "burn_in": natural("Steps of a window that only bring the network's memory up to date."),
        "rescale": choice("The network predicts values on a scale that grows as a square root."),
        "priority": rate("Exponent of prioritised replay; 0 for uniform sampling."),
        "her": choice(
            "Hindsight, where there are goals: those of samples are replaced by ones that their "
            "episode achieved later."
        ),
        "her_share": share("Share of samples whose goals --her replaces; 0.8 is 4 of 5."),
        "tau": share("Step size of the target network towards the learned one, per update."),
        "target_period": count("Updates between updates of the target network."),
        "policy_period": count("Critic updates per policy update."),
        "double": choice("Double Q-learning: the online network picks the target's action."),
        "dueling": choice("Dueling network: separate state value and action advantages."),
        "noisy": choice(
            "Linear layers with learned noise, which explores while actions are not random: "
            "--epsilon-start 0 --epsilon-end 0."
        ),
        "values": choice(
            "What the network predicts of each action: scalar, categorical (a histogram of the "
            "return), quantile, or implicit (quantiles at drawn levels)."
        ),
        "value_min": Setting("Smallest return of categorical values."),
        "value_max": Setting("Largest return of categorical values."),
        "munchausen": rate("Weight of the action's log-probability in the reward; 0: soft DQN."),
        "entropy_temperature": positive("Weight of the entropy, in units of reward."),
        "log_policy_min": Setting(
            "Least log-probability in the reward, times the temperature.", high=0.0
        ),
        "reset_every": natural("Updates between resets of the networks; 0 for never."),
        # learning from data, and from a teacher
        "teacher_steps": count("Environment steps over which the teacher's share of acting falls."),
        "penalty": rate("Weight of the policy's distance from the recorded actions."),
        "critic_penalty": rate("Weight of the next action's distance from the recorded one."),
        "reward_scale": positive("Factor of rewards; by default, returns in the data span 1,000."),
        "expectile": share("Expectile of the values that state values are regressed on."),
        "inverse_temperature": rate("How sharply advantages weigh recorded actions."),
        "largest_weight": positive("Bound of the weight of a recorded action."),
        "conservatism": rate("Weight of the term that holds values of other actions down."),
        "samples": count("Sampled actions of each kind in the conservative term."),
        # exploration
        "epsilon_start": share("Initial share of random actions."),
        "epsilon_end": share("Share of random actions after --epsilon-steps."),
        "epsilon_steps": count("Environment steps over which the share of random actions falls."),
        "epsilon_spread": rate(
            "How much less each environment explores than the one before: the exponents of the "
            "share of random actions are 1 for the first to 1 plus this for the last."
        ),
        "noise_spread": rate(
            "How much less each environment explores than the one before: exploration noise is "
            "whole for the first down to 0.4 to the power of this for the last."
        ),
        "exploration": rate("Standard deviation of exploration noise; actions lie in [-1, 1]."),
        "noise_color": rate("Exponent of the noise's spectrum: 0 white, 1 pink, 2 red.", high=4.0),
        "noise_theta": share("Theta of Ornstein-Uhlenbeck noise; 0 for noise of --noise-color."),
        "longest_noise": count("Maximum number of steps for which noise is held.", high=10_000),
        "smoothing": rate("Standard deviation of noise on target actions."),
        "smoothing_clip": rate("Clipping range of noise on target actions."),
        "target_entropy": Setting(
            "Target entropy of the policy; by default it follows from the number of action "
            "dimensions."
        ),
        "initial_temperature": positive("Initial weight of the entropy, which is then learned."),
        "entropy_backup": choice("Values of the next state include the policy's entropy."),
        "temperature": positive("Temperature of the Gumbel-softmax for discrete actions."),
        "logit_cost": rate("Weight of the squared logits in the policy's loss."),
        "optimism": rate(
            "Standard deviations above the critics' mean in the upper bound for exploration."
        ),
        "shift": rate(
            "Length of the optimistic shift of actions, in standard deviations of the policy."
        ),
        # search
        "simulations": count("Simulations of the search before each action while learning."),
        "eval_simulations": count("Simulations of the search before each greedy action."),
        "considered": count("Actions that a search tries first, at most."),
        "least_range": positive("Values of a position closer than this count by what they differ."),
        "unroll": count("Steps of the learned model that are trained together.", high=1_000),
        "random_moves": share("Share of moves drawn uniformly among legal ones while learning."),
        # planning with a model
        "planning": choice("Plan while acting; otherwise the learned policy acts alone."),
        "horizon": count("Steps of plans and of the windows that the model learns from.", high=100),
        "sequences": count("Sequences of actions that an iteration of planning compares."),
        "proposals": natural("Of these sequences, those that the policy takes in the model."),
        "elites": count("Best sequences, which the next iteration is drawn around."),
        "iterations": count("Iterations of planning.", high=1_000),
        "planning_temperature": positive("How sharply returns weigh the best sequences."),
        "min_std": positive("Least standard deviation of planned actions."),
        "max_std": positive("Initial standard deviation of planned actions."),
        "encoder_rate": rate("Learning rate of the encoder, as a share of the others'."),
        "decay": share("Factor of a loss's weight from each step of a window to the next."),
        "consistency_cost": rate("Weight of the error of predicted latent states."),
        "reward_cost": rate("Weight of the error of predicted rewards."),
        # networks
        "hidden": count("Units of each layer; of the critics if the actor's differ.", high=WIDTH),
        "actor_hidden": count("Units of each layer of the actor.", high=WIDTH),
        "width": count("Units of the critics' layers.", high=WIDTH),
        "actor_width": count("Units of the actor's layers.", high=WIDTH),
        "blocks": count("Residual blocks of the critics.", high=1_000),
        "actor_blocks": count("Residual blocks of the actor.", high=1_000),
        "recurrent": choice(
            "Recurrent cell: none, gru, lstm or lru (linear, without a loop over steps)."
        ),
        "latent": count("Features of the latent states of the learned model.", high=WIDTH),
        "memory_size": count("Features of the recurrent cell.", high=WIDTH),
        "share_encoder": choice("Actor and critic share the network that encodes images."),
        "dropout": Setting("Dropout rate.", low=0.0, high=0.99),
        "renorm_after": natural("Updates with batch normalisation before batch renormalisation."),
        "num_critics": count("Number of critics.", high=1_000),
        "subset": count("Critics drawn for each target, which is their minimum.", high=1_000),
        "quantiles": count("Quantiles of each value.", high=10_000),
        "drop": natural("Largest quantiles of each critic that the target drops."),
        "bins": Setting("Bins of the distribution of returns.", low=2, high=100_000),
        "return_bound": positive("Returns are scaled to stay within this."),
        "weight_decay": rate("Weight decay."),
        "layers": count("Layers of the transformer.", high=1_000),
        "heads": count("Heads of each layer's attention.", high=1_000),
        "rate_warmup": natural("Updates in which the learning rate rises from 0."),
        "target_return": choice("Return that the policy is asked for; by default the data's best."),
        "return_scale": positive(
            "Returns are seen divided by this; by default the data's largest."
        ),
        "sharing": choice("Agents that share parameters: all, group (same role) or none."),
        "agent_id": choice("Append a one-hot index of the agent to the networks' input."),
        # games of hidden information
        "magnet_cost": rate("Initial weight of the policy's KL divergence from the magnet."),
        "magnet_cost_end": rate("Weight of that divergence at the end of the run."),
        "magnet_every": natural(
            "Updates between which the policy is copied to the magnet; 0: the magnet is uniform."
        ),
        "step_cost": rate("Weight of the policy's KL divergence from that before the update."),
        "transform_rewards": choice(
            "The magnet's term is in the rewards and not in the loss, as in R-NaD."
        ),
        "responses": count("Policies in each player's pool.", high=10_000),
        "response_rollouts": count("Rollouts in which a response is learned."),
        "measure_rollouts": count("Rollouts in which the pools' payoffs are measured."),
        "anticipation": share("Probability of an episode by the best response, not the average."),
        "average_learning_rate": rate("Learning rate of the average policy."),
        "average_batch": count("Steps of the reservoir in an update of the average policy."),
        "reservoir": count("Steps that the reservoir holds, a uniform sample of all."),
        # evolution
        "sigma": positive("Standard deviation of the parameter perturbations."),
        "noise_size": Setting("Size of the shared noise table.", low=2),
    }
)


def setting_of(name: str, *owners: Any) -> Setting:
    """The declaration of a setting: in the field of one of its owners, or by its name."""
    for owner in owners:
        for f in dataclasses.fields(owner):
            if f.name == name and "setting" in f.metadata:
                return f.metadata["setting"]
    return SETTINGS.get(name, Setting())
