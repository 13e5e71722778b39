"""Plain dicts of configurations: flattened to dotted keys, hashed, compared."""

import hashlib
import json
import re
from typing import Any

from omegaconf import DictConfig, OmegaConf


def to_dict(cfg: DictConfig, *, resolve: bool = False) -> dict[str, Any]:
    """Returns a configuration as nested dicts; interpolations stay as they are written unless `resolve` is set."""
    content: Any = OmegaConf.to_container(cfg, resolve=resolve)
    return content


def flatten(node: Any, prefix: str = "") -> dict[str, Any]:
    """Returns the leaves of nested dicts by dotted key; lists and empty dicts are leaves."""
    if not isinstance(node, dict) or not node:
        return {prefix: node}
    return {
        key: value
        for name, inner in node.items()
        for key, value in flatten(inner, f"{prefix}.{name}" if prefix else str(name)).items()
    }


def literal(node: Any) -> Any:
    """Returns nested values of which OmegaConf takes every text as it is: `${` stands for itself."""
    if isinstance(node, dict):
        return {name: literal(inner) for name, inner in node.items()}
    if isinstance(node, list):
        return [literal(inner) for inner in node]
    # Backslashes before `${` escape it, and themselves; elsewhere they are plain.
    return re.sub(r"(\\*)\$\{", r"\1\1\\${", node) if isinstance(node, str) else node


def digest(content: Any) -> str:
    """Hashes content that JSON can hold to six characters."""
    return hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:6]


def changes(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Lists the differences between two flat configurations as `key: old -> new`, sorted by key."""
    return [f"{key}: {old.get(key)} -> {new.get(key)}" for key in differing_keys(old, new)]


def differing_keys(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Returns the keys of two flat configurations whose values differ, sorted."""
    return sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
