"""A private internet: network namespaces, each with an address of its own, on one bridge.

    net = Network()                 # the test's own place in it is net.hub, 10.77.0.1
    mx = net.host("10.77.0.11")
    with mx:                        # this thread, and the processes it starts, are on that host
        chasq.start()

Namespaces and links have no names outside: they are gone with the last process and descriptor, however the
test ends.
"""

import ctypes
import os
import subprocess

import pytest

from peers import system

_libc = ctypes.CDLL(None, use_errno=True)
CLONE_NEWNET = 0x40000000


def _check(result):
    if result != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Namespace:
    """Entered with `with`, by one thread at a time or several."""

    def __init__(self):
        before = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        try:
            _check(_libc.unshare(CLONE_NEWNET))
            self.fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        finally:
            _check(_libc.setns(before, CLONE_NEWNET))
            os.close(before)
        self._outside = {}
        self.ip("link", "set", "lo", "up")

    @property
    def path(self):
        return f"/proc/{os.getpid()}/fd/{self.fd}"

    def __enter__(self):
        task = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
        self._outside.setdefault(_libc.gettid(), []).append(task)
        _check(_libc.setns(self.fd, CLONE_NEWNET))
        return self

    def __exit__(self, *exc):
        outside = self._outside[_libc.gettid()].pop()
        _check(_libc.setns(outside, CLONE_NEWNET))
        os.close(outside)

    def ip(self, *args):
        with self:
            subprocess.run([system("ip"), *map(str, args)], check=True, capture_output=True, text=True)

    def close(self):
        os.close(self.fd)


class Network:
    """Hosts of 10.77.0.0/24. Skips the test where namespaces are not to be had."""

    def __init__(self):
        if os.geteuid() != 0:
            pytest.skip("only root can make network namespaces")
        self.hosts = []
        try:
            self.hub = Namespace()
            self.hosts.append(self.hub)
            self.hub.ip("link", "add", "br0", "type", "bridge")
        except (OSError, subprocess.CalledProcessError) as error:
            self.close()
            pytest.skip(f"no network namespaces here: {getattr(error, 'stderr', None) or error}")
        self.hub.ip("address", "add", "10.77.0.1/24", "dev", "br0")
        self.hub.ip("link", "set", "br0", "up")

    def host(self, address):
        """A namespace with this address."""
        ns, port = Namespace(), f"port{len(self.hosts)}"
        self.hosts.append(ns)
        self.hub.ip("link", "add", port, "type", "veth", "peer", "name", "eth0", "netns", ns.path)
        self.hub.ip("link", "set", port, "master", "br0", "up")
        ns.ip("address", "add", f"{address}/24", "dev", "eth0")
        ns.ip("link", "set", "eth0", "up")
        return ns

    def close(self):
        for ns in self.hosts:
            ns.close()
        self.hosts = []
