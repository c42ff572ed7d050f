"""What is kept of a token so that it can be shown by Digest, which needs more than a hash of it (RFC 7616 3.4.2).

H(A1) of a fixed user name and realm: good for RTSP of this site and nothing else, and the token cannot be told from it.
"""

import hashlib

USER = "token"
REALM = "watchroom"


def logins(secret: str) -> tuple[bytes, bytes]:
    """H(A1) by MD5 and by SHA-256, 16 and 32 bytes."""
    text = f"{USER}:{REALM}:{secret}".encode()
    return hashlib.md5(text, usedforsecurity=False).digest(), hashlib.sha256(text).digest()
