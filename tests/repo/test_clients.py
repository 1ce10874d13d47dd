"""The stubs of other languages are those of the contract."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys

import pytest
from google.protobuf import descriptor_pb2

from thermesh.v1 import chat_pb2, common_pb2, controller_pb2, feature_pb2, feedback_pb2

MODULES = (chat_pb2, common_pb2, controller_pb2, feature_pb2, feedback_pb2)


def check(root, language):
    """Generate the stubs of a language and compare; return what is said of them."""
    command = [sys.executable, "scripts/gen_client_stubs.py", language, "--check"]
    result = subprocess.run(command, cwd=root, check=False, capture_output=True, text=True)
    return result.stdout + result.stderr if result.returncode else ""


def without_json_names(descriptor):
    """A file's descriptor without what protoc tells its plugins only."""
    messages = list(descriptor.message_type)
    for message in messages:
        messages += message.nested_type
        for field in message.field:
            field.ClearField("json_name")
    return descriptor


@pytest.mark.parametrize("module", MODULES, ids=lambda module: module.__name__)
def test_go_stubs_carry_the_contract(texts, module):
    """The descriptor that a Go file embeds is that of the Python stubs."""
    name = module.DESCRIPTOR.name.removesuffix(".proto").rpartition("/")[2]
    text = texts[f"clients/go/thermeshv1/{name}.pb.go"]
    embedded = re.search(r"_rawDesc = \[\]byte\{(.*?)\n\}", text, re.DOTALL)
    raw = bytes(int(byte, 16) for byte in re.findall(r"0x([0-9a-f]{2})", embedded[1]))
    expected = descriptor_pb2.FileDescriptorProto.FromString(module.DESCRIPTOR.serialized_pb)
    assert without_json_names(descriptor_pb2.FileDescriptorProto.FromString(raw)) == expected


@pytest.mark.slow
def test_typescript_stubs_are_those_of_the_contract(root):
    """Generating them again gives the same files."""
    plugin = root / "clients/typescript/node_modules/.bin/protoc-gen-ts_proto"
    if not plugin.exists():
        pytest.skip("needs `npm ci` in clients/typescript")
    assert check(root, "typescript") == ""


@pytest.mark.slow
def test_go_stubs_are_those_of_the_contract(root, texts):
    """Generating them again with the same plugins gives the same files."""
    plugin = shutil.which("protoc-gen-go")
    if plugin is None or shutil.which("protoc-gen-go-grpc") is None:
        pytest.skip("needs protoc-gen-go and protoc-gen-go-grpc")
    version = subprocess.run([plugin, "--version"], check=True, capture_output=True, text=True)
    made_by = re.search(r"protoc-gen-go (v\S+)", texts["clients/go/thermeshv1/chat.pb.go"])[1]
    if made_by not in version.stdout:
        pytest.skip(f"stubs were made by protoc-gen-go {made_by}, here is {version.stdout.strip()}")
    assert check(root, "go") == ""
