"""Runs: settings, construction, training, evaluation and storage."""
