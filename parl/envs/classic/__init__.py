"""Gymnasium's classic-control environments in JAX."""
