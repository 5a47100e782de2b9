"""Puts an `agent.toml` into a component: what the agent asks of its operator. `wasm-worker inspect` shows it.

python embed_manifest.py agent.toml agent.wasm
"""

import sys


def main(manifest: str, component: str) -> None:
    with open(manifest, "rb") as file:
        name, text = b"wasm-worker:manifest", file.read()
    content = number(len(name)) + name + text
    with open(component, "ab") as file:
        # A custom section has the id 0.
        file.write(number(0) + number(len(content)) + content)


def number(value: int) -> bytes:
    """A number as WebAssembly writes it (LEB128)."""
    written = bytearray()
    while value > 0x7F:
        written.append(value & 0x7F | 0x80)
        value >>= 7
    return bytes(written + bytes([value]))


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit("usage: embed_manifest.py AGENT.TOML AGENT.WASM")
    main(*sys.argv[1:])
