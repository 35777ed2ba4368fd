"""Nodes that leave and join, on Ray's cluster of several nodes on one machine."""

import os
import subprocess
import sys

import pytest

import parl

PROGRAM = """
import time
from itertools import islice

import numpy as np
from makers import toy_maker
from parl.remote import RolloutPool, connect, disconnect
from parl.remote.connect import loopback, quiet
from ray.cluster_utils import Cluster

with quiet(), loopback(True):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    nodes = [cluster.add_node(num_cpus=1) for _ in range(2)]
connect(cluster.address)
pool = RolloutPool(toy_maker(), 2, 3, 10, mode="async", deadline=5.0)
pool.publish(np.float32(0.5), 0)
stream = pool.stream()

def wait_for(workers):
    end = time.monotonic() + 60
    seen = set()
    for arrival in stream:
        seen.add(arrival.worker)
        time.sleep(0.01)
        if pool.stats()["workers"] == workers or time.monotonic() > end:
            return pool.stats()["workers"]

print("both nodes", wait_for(2))
with quiet(), loopback(True):
    cluster.remove_node(nodes[1], allow_graceful=False)
print("one left", wait_for(1))
before = pool.stats()["ledger"]["fragments"]["trained"]
list(islice(stream, 50))
print("goes on", pool.stats()["ledger"]["fragments"]["trained"] - before)
with quiet(), loopback(True):
    cluster.add_node(num_cpus=1)
print("both again", wait_for(2))
stats = pool.stats()
print("died", 1 <= stats["deaths"] <= 3, "given up", stats["given_up"])
pool.close()
disconnect()
cluster.shutdown()
"""


GROWING = """
import time
from itertools import islice

import numpy as np
from makers import toy_maker
from parl.remote import RolloutPool, connect, disconnect
from parl.remote.connect import loopback, quiet
from parl.remote.lifeline import store
from ray.cluster_utils import Cluster
from ray.core.generated.autoscaler_pb2 import DrainNodeReason

with quiet(), loopback(True):
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    first = cluster.add_node(num_cpus=1)
connect(cluster.address)
pool = RolloutPool(toy_maker(), 3, 3, 10, mode="async", deadline=5.0)
pool.publish(np.float32(0.5), 0)
pool.ready()
stream = pool.stream()

def wait_for(what):
    end = time.monotonic() + 60
    for arrival in stream:
        time.sleep(0.01)
        if what() or time.monotonic() > end:
            return what()

print("content with one", wait_for(lambda: pool.stats()["workers"] == 1))
with quiet(), loopback(True):
    second = cluster.add_node(num_cpus=3)
print("grown", wait_for(lambda: pool.stats()["workers"] == 3))
print("asked", pool.asks_to_save())
deadline = round(1000 * (time.time() + 60))
reason = DrainNodeReason.Value("DRAIN_NODE_REASON_PREEMPTION")
print("accepted", store().drain_node(second.node_id, reason, "test", deadline)[0])
with quiet(), loopback(True):
    third = cluster.add_node(num_cpus=3)
here = lambda: pool.backend.leaving([slot.process for slot in pool.supervisor.slots])[0]
gone = lambda: pool.stats()["drained"] == 2 and pool.stats()["workers"] == 3 and not here()
print("left", wait_for(gone))
print("asked", pool.asks_to_save(), pool.asks_to_save())
with quiet(), loopback(True):
    cluster.remove_node(second, allow_graceful=False)
list(islice(stream, 50))
books = pool.stats()["ledger"]["steps"]
exact = books["produced"] == books["trained"] + books["in_queue"]
print("books", exact, books["lost"], pool.stats()["deaths"])
pool.close()
disconnect()
cluster.shutdown()
"""


@pytest.mark.slow
def test_a_pool_grows_with_the_cluster_and_leaves_a_node_that_is_drained():
    assert program(GROWING) == [
        "content with one True",
        "grown True",
        "asked False",
        "accepted True",
        "left True",
        "asked True False",
        "books True 0 0",
    ]


@pytest.mark.slow
def test_nodes_leave_and_join():
    assert program(PROGRAM) == [
        "both nodes 2",
        "one left 1",
        "goes on 50",
        "both again 2",
        "died True given up {}",
    ]


def program(text):
    """The lines that a program prints, but for Ray's."""
    root = os.path.dirname(os.path.dirname(parl.__file__))
    path = os.pathsep.join([root, os.path.dirname(__file__)])
    done = subprocess.run(
        [sys.executable, "-c", text],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": path, "RAY_AUTH_MODE": "token"},
    )
    assert done.returncode == 0, done.stderr
    return [line for line in done.stdout.splitlines() if not line.startswith("[")]
