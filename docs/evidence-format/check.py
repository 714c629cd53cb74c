#!/usr/bin/env python3
"""Checks the test vectors of docs/evidence-format.md twice: with hashlib and the words of the page alone, and with
verify.py. Python 3.9 or later, nothing else."""
import base64
import hashlib
import importlib.util
import json
import os
import tempfile

HERE = os.path.dirname(os.path.abspath(__file__))
SCRIPT = os.path.join(HERE, "../../engine/report/src/bundle/verify.py")
spec = importlib.util.spec_from_file_location("verify", SCRIPT)
verify = importlib.util.module_from_spec(spec)
spec.loader.exec_module(verify)


def vectors(name):
    with open(os.path.join(HERE, "vectors", name + ".json"), encoding="utf-8") as file:
        return json.load(file)


def sha(raw):
    return hashlib.sha256(raw).digest()


def root(leaves):
    """RFC 6962, 2.1, as it is written there."""
    if not leaves:
        return sha(b"")
    if len(leaves) == 1:
        return leaves[0]
    k = 1
    while 2 * k < len(leaves):
        k *= 2
    return sha(b"\x01" + root(leaves[:k]) + root(leaves[k:]))


def tree():
    v = vectors("tree")
    leaves = [sha(b"\0" + entry.encode()) for entry in v["entries"]]
    assert [leaf.hex() for leaf in leaves] == v["leaves"]
    assert sha(b"\1" + leaves[0] + leaves[1]).hex() == v["node_of_the_first_two_leaves"]
    for size, expected in enumerate(v["roots_by_size"]):
        assert root(leaves[:size]).hex() == verify.root_of(leaves[:size]).hex() == expected
    for case in v["inclusion"]:
        path, size = [bytes.fromhex(h) for h in case["path"]], case["size"]
        for index in range(size + 1):
            holds = verify.included(leaves[case["index"]], index, size, path, root(leaves[:size]))
            assert holds == (index == case["index"])
    for case in v["tiles"]:
        paths, size, level = [], case["size"], 0
        while size:
            full, part = divmod(size, 256)
            paths += [verify.tile_path(level, n, 256) for n in range(full)]
            paths += [verify.tile_path(level, full, part)] if part else []
            size, level = full, level + 1
        paths = ["/".join(path.split("/")[1:]) for path in paths]
        if len(paths) > 20:
            del paths[5:len(paths) - 10]
        assert paths == case["first_and_last"], case["size"]


def records():
    v = vectors("records")
    last = sha(b"\0").hex()
    assert v["first_prev"] == last
    for seq, case in enumerate(v["ledger"]):
        record = json.loads(case["line"])
        assert record["seq"] == case["seq"] == seq and record["prev"] == case["prev"] == last
        last = sha(b"\0" + case["line"].encode()).hex()
        assert last == case["leaf"]
        assert verify.strict(case["line"].encode()) == record
    for case in v["refused"]:
        raw = case["line"].encode()
        try:
            value = verify.strict(raw)
        except ValueError:
            continue
        assert b"\n" in raw or sorted(value) != sorted(verify.FIELDS) or value["schema"] != "record/v1", case["why"]


def segments():
    v = vectors("segments")
    for case in v["cases"]:
        content = case["content"]
        content = (content if isinstance(content, str) else content["repeat"] * content["times"]).encode()
        seed = bytes.fromhex(case["seed"])
        pieces = [piece + b"\n" for piece in content.split(b"\n")[:-1]] + [content.split(b"\n")[-1]]
        pieces = [piece[at:at + 65536] for piece in pieces for at in range(0, len(piece), 65536)]
        salt = [sha(b"runbook-segment-salt/v1" + seed + n.to_bytes(8, "big"))[:16] for n in range(max(2, len(pieces)))]
        assert [salt[0].hex(), salt[1].hex()] == [case["salt_0"], case["salt_1"]]
        leaves = [sha(b"\0" + salt[n] + piece) for n, piece in enumerate(pieces)]
        assert (root(leaves).hex(), len(leaves)) == (case["root"], case["segments"])
        blob = b"runbook-output/v1 " + seed.hex().encode() + b"\n" + content
        assert len(blob) - len(content) == v["header_line_bytes"] and len(blob) == case["blob_bytes"]
        assert sha(blob).hex() == case["blob_sha256"]
        assert verify.segments_root(blob) == (case["root"], case["segments"])


def heads():
    v = vectors("heads")
    key, leaves = bytes.fromhex(v["public_key"]), [bytes.fromhex(r["leaf"]) for r in vectors("records")["ledger"]]
    assert sha(v["name"].encode() + b"\n\x01" + key)[:4].hex() == v["id"]
    assert v["vkey"] == "%s+%s+%s" % (v["name"], v["id"], base64.b64encode(b"\x01" + key).decode())
    der = bytes.fromhex("302a300506032b6570032100") + key
    assert base64.b64decode("".join(v["public_key_pem"].split("\n")[1:-2])) == der
    for note in v["notes"]:
        origin, size, encoded = note.split("\n")[:3]
        assert origin == v["name"] and base64.b64decode(encoded) == root(leaves[:int(size)])
        signature = base64.b64decode(note.split("\n")[4].split(" ")[2])
        assert signature[:4].hex() == v["id"]
        bundle = verify.Bundle(".")
        bundle.signature(key, (note.rpartition("\n\n")[0] + "\n").encode(), signature[4:], "a head")


def canonical():
    for case in vectors("canonical")["cases"]:
        def write(value):
            if isinstance(value, dict):
                items = sorted(value.items(), key=lambda item: item[0].encode())
                return "{%s}" % ",".join(write(key) + ":" + write(item) for key, item in items)
            if isinstance(value, list):
                return "[%s]" % ",".join(write(item) for item in value)
            return json.dumps(value, ensure_ascii=False)
        assert write(json.loads(case["json"])) == case["canonical"]
        assert sha(case["canonical"].encode()).hex() == case["sha256"]


def bundle():
    v = vectors("bundle")
    with tempfile.TemporaryDirectory() as place:
        for name, content in v["files_base64"].items():
            path = os.path.join(place, name)
            os.makedirs(os.path.dirname(path), exist_ok=True)
            with open(path, "wb") as file:
                file.write(base64.b64decode(content))
        pin = vectors("heads")["vkey"]
        assert verify.judge(place, [])["code"] == v["code"]
        assert verify.judge(place, [pin])["code"] == v["code_with_the_key_pinned"]


for check in (tree, records, segments, heads, canonical, bundle):
    check()
    print("%s: as written" % check.__name__)
