"""Packages for competitions, tested before they are sent.

`competitions` is the table of what each takes, `packages` writes it, `sandbox` runs it in a process
of its own. `player` is a part of every package, `probe` and `games` run inside the sandbox: these
three need NumPy and the standard library only, and import nothing of PARL.
"""
