"""A signature of manifests with a key that only the job's Secret holds: who can write to the store alone cannot make a checkpoint.

Digests show damage, but anyone who can write to the store can compute them again. With a key, COMMIT carries an HMAC of the manifest, and a
checkpoint without the right one is never loaded.
"""

from __future__ import annotations

import hashlib
import hmac
import os

KEY = "LLMTRAIN_CHECKPOINT_KEY"
"""Environment variable, from the Secret of checkpoint.secretName; any text. Absent or empty: nothing is signed."""


def sign(manifest: bytes) -> str | None:
    """HMAC-SHA256 of the manifest's bytes, as hex; None without a key."""
    key = os.environ.get(KEY, "")
    return hmac.new(key.encode(), manifest, hashlib.sha256).hexdigest() if key else None


def objection(manifest: bytes, signature: str | None) -> str | None:
    """Why the manifest cannot be trusted, as a clause; None if it is signed with our key, or if there is no key."""
    expected = sign(manifest)
    if expected is None or (signature is not None and hmac.compare_digest(expected, signature)):
        return None
    return f"is not signed with the key in {KEY}" if signature is None else f"is signed with another key than that in {KEY}"
