"""The forms of a policy: a module each, with a table of what every operation becomes."""
