"""Search over actions: pure functions that are given what they search with."""
