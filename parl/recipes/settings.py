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

count = partial(Setting, low=1)  # of things of which there is at least one
natural = partial(Setting, low=0)
positive = partial(Setting, low=0.0, above=True)
rate = partial(Setting, low=0.0)
share = partial(Setting, low=0.0, high=1.0)
choice = Setting

WIDTH = 65_536  # units of a layer

SETTINGS: Mapping[str, Setting] = MappingProxyType(
    {
        # collecting
        "num_envs": count("Environments that are stepped together, over all workers."),
        "length": count(
            "Steps that each environment is rolled between two updates; of an on-policy "
            "algorithm, what one update learns from is --num-envs times so many."
        ),
        "normalize_obs": choice("Scale observations to mean 0 and variance 1, as seen so far."),
        "normalize_reward": choice("Scale rewards by the spread of discounted returns so far."),
        # learning from rollouts
        "learning_rate": rate("Step size of the optimiser; of actor-critics the actor's."),
        "critic_learning_rate": rate("Step size of the optimiser of the critics."),
        "gamma": share("Discount of a reward for each step that it lies ahead."),
        "lambda_": share("Weight of longer returns: 0 for one step, 1 for the whole rollout."),
        "entropy_cost": rate("Weight of the policy's entropy in the loss."),
        "value_cost": rate("Weight of the critic in the loss."),
        "max_grad_norm": positive("Gradients longer than this are scaled down to it."),
        "anneal": choice("The learning rate falls linearly to 0 at the end of the run."),
        "rms_epsilon": positive("RMSProp: what is added to the root of the mean square."),
        "clip": positive("How far a policy's ratio may go from 1 before it teaches no more."),
        "clip_value": choice("Clip how far values move, as policies are clipped."),
        "epochs": count("Times that every sample of a rollout is learned from."),
        "minibatches": count("Parts that a rollout is divided into, one for each step."),
        "target_kl": positive("Divergence from the old policy that ends the epochs; None: never."),
        "normalize_value": choice("Critics learn returns scaled to mean 0 and variance 1."),
        "huber_delta": positive("Errors of values count squared up to it, then linearly."),
        "team_reward": choice("Each agent is paid what all are paid together."),
        # learning from replay
        "batch_size": count("Samples of one update."),
        "updates": count("Updates after each rollout of --num-envs times --length steps."),
        "warmup": natural("Environment steps of random actions before learning begins."),
        "capacity": count("Samples that replay holds; the oldest make room."),
        "replay_on_host": choice("Keep replay in the host's memory rather than on the device."),
        "n_step": count("Steps of a sampled transition before values take over.", high=1_000),
        "priority": rate("Exponent of prioritised replay; 0 to sample uniformly."),
        "tau": share("How far a target network moves to the learned one at each update."),
        "target_period": count("Updates between two moves of the target network."),
        "policy_period": count("Updates of critics for each update of the policy."),
        "double": choice("The learned network picks the action that the target network values."),
        "dueling": choice("A value of the state and one of each action, in one network."),
        "reset_every": natural("Updates between fresh networks; 0 for never."),
        # exploration
        "epsilon_start": share("Share of random actions at the beginning."),
        "epsilon_end": share("Share of random actions once --epsilon-steps have passed."),
        "epsilon_steps": count("Environment steps in which their share falls to its end."),
        "exploration": rate("Standard deviation of the noise on actions, which are within 1."),
        "noise_color": rate("Exponent of the noise's spectrum: 0 white, 1 pink, 2 red.", high=4.0),
        "noise_theta": share("Pull of Ornstein-Uhlenbeck noise to 0 in a step; 0: white noise."),
        "longest_noise": count("Steps that a draw of noise is held for at most.", high=10_000),
        "smoothing": rate("Standard deviation of the noise on the target's actions."),
        "smoothing_clip": rate("Bound of the noise on the target's actions."),
        "target_entropy": Setting(
            "Entropy of the policy that the temperature steers to; the default follows from the "
            "number of action dimensions."
        ),
        "initial_temperature": positive("Weight of the entropy before it is learned."),
        "temperature": positive("Of the softmax that discrete actions are relaxed with."),
        "logit_cost": rate("Weight of the squared logits in the policy's loss."),
        "optimism": rate(
            "Standard deviations of the critics above their mean that exploration takes them for."
        ),
        "shift": rate(
            "Length of the shift to the optimistic action, in standard deviations of the policy."
        ),
        # networks
        "hidden": count("Units of each layer, of the critics where they differ.", high=WIDTH),
        "actor_hidden": count("Units of each layer of the actor.", high=WIDTH),
        "width": count("Units of the critics' layers.", high=WIDTH),
        "actor_width": count("Units of the actor's layers.", high=WIDTH),
        "blocks": count("Residual blocks of the critics.", high=1_000),
        "actor_blocks": count("Residual blocks of the actor.", high=1_000),
        "recurrent": choice("The cell that remembers: none, gru or lstm."),
        "memory_size": count("Features of the recurrent cell.", high=WIDTH),
        "share_encoder": choice("Actor and critic look at images through one network."),
        "dropout": Setting("Share of units that are left out.", low=0.0, high=0.99),
        "renorm_after": natural("Updates of batch normalisation before renormalisation."),
        "num_critics": count("Networks that are asked for an action's value.", high=1_000),
        "subset": count("Critics of which the least value is the target.", high=1_000),
        "quantiles": count("Numbers by which each critic describes returns.", high=10_000),
        "drop": natural("Largest quantiles of each critic that are left out of the target."),
        "bins": Setting("Bins of the critics' distribution of returns.", low=2, high=100_000),
        "return_bound": positive("Returns are scaled to stay within this."),
        "weight_decay": rate("Pull of the weights to 0."),
        "sharing": choice("Who shares parameters: all agents, group (those of one role), none."),
        "agent_id": choice("Networks are told which agent they act for."),
        # evolution
        "sigma": positive("Standard deviation of a population's parameters."),
        "noise_size": Setting("Numbers in the table that noise is drawn from.", low=2),
    }
)


def setting_of(name: str, *owners: Any) -> Setting:
    """What is declared of a setting: by the field of one of its owners, or by its name."""
    for owner in owners:
        for f in dataclasses.fields(owner):
            if f.name == name and "setting" in f.metadata:
                return f.metadata["setting"]
    return SETTINGS.get(name, Setting())
