"""Which HTTP proxy a connection goes through.

gRPC reads grpc_proxy, https_proxy and http_proxy, also for this machine's own addresses and against NO_PROXY. The
decision is made here instead and handed to gRPC, so that errors can name the proxy.
"""

from __future__ import annotations

import ipaddress
import os
import re
from collections.abc import Mapping
from urllib.parse import urlsplit

_VARIABLES = ("grpc_proxy", "https_proxy", "http_proxy")  # in gRPC's order, and its spelling
_EXEMPTIONS = ("no_grpc_proxy", "no_proxy", "NO_PROXY")
_SCHEMES = re.compile(r"(dns|ipv4|ipv6|passthrough):(//[^/]*/)?")

_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


def proxy_for(target: str, environment: Mapping[str, str] = os.environ) -> tuple[str, str] | None:
    """The proxy for `target` as (URL, the variable that names it); None for a direct connection."""
    if target.startswith(("unix:", "unix-abstract:", "vsock:")):
        return None
    variable = next((name for name in _VARIABLES if environment.get(name)), None)
    if variable is None:
        return None
    host, port = _host_and_port(target)
    if is_loopback(host):
        return None
    for name in _EXEMPTIONS:
        if any(_matches(host, port, entry) for entry in re.split(r"[,\s]+", environment.get(name, "")) if entry):
            return None
    return environment[variable], variable


def without_password(url: str) -> str:
    """A proxy's URL as errors may show it."""
    return re.sub(r"^([a-z]+://)?[^/@]*@", r"\1", url)


def is_loopback(host: str) -> bool:
    """Whether a name or an address is this machine's own, by its form."""
    name = host.lower().rstrip(".")
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = _address(name)
    return address is not None and (address.is_loopback or address.is_unspecified)


def _host_and_port(target: str) -> tuple[str, str]:
    """Of "host:port", "[IPv6]:port" or either behind a scheme of gRPC's."""
    rest = _SCHEMES.sub("", target, count=1) if _SCHEMES.match(target) else target
    rest = rest.lstrip("/").replace("%5B", "[").replace("%5D", "]")
    try:
        parts = urlsplit("//" + rest)
        return parts.hostname or "", str(parts.port or "")
    except ValueError:
        return rest.rpartition(":")[0].strip("[]"), rest.rpartition(":")[2]


def _address(text: str) -> _Address | None:
    try:
        address = ipaddress.ip_address(text.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _matches(host: str, port: str, entry: str) -> bool:
    """Whether an entry of no_proxy names the host: *, a name with all below it, an address or a network, with or
    without a port."""
    if entry == "*":
        return True
    entry = entry.lower()
    entry_host, _, entry_port = entry.rpartition(":")
    if entry_host and entry_port.isdecimal() and _address(entry) is None:
        if entry_port != port:
            return False
        entry = entry_host
    address = _address(host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(entry.strip("[]"), strict=False)
        except ValueError:
            return False
    name, suffix = host.lower().rstrip("."), entry.removeprefix("*").strip(".")
    return bool(suffix) and (name == suffix or name.endswith("." + suffix))
