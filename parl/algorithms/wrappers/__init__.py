"""Algorithms that wrap others: normalisation, resets, self-play and matches."""
