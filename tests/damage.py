"""Damage to a RocksDB folder that nobody is using."""

from __future__ import annotations

from pathlib import Path


def cut_manifests(state: Path) -> None:
    """Cut the manifest of every database short, as a full disk or a torn volume does."""
    manifests = list(state.rglob("MANIFEST-*"))
    assert manifests
    for manifest in manifests:
        manifest.write_bytes(manifest.read_bytes()[:20])


def spoil_blocks(state: Path) -> None:
    """Change bytes of a block of rows in every database; it opens nevertheless."""
    files = list(state.rglob("*.sst"))
    assert files
    for file in files:
        content = bytearray(file.read_bytes())
        # Rows fill most of a file; the index and the footer, which are read at opening, come last.
        middle = len(content) // 2
        content[middle] ^= 0xFF
        file.write_bytes(content)
