"""A page on this machine that shows runs while they learn."""
