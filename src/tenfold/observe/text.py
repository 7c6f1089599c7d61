"""YAML for people to read and for Prometheus, Alertmanager and Zabbix to take: blocks, with every string in quotes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any


def yaml(value: Any, *, about: str = "") -> str:
    """``value``, of mappings, lists, texts, numbers and booleans, after ``about`` as a comment."""
    head = [f"# {line}".rstrip() for line in about.splitlines()]
    return "\n".join([*head, *_block(value, "")]) + "\n"


def _block(value: Any, indent: str) -> list[str]:
    if isinstance(value, Mapping) and value:
        lines: list[str] = []
        for key, member in value.items():
            lines += _member(f"{indent}{key}:", member, indent)
        return lines
    if isinstance(value, list) and value:
        lines = []
        for item in value:
            first, *rest = _block(item, f"{indent}  ")
            lines += [f"{indent}- {first.strip()}", *rest]
        return lines
    return [f"{indent}{_scalar(value)}"]


def _member(head: str, value: Any, indent: str) -> list[str]:
    if isinstance(value, str) and "\n" in value:
        return [f"{head} |-", *(f"{indent}  {line}".rstrip() for line in value.splitlines())]
    if isinstance(value, Mapping | list) and value:
        return [head, *_block(value, f"{indent}  ")]
    return [f"{head} {_scalar(value)}"]


def _scalar(value: Any) -> str:
    """JSON, which YAML includes."""
    return json.dumps(value, ensure_ascii=False)
