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


@pytest.mark.slow
def test_nodes_leave_and_join():
    root = os.path.dirname(os.path.dirname(parl.__file__))
    path = os.pathsep.join([root, os.path.dirname(__file__)])
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        timeout=200,
        env=os.environ | {"PYTHONPATH": path, "RAY_AUTH_MODE": "token"},
    )
    lines = done.stdout.splitlines()
    assert [line for line in lines if not line.startswith("[")] == [
        "both nodes 2",
        "one left 1",
        "goes on 50",
        "both again 2",
        "died True given up {}",
    ], done.stderr
