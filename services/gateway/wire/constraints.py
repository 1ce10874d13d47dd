"""OutputConstraint and the gateway's value of it."""

from __future__ import annotations

from services.gateway.constraint import ConstraintKind, OutputConstraint
from thermesh.errors import InvalidArgument
from thermesh.v1 import common_pb2


def constraint_to_wire(value: OutputConstraint | None) -> common_pb2.OutputConstraint | None:
    """Write the language of an answer; None: free text."""
    if value is None:
        return None
    message = common_pb2.OutputConstraint()
    if value.kind is ConstraintKind.JSON_OBJECT:
        message.json_object.SetInParent()
    elif value.kind is ConstraintKind.CHOICE:
        message.choice.SetInParent()
        message.choice.options.extend(value.options)
    else:
        setattr(message, value.kind.value, value.text)
    return message


def constraint(message: common_pb2.OutputConstraint) -> OutputConstraint:
    """Read the language of an answer; raise InvalidArgument where it has no kind."""
    name = message.WhichOneof("kind")
    if name is None:
        allowed = ", ".join(ConstraintKind)
        raise InvalidArgument(f"constraint must be one of {allowed}", field="constraint")
    kind = ConstraintKind(name)
    if kind is ConstraintKind.CHOICE:
        return OutputConstraint(kind, options=tuple(message.choice.options))
    text = "" if kind is ConstraintKind.JSON_OBJECT else getattr(message, name)
    return OutputConstraint(kind, text)
