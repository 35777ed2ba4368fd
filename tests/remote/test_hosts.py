"""Runs over hosts that are network namespaces; experiments/links.py has the phases that last."""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[2] / "experiments"))
import links
from hosts import Hosts, possible

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(possible()), reason=f"no hosts can be made here: {possible()}"),
]


def test_hosts_have_a_network_of_their_own():
    """A cut link carries nothing, a healed one does, and nothing is left behind."""
    with Hosts(2) as hosts:
        names = [hosts.name(0), hosts.name(1)]
        assert hosts.run(1, "hostname").strip() == names[1]
        reach = lambda: hosts.start(0, *PROBE, log="probe").wait(20)
        server = hosts.start(1, sys.executable, "-c", LISTEN, log="listen")
        assert links.wait_for(lambda: reach() == 0, 20) is not None
        hosts.cut(1)
        assert reach() != 0
        hosts.heal(1)
        assert links.wait_for(lambda: reach() == 0, 20) is not None
        assert hosts.pids(1) == [server.pid]
        hosts.die(1)
        assert hosts.pids(1) == [] and server.wait(5) == -9
    assert not any(Path("/run/netns", name).exists() for name in names)
    assert not hosts.place.exists()


def test_packets_that_are_late():
    """Ten connections take a way there and back each, or more where a packet was lost."""
    with Hosts(2, delay=0.05, loss=0.05) as hosts:
        hosts.start(1, sys.executable, "-c", LISTEN, log="listen")
        reach = lambda: hosts.start(0, *PROBE, log="probe").wait(20)
        assert links.wait_for(lambda: reach() == 0, 20) is not None
        seconds = [float(x) for x in hosts.run(0, sys.executable, "-c", TIMED).split()]
    assert hosts.relay is not None
    assert len(seconds) == 10 and min(seconds) >= 0.1 and hosts.relay.returncode == -9


LISTEN = """
import socket
server = socket.create_server(("10.77.0.2", 7000))
while True:
    server.accept()[0].close()
"""
CONNECT = "import socket; socket.create_connection(('10.77.0.2', 7000), 2).close()"
TIMED = """
import socket, time
for _ in range(10):
    begin = time.monotonic()
    socket.create_connection(("10.77.0.2", 7000), 10).close()
    print(time.monotonic() - begin)
"""
PROBE = [sys.executable, "-c", CONNECT]


@pytest.mark.parametrize("phase", ["module", "cut-5"])
def test_a_phase(phase):
    before = set(os.listdir("/run/netns"))
    done = links.play(phase)
    assert done["good"], done
    assert set(os.listdir("/run/netns")) == before
