"""What several papers share: actor-critic, critics, Q-learning, minibatches."""
