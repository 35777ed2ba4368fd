"""Gymnasium's classic control as pure JAX programs."""
