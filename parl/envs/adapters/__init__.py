"""Adapters that turn environments of other packages into vector environments."""
