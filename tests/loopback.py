"""Addresses of this machine under which tests ask a server: both families, where the machine has both."""

from __future__ import annotations

import socket

import pytest


def _has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


ASKED = ["127.0.0.1", pytest.param("[::1]", marks=pytest.mark.skipif(not _has_ipv6(), reason="this machine has no IPv6"))]
"""As they stand in a URL; values of a parameter."""
