"""Which numbers each product of a network computes with on a device: a plan, as JSON.

Matrices that are multiplied together (query, key and value; gate and up) are one
product and have one precision:

    {"version": 1, "bytes": 81000000, "expected_kl": 0.01, "embedding": "fp8",
     "layers": [{"query_key_value": "int8/32", "attention_output": "fp8",
                 "gate_up": "int4/64", "down": "int4/64"}, ...]}

`bytes` is what all matrices take, and `expected_kl` the divergence in nats a token
that the plan should cost; both are for people and change nothing.
"""

from __future__ import annotations

import json
import pathlib
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from thermesh.errors import InvalidArgument, NotFound

if TYPE_CHECKING:
    from services.inference.models.config import ModelConfig

VERSION = 1
GROUPS = (32, 64, 128)
PRODUCTS: dict[str, tuple[str, ...]] = {
    "query_key_value": ("attn_q", "attn_k", "attn_v"),
    "attention_output": ("attn_output",),
    "gate_up": ("ffn_gate", "ffn_up"),
    "down": ("ffn_down",),
}
"""The matrices of each product of a layer, by their names in GGUF."""

_GROUPED = ("int4", "int8")
_WHOLE = ("stored", "fp8", "bf16")


@dataclass(frozen=True)
class Precision:
    """`stored` (the file's own numbers), `fp8` (a scale for each row), `bf16`, or
    `int4` and `int8` with a scale for each `group` of columns.
    """

    kind: str
    group: int = 0

    @classmethod
    def parsed(cls, text: Any, field: str) -> Precision:
        """Return what `text` names; raise InvalidArgument for anything else."""
        kind, _, group = text.partition("/") if isinstance(text, str) else ("", "", "")
        if (kind in _WHOLE and not group) or (kind in _GROUPED and group in map(str, GROUPS)):
            return cls(kind, int(group or 0))
        groups = "|".join(map(str, GROUPS))
        allowed = f"{', '.join(_WHOLE)}, int4/{groups} or int8/{groups}"
        raise InvalidArgument(f"{field} must be {allowed}", field=field)

    def __str__(self) -> str:
        """Return it as a plan has it."""
        return f"{self.kind}/{self.group}" if self.group else self.kind

    def fits(self, columns: int) -> bool:
        """Tell whether rows of `columns` numbers are whole groups."""
        return not self.group or columns % self.group == 0


@dataclass(frozen=True)
class PrecisionPlan:
    """The precision of each product; one dictionary over `PRODUCTS` for each layer."""

    embedding: Precision
    layers: tuple[dict[str, Precision], ...]
    head: Precision | None = None
    """Of a head that is not the embedding; None where it is."""
    bytes: int = 0
    expected_kl: float = 0.0

    def of(self, name: str) -> Precision:
        """Return the precision of a matrix by its name in GGUF."""
        if not name.startswith("blk."):
            is_head = name == "output.weight" and self.head is not None
            return self.head if is_head and self.head is not None else self.embedding
        _, index, part, _ = name.split(".")
        product = next(key for key, parts in PRODUCTS.items() if part in parts)
        return self.layers[int(index)][product]

    def check(self, config: ModelConfig) -> None:
        """Raise InvalidArgument where the plan is not one for a network of these sizes."""
        if len(self.layers) != config.layers:
            problem = f"the plan has {len(self.layers)} layers, the model {config.layers}"
            raise InvalidArgument(problem, field="layers")
        if (self.head is None) != config.tied_embeddings:
            needed = "no head: its head is the embedding" if config.tied_embeddings else "a head"
            raise InvalidArgument(f"a plan for this model has {needed}", field="head")
        widths = {"attention_output": config.heads * config.head_size}
        widths["down"] = config.intermediate_size
        for index, layer in enumerate(self.layers):
            for product, precision in layer.items():
                width = widths.get(product, config.hidden_size)
                if not precision.fits(width):
                    problem = f"{width} columns are no whole groups of {precision.group}"
                    field = f"layers[{index}].{product}"
                    raise InvalidArgument(f"{field}: {problem}", field=field)

    def to_json(self) -> str:
        """Return the plan as a file has it."""
        layers = [{key: str(value) for key, value in layer.items()} for layer in self.layers]
        found: dict[str, Any] = {"version": VERSION, "bytes": self.bytes}
        found |= {"expected_kl": self.expected_kl, "embedding": str(self.embedding)}
        if self.head is not None:
            found["head"] = str(self.head)
        return json.dumps(found | {"layers": layers}, indent=1)


def from_json(text: str) -> PrecisionPlan:
    """Return a plan; raise InvalidArgument, naming the field, for anything else."""
    try:
        told = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidArgument("the plan is not JSON", field="plan") from error
    if not isinstance(told, dict) or told.get("version") != VERSION:
        raise InvalidArgument(f"version must be {VERSION}", field="version")
    layers = told.get("layers")
    if not isinstance(layers, list):
        raise InvalidArgument("layers must be a list", field="layers")
    head = told.get("head")
    return PrecisionPlan(
        Precision.parsed(told.get("embedding"), "embedding"),
        tuple(_layer(layer, f"layers[{index}]") for index, layer in enumerate(layers)),
        None if head is None else Precision.parsed(head, "head"),
        _number(told, "bytes", int),
        _number(told, "expected_kl", float),
    )


def read(path: pathlib.Path) -> PrecisionPlan:
    """Return the plan in a file. Raises NotFound, and InvalidArgument for what is none."""
    if not path.is_file():
        raise NotFound(f"{path.name}: no such precision plan", field="precision_plan")
    return from_json(path.read_text(encoding="utf-8", errors="replace"))


def _layer(told: Any, field: str) -> dict[str, Precision]:
    if not isinstance(told, dict) or set(told) != set(PRODUCTS):
        raise InvalidArgument(f"{field} must have {', '.join(PRODUCTS)}", field=field)
    return {key: Precision.parsed(told[key], f"{field}.{key}") for key in PRODUCTS}


def _number(told: dict[str, Any], field: str, kind: type[Any]) -> Any:
    value = told.get(field, 0)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < 1e18:
        raise InvalidArgument(f"{field} must be a number from 0", field=field)
    return kind(value)
