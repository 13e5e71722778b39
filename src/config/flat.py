"""Nested values as dotted keys, and as a few characters that stand for them."""

import hashlib
import json
from typing import Any


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """The leaves of nested dicts, by dotted key."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    return {
        key: value
        for name, inner in node.items()
        for key, value in flatten(inner, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def digest(content: Any) -> str:
    """Six characters that stand for the content."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:6]


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """What differs between two flat configurations, `key: old -> new`, by key."""
    differing = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in differing]
