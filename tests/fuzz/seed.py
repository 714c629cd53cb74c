#!/usr/bin/env python3
"""Writes first inputs for the targets into corpus/, from the test vectors of docs/evidence-format.md."""
import base64
import io
import json
import os
import tarfile

HERE = os.path.dirname(os.path.abspath(__file__))


def vectors(name):
    with open(os.path.join(HERE, "../../docs/evidence-format/vectors", name + ".json"), encoding="utf-8") as file:
        return json.load(file)


def put(target, name, content):
    folder = os.path.join(HERE, "corpus", target)
    os.makedirs(folder, exist_ok=True)
    with open(os.path.join(folder, name), "wb") as file:
        file.write(content if isinstance(content, bytes) else content.encode())


for n, record in enumerate(vectors("records")["ledger"] + vectors("records")["refused"]):
    put("record", "line-%d" % n, record["line"])
heads = vectors("heads")
for n, note in enumerate(heads["notes"] + [heads["vkey"]]):
    put("note", "note-%d" % n, note)
put("note", "example", "This is an example message.\n\n\u2014 example.com/foo Uw2QOkn8srV1yJGh2VYRlL1Tnagv1YEq6TfXppzi2ONncAlTgK7Z"
    "tg1ERYNZXsYjOBH3mFXmRKuwHjG1Yu72IneyaQM=\n")
bundle = {name: base64.b64decode(content) for name, content in vectors("bundle")["files_base64"].items()}
for name, content in bundle.items():
    if name.endswith(".tlog-proof"):
        put("tlog_proof", name.replace("/", "-"), content)
hashes = "\n".join(base64.b64encode(bytes([n]) * 32).decode() for n in range(3))
put("tlog_proof", "consistency", "runbook-consistency@v1\nfrom 42\n\nto 57\n%s\n\nto 90\n%s\n" % (hashes, hashes))
put("sshsig", "sums", bundle["SHA256SUMS.sig"])
put("sshsig", "key", "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIOpKbGPinFIKvvVQexMuxfmVR3auvr57kkIe6mkURtIs\n")
put("redacted", "three", b'\3{"salt":"%s","text":"a\\n"},\n{"leaf":"%s","withheld":true},\n{"salt":"%s","base64":"/w=="}\n]}\n'
    % (b"0" * 32, b"0" * 64, b"1" * 32))
for form, name in ((tarfile.USTAR_FORMAT, "ustar"), (tarfile.GNU_FORMAT, "gnu"), (tarfile.PAX_FORMAT, "pax")):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w", format=form) as archive:
        # A changed README: what is signed must not verify as it is.
        for path, content in list(bundle.items())[:6] + [("x" * 60 + "/" + "x" * 60, b"long"), ("README.txt", b"other")]:
            if path in archive.getnames():
                continue
            entry = tarfile.TarInfo(path)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    put("bundle", name, buffer.getvalue())
put("witness_request", "first", "old 0\n\n" + heads["notes"][0])
put("witness_request", "next", "old 1\n%s\n\n%s" % (base64.b64encode(b"\0" * 32).decode(), heads["notes"][1]))
