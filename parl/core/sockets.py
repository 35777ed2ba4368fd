"""Sockets that listen, and which addresses are this machine's own."""

import ipaddress
import socket

from parl.core.errors import ConfigError

BACKLOG = 2048
# of a request's head: a page of another site has its own name there, also if that name leads here
LOCAL = frozenset({"localhost", "127.0.0.1", "[::1]"})


def is_local(host: str) -> bool:
    """Whether only processes of this machine reach a host's address."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def without_port(host: str) -> str:
    """The name in the Host header of a request, such as [::1] of [::1]:8000."""
    return host if host.endswith("]") else host.rpartition(":")[0] or host


def listen(host: str, port: int) -> socket.socket:
    """A socket that listens. Raises ConfigError where that cannot be."""
    try:
        family, kind, proto, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    except (socket.gaierror, UnicodeError) as error:
        raise ConfigError(f"--host {host} is no address of this machine: {error}.") from error
    listener = socket.socket(family, kind, proto)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(BACKLOG)
    except OSError as error:
        listener.close()
        reason = "is taken" if error.errno == 98 else f"cannot be had ({error.strerror})"
        raise ConfigError(
            f"port {port} of {host} {reason}: choose another --port, or 0 for any that is free."
        ) from error
    return listener


def url_of(listener: socket.socket) -> str:
    """The address under which a socket is reached."""
    host, port = listener.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
