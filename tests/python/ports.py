"""Ports of loopback for servers that a test starts."""

import contextlib
import itertools
import os
import socket

# Below those that the system picks for a connection, and each process counts from a place of its own.
PORTS = range(10_240, 32_768)
PORTS_OF_A_PROCESS = 32
taken = itertools.count(os.getpid() * PORTS_OF_A_PROCESS)


def free_port() -> int:
    """A port to listen at, later and again after a restart, which nobody else is given meanwhile."""
    while True:
        port = PORTS[next(taken) % len(PORTS)]
        with socket.socket() as one, contextlib.suppress(OSError):
            one.bind(("127.0.0.1", port))
            return port
