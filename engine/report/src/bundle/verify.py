#!/usr/bin/env python3
"""Checks a bundle's records against its Merkle tree, with Python's standard library alone.

    python3 verify.py BUNDLE

Exit code 11: consistent in itself. 20: something is not as it was sealed. The signatures are not checked here:
VERIFY.txt has the commands for them.
"""
import base64
import hashlib
import json
import pathlib
import sys


def sha256(data):
    return hashlib.sha256(data).digest()


def root(hashes):
    """RFC 6962, section 2.1, over leaf hashes."""
    frontier = []
    for number, node in enumerate(hashes):
        while number & 1:
            node, number = sha256(b"\1" + frontier.pop() + node), number >> 1
        frontier.append(node)
    if not frontier:
        return sha256(b"")
    node = frontier.pop()
    while frontier:
        node = sha256(b"\1" + frontier.pop() + node)
    return node


def leaves(tiles, size):
    out = []
    for number in range((size + 255) // 256):
        width = min(256, size - number * 256)
        parts, rest = ["%03d" % (number % 1000)], number // 1000
        while rest:
            parts, rest = ["x%03d" % (rest % 1000)] + parts, rest // 1000
        data = (tiles / "/".join(parts)).with_suffix("") if width == 256 else tiles / ("/".join(parts) + ".p/%d" % width)
        data = data.read_bytes()
        assert len(data) == 32 * width, "tile %d has not its length" % number
        out += [data[at:at + 32] for at in range(0, len(data), 32)]
    return out


def check(bundle):
    origin, size, signed = (bundle / "ledger/checkpoint").read_text().split("\n")[:3]
    tree = leaves(bundle / "ledger/tile/0", int(size))
    assert root(tree) == base64.b64decode(signed), "the tiles do not have the root of the checkpoint"
    places = sorted(int(path.stem) for path in (bundle / "records").iterdir())
    due = 0
    for seq in places:
        data = (bundle / "records" / ("%d.json" % seq)).read_bytes()
        record = json.loads(data)
        assert sha256(b"\0" + data) == tree[seq], "record %d is not the one that was sealed" % seq
        before = tree[seq - 1] if seq else sha256(b"\0")
        assert record["seq"] == seq and record["prev"] == before.hex(), "record %d is not at its place" % seq
        if record["run"] != "installation":
            assert record["run_seq"] == due, "a record before %d is missing" % seq
            due += 1
    for path in (bundle / "blobs/sha256").glob("*/*"):
        assert sha256(path.read_bytes()).hex() == path.name, "blob %s is not as it was" % path.name
    return "%d records of %s are whole, in order and in the tree of %s records" % (len(places), origin, size)


if __name__ == "__main__":
    try:
        print(check(pathlib.Path(sys.argv[1])))
    except (AssertionError, IndexError, KeyError, OSError, ValueError) as error:
        print("wrong: %s" % error)
        sys.exit(20)
    sys.exit(11)
