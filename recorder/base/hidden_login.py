"""Addresses of which nobody can tell where a login ends: is `rtsp://admin:1/2@host/x` the password `1/2`, or port 1 of a host `admin`?

Taken for an address, the password would be shown, logged, and sent to whoever bears that name.
"""

import re

ENCODE = "percent-encode them (/ as %2F, ? as %3F, # as %23); an @ of the path is written %40"


def hides_login(rest: str) -> bool:
    """True if an address (`rest`: what follows `scheme://`) may begin with a user and a password that holds a `/`, `?` or `#`.

    That is so where an @ comes behind what would be host and port, and the port is none, or the host a single word. A path behind an
    address in numbers, or behind a name with a dot, may hold an @.
    """
    first = re.split(r"[/?#]", rest, maxsplit=1)[0]
    host, colon, port = first.rpartition(":")
    if "@" in first or "@" not in rest or not colon or host.startswith("["):
        return False
    return not (port == "" or (port.isascii() and port.isdigit())) or ("." not in host and host.lower() != "localhost")
