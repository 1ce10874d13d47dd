"""Random JSON schemas of the keywords that people write, by seed.

Bounded so that an output always ends: strings and lists have a maximum and
objects take no members but their own.
"""

from __future__ import annotations

import random
from typing import Any

Schema = dict[str, Any]
_WORDS = ("name", "age", "city", "tags", "score", "kind", "note", "when", "items", "active")
_PATTERNS = (r"^[A-Z]{2}-[0-9]{3}$", r"^[a-z]+@[a-z]+\.com$", r"^(red|green|blue)$")
_FORMATS = ("date", "ipv4", "email")


def random_schema(seed: int) -> Schema:
    """The schema of `seed`: an object at the top, at most two deep below it."""
    chance = random.Random(seed)
    schema = _object(chance, depth=2)
    if chance.random() < 0.2:
        schema["$defs"] = {"part": _object(chance, depth=1)}
        schema["properties"]["part"] = {"$ref": "#/$defs/part"}
        schema["required"] = [*schema.get("required", []), "part"]
    return schema


def _any(chance: random.Random, depth: int) -> Schema:
    leaves = [_string, _integer, _number, _enum, _const, _boolean, _null, _pattern, _format]
    nested = [_object, _array, _any_of, _tuple] if depth else []
    return chance.choice(leaves + nested)(chance, depth - 1)


def _object(chance: random.Random, depth: int) -> Schema:
    names = chance.sample(_WORDS, chance.randint(1, 4))
    required = [name for name in names if chance.random() < 0.7]
    return {
        "type": "object",
        "properties": {name: _any(chance, depth) for name in names},
        "required": required,
        "additionalProperties": False,
    }


def _array(chance: random.Random, depth: int) -> Schema:
    least = chance.randint(0, 2)
    schema: Schema = {"type": "array", "items": _any(chance, depth)}
    return schema | {"minItems": least, "maxItems": least + chance.randint(0, 2)}


def _tuple(chance: random.Random, depth: int) -> Schema:
    items = [_any(chance, depth) for _ in range(chance.randint(1, 3))]
    return {"type": "array", "prefixItems": items, "items": False, "minItems": len(items)}


def _any_of(chance: random.Random, depth: int) -> Schema:
    return {"anyOf": [_any(chance, depth) for _ in range(chance.randint(2, 3))]}


def _string(chance: random.Random, _: int) -> Schema:
    least = chance.randint(0, 3)
    return {"type": "string", "minLength": least, "maxLength": least + chance.randint(1, 12)}


def _integer(chance: random.Random, _: int) -> Schema:
    low = chance.randint(-1000, 1000)
    return {"type": "integer", "minimum": low, "maximum": low + chance.randint(0, 5000)}


def _number(chance: random.Random, _: int) -> Schema:
    step = chance.choice([0.5, 0.25])
    return {"type": "number", "multipleOf": step, "minimum": 0, "maximum": 100}


def _enum(chance: random.Random, _: int) -> Schema:
    return {"enum": chance.sample(["a", "b c", 1, 2.5, None, True, "ü"], chance.randint(1, 4))}


def _const(chance: random.Random, _: int) -> Schema:
    return {"const": chance.choice(["fixed", 7, {"a": [1]}, False])}


def _boolean(_: random.Random, __: int) -> Schema:
    return {"type": "boolean"}


def _null(chance: random.Random, _: int) -> Schema:
    return {"type": ["null", chance.choice(["boolean", "integer"])]}


def _pattern(chance: random.Random, _: int) -> Schema:
    return {"type": "string", "pattern": chance.choice(_PATTERNS), "maxLength": 24}


def _format(chance: random.Random, _: int) -> Schema:
    return {"type": "string", "format": chance.choice(_FORMATS)}
