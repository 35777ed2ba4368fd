"""Algorithms around an algorithm: normalised, with resets, in self-play, in a match."""
