"""Parts shared by several algorithms: actor-critic, critics, Q-learning, minibatches."""
