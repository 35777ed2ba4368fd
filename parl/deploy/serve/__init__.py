"""Policies over HTTP: a pure ASGI application, and a server that runs it.

`store` holds what was loaded, `sessions` what recurrent policies remember, `queueing` steps them,
`act` and `kserve` read and write the two protocols, `application` is all of it, `server` runs it.
"""
