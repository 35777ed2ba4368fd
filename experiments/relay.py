"""A switch in a process: it carries packets between hosts late, and loses some.

    python experiments/relay.py DELAY LOSS SEED HOST ...   # seconds, a share, namespaces

Each host has a device eth0 of the kind TUN and the address 10.77.0.K, K counted from 1; what it
sends is read here and written to the device of the host that it is for. So it needs no netem in the
kernel. Each packet is on its way for DELAY, in order.
"""

import ctypes
import fcntl
import os
import random
import select
import struct
import sys
import time
from collections import deque
from contextlib import suppress

TUNSETIFF, IFF_TUN, IFF_NO_PI, CLONE_NEWNET = 0x400454CA, 0x0001, 0x1000, 0x40000000
DESTINATION = 19  # the last byte of an IPv4 packet's destination
LARGEST = 65_536


def opened(host: str) -> int:
    """The device of a host, as a file; this process is on that host from here on."""
    library = ctypes.CDLL(None, use_errno=True)
    with open(f"/run/netns/{host}") as namespace:
        if library.setns(namespace.fileno(), CLONE_NEWNET):
            raise OSError(ctypes.get_errno(), f"cannot enter {host}")
    device = os.open("/dev/net/tun", os.O_RDWR | os.O_NONBLOCK)
    fcntl.ioctl(device, TUNSETIFF, struct.pack("16sH", b"eth0", IFF_TUN | IFF_NO_PI))
    return device


def relay(devices: list[int], delay: float, loss: float, seed: int) -> None:
    """Carries packets until it is killed."""
    draw, under_way = random.Random(seed), deque[tuple[float, int, bytes]]()
    while True:
        wait = max(0.0, under_way[0][0] - time.monotonic()) if under_way else None
        for device in select.select(devices, [], [], wait)[0]:
            packet = os.read(device, LARGEST)
            index = packet[DESTINATION] - 1 if packet[0] >> 4 == 4 else -1
            if 0 <= index < len(devices) and draw.random() >= loss:
                under_way.append((time.monotonic() + delay, devices[index], packet))
        while under_way and under_way[0][0] <= time.monotonic():
            _, device, packet = under_way.popleft()
            with suppress(BlockingIOError):  # its queue is full: it is lost, as in a switch
                os.write(device, packet)


if __name__ == "__main__":
    late, lost, first, *names = sys.argv[1:]
    relay([opened(host) for host in names], float(late), float(lost), int(first))
