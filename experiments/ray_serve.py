"""Lets exported policies act on Ray Serve: the application of `parl serve`, in replicas.

    pip install 'parl-jax' 'ray[serve]'
    python experiments/ray_serve.py POLICY ... [--replicas 2] [--port 8000]

It starts Ray on this machine; it answers on 127.0.0.1 as `parl serve` does. Replicas share nothing,
so a policy with memory takes one replica, where its sessions are.
"""

import argparse
import signal
import threading
from pathlib import Path
from typing import Any

from ray import serve

import parl
from parl.core.errors import ParlError
from parl.deploy.serve import store
from parl.deploy.serve.application import Application
from parl.deploy.serve.limits import Limits


def deployment(places: list[str], replicas: int) -> Any:
    """The application for Ray Serve, which every replica builds for itself."""

    def build() -> Application:
        limits = Limits()
        shelves = [store.opened(Path(p).name, Path(p), "numpy", limits) for p in places]
        return Application(shelves, limits)

    shelves = build().shelves.values()  # what cannot be served is said here
    remembering = [shelf.name for shelf in shelves if shelf.get(None).remembers]
    if remembering and replicas > 1:
        raise SystemExit(f"{', '.join(remembering)} has memory: it takes --replicas 1.")
    options = {"num_replicas": replicas, "max_ongoing_requests": 1024}
    return serve.deployment(**options)(serve.ingress(build)()).bind()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("policies", nargs="+")
    parser.add_argument("--replicas", type=int, default=1)
    parser.add_argument("--port", type=int, default=8000)
    arguments = parser.parse_args()
    places = [str(Path(each).absolute()) for each in arguments.policies]
    try:
        application = deployment(places, arguments.replicas)
    except ParlError as error:
        raise SystemExit(f"ray_serve: {error}") from None
    ended = threading.Event()
    for signum in (signal.SIGINT, signal.SIGTERM):
        signal.signal(signum, lambda *_: ended.set())
    parl.connect(num_cpus=arguments.replicas + 1)  # on this machine, for this process alone
    serve.start(http_options={"host": "127.0.0.1", "port": arguments.port})
    serve.run(application)
    print(f"http://127.0.0.1:{arguments.port}/act", flush=True)
    ended.wait()
    serve.shutdown()
    parl.disconnect()


if __name__ == "__main__":
    main()
