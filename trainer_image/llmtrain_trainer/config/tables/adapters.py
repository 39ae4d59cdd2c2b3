"""Which parameters belong to an adapter, by peft's naming."""

from __future__ import annotations


def is_adapter(name: str) -> bool:
    """Whether a parameter or module of this full name belongs to an adapter."""
    return ".lora_" in name
