"""A trained policy as an artefact that needs neither JAX nor PARL.

`trace` makes a Program of `algorithm.act`, `export/` writes it in several forms, `parity` shows
that these act alike. `shapes program arrays threefry contract policy` are the runtime: NumPy and
the standard library only, and together the `policy.py` of every artefact.
"""
