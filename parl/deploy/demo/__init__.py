"""A page that shows a policy, acting in twins of our environments in JavaScript, or replayed."""
