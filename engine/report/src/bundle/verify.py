#!/usr/bin/env python3
"""Verifies a bundle of evidence: `python3 verify.py BUNDLE [--pin log.vkey] [--json]`.

Python 3.9 or later, nothing else; Ed25519 signatures are checked with openssl when it is there. This file is a
convenience: it came with the bundle, so whoever changed the bundle could have changed it. Read it (the format is in
docs/evidence-format.md of runbook), or write your own.

Exit codes: 10 verified, keys pinned; 11 consistent in itself, keys not pinned; 12 incomplete; 13 redacted edition;
20 tampered; 22 untrusted key; 30 could not check. Anchors outside are not looked at.
"""
import base64
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile

RECORD_MAX, SEGMENT_MAX = 65535, 65536
FIELDS = ["schema", "seq", "prev", "time", "mono_ms", "run", "run_seq", "event"]
HEAD = re.compile(rb"\Arunbook-output/v1 ([0-9a-f]{64})\n")


class Bad(Exception):
    """Not as it was sealed."""


class Untrusted(Exception):
    """By another key."""


def sha256(*parts):
    h = hashlib.sha256()
    for part in parts:
        h.update(part)
    return h.digest()


def leaf_hash(entry):
    return sha256(b"\0", entry)


def root_of(leaves):
    """RFC 6962: the roots of complete subtrees, largest first, folded from the right."""
    stack = []
    for n, node in enumerate(leaves):
        while n & 1:
            node, n = sha256(b"\1", stack.pop(), node), n >> 1
        stack.append(node)
    if not stack:
        return sha256()
    root = stack.pop()
    while stack:
        root = sha256(b"\1", stack.pop(), root)
    return root


def included(leaf, index, size, path, root):
    """RFC 9162, 2.1.3.2."""
    if index >= size:
        return False
    fn, sn = index, size - 1
    for sibling in path:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            leaf = sha256(b"\1", sibling, leaf)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            leaf = sha256(b"\1", leaf, sibling)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and leaf == root


def strict(raw):
    """JSON that no two readers take for two things: no key twice, whole numbers of 64 bits, no lone surrogates."""
    def pairs(items):
        if len({key for key, _ in items}) != len(items):
            raise ValueError("a key is there twice")
        return dict(items)

    def whole(text):
        if not -(1 << 63) <= int(text) < 1 << 64:
            raise ValueError("a number has more than 64 bits")
        return int(text)

    def refuse(text):
        raise ValueError("%s is no whole number" % text)

    value = json.loads(raw.decode("utf-8"), object_pairs_hook=pairs, parse_int=whole, parse_float=refuse,
                       parse_constant=refuse)
    json.dumps(value, ensure_ascii=False).encode("utf-8")  # lone surrogates cannot be encoded
    return value


def segments_root(blob):
    """Root and number of an output's salted segments."""
    seed, content = bytes.fromhex(HEAD.match(blob).group(1).decode()), blob[HEAD.match(blob).end():]
    leaves = []
    for line in re.findall(rb"[^\n]*\n|[^\n]+", content):
        for at in range(0, len(line), SEGMENT_MAX):
            salt = sha256(b"runbook-segment-salt/v1", seed, len(leaves).to_bytes(8, "big"))[:16]
            leaves.append(sha256(b"\0", salt, line[at:at + SEGMENT_MAX]))
    return root_of(leaves).hex(), len(leaves)


def tile_path(level, number, width):
    groups = ["%03d" % (number % 1000)]
    while number >= 1000:
        number //= 1000
        groups.insert(0, "x%03d" % (number % 1000))
    return "ledger/tile/%d/%s%s" % (level, "/".join(groups), "" if width == 256 else ".p/%d" % width)


class Bundle:
    def __init__(self, folder):
        self.folder, self.files, self.held, self.unchecked = folder, {}, [], []

    def read(self, name, most=1 << 30):
        if name not in self.files:
            raise Bad("%s is missing" % name)
        with open(os.path.join(self.folder, name), "rb") as file:
            raw = file.read(most + 1)
        if len(raw) > most:
            raise Bad("%s is too long" % name)
        return raw

    def list_files(self):
        """Names first: plain files, printable ASCII, no two that differ by case alone."""
        seen = {}
        for folder, folders, names in os.walk(self.folder):
            for item in folders + names:
                path = os.path.join(folder, item)
                name = os.path.relpath(path, self.folder).replace(os.sep, "/")
                mode = os.lstat(path).st_mode
                if not re.fullmatch(r"[ -\[\]-~]+", name) or not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
                    raise Bad("%r is no file of a bundle" % name)
                if seen.setdefault(name.lower(), name) != name:
                    raise Bad("%s and %s differ by case alone" % (name, seen[name.lower()]))
                if stat.S_ISREG(mode):
                    self.files[name] = None
        for name in self.files:
            digest = hashlib.sha256()
            with open(os.path.join(self.folder, name), "rb") as file:
                for piece in iter(lambda: file.read(1 << 20), b""):
                    digest.update(piece)
            self.files[name] = digest.hexdigest()

    def sums(self):
        listed = {}
        for line in self.read("SHA256SUMS").decode("ascii").splitlines():
            digest, name = line[:64], line[66:]
            if line[64:66] != "  " or name in listed:
                raise Bad("SHA256SUMS has a line that is none of its form")
            if self.files.get(name) != digest:
                raise Bad("%s is missing or was changed" % name)
            listed[name] = digest
        for name in self.files:
            if name not in listed and name not in ("SHA256SUMS", "SHA256SUMS.sig", "SHA256SUMS.tsr"):
                raise Bad("%s is not in SHA256SUMS" % name)
        self.held.append("%d files are those in SHA256SUMS" % len(listed))

    def signature(self, public, message, signature, what):
        """Ed25519 through openssl. The 12 bytes before the key are those of RFC 8410."""
        if not shutil.which("openssl"):
            self.unchecked.append("%s: there is no openssl" % what)
            return
        der = bytes.fromhex("302a300506032b6570032100") + public
        with tempfile.TemporaryDirectory() as place:
            paths = [os.path.join(place, name) for name in ("key", "message", "signature")]
            for path, content in zip(paths, (der, message, signature)):
                with open(path, "wb") as file:
                    file.write(content)
            done = subprocess.run(["openssl", "pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", paths[0],
                                   "-rawin", "-in", paths[1], "-sigfile", paths[2]], capture_output=True)
        if done.returncode != 0:
            raise Bad("%s: the signature is false" % what)
        self.held.append("%s: signed by the ledger's key" % what)

    def head(self, pins):
        """The checkpoint (a C2SP signed note), by the key in trust/log.vkey."""
        vkey = self.read("trust/log.vkey").decode("ascii").split()[-1]  # the newest is the last
        if pins and vkey not in pins:
            raise Untrusted("the ledger's key is %s, and it is not pinned" % vkey)
        name, key_id, key = vkey.split("+", 2)
        key = base64.b64decode(key, validate=True)
        if len(key) != 33 or key[0] != 1 or sha256(name.encode(), b"\n", key)[:4].hex() != key_id:
            raise Bad("trust/log.vkey is no Ed25519 verifier key")
        note = self.read("ledger/checkpoint").decode("utf-8")
        text, _, lines = note.rpartition("\n\n")
        text += "\n"
        origin, size, root = text.split("\n")[:3]
        if origin != name or not re.fullmatch(r"0|[1-9][0-9]{0,18}", size):
            raise Bad("ledger/checkpoint is no head of the ledger %s" % name)
        root = base64.b64decode(root, validate=True)
        own = [base64.b64decode(line.split(" ")[2], validate=True) for line in lines.split("\n")
               if line.startswith("\u2014 %s " % name)]
        own = [line[4:] for line in own if line[:4].hex() == key_id]
        if not own or len(root) != 32:
            raise Untrusted("ledger/checkpoint is not signed by %s" % vkey)
        for signature in own:
            self.signature(key[1:], text.encode(), signature, "ledger/checkpoint")
        self.public = key[1:]
        return int(size), root, note

    def sums_signature(self):
        """SSHSIG (OpenSSH's PROTOCOL.sshsig), namespace runbook-bundle@v1."""
        armored = self.read("SHA256SUMS.sig", 16384).decode("ascii").strip().split("\n")
        blob, fields = base64.b64decode("".join(armored[1:-1])), []
        if blob[:10] != b"SSHSIG\0\0\0\1":
            raise Bad("SHA256SUMS.sig is no SSHSIG")
        rest = blob[10:]
        while rest:
            length = int.from_bytes(rest[:4], "big")
            fields.append(rest[4:4 + length])
            rest = rest[4 + length:]
        key, namespace, reserved, algorithm, signature = fields
        if namespace != b"runbook-bundle@v1" or algorithm != b"sha512" or key[-32:] != self.public:
            raise Untrusted("SHA256SUMS.sig is by another key, or for another purpose")
        parts = [namespace, reserved, algorithm, hashlib.sha512(self.read("SHA256SUMS")).digest()]
        message = b"SSHSIG" + b"".join(len(part).to_bytes(4, "big") + part for part in parts)
        self.signature(self.public, message, signature[-64:], "SHA256SUMS.sig")

    def leaves(self, size, root):
        leaves, paths = [], []
        for number in range((size + 255) // 256):
            width = min(256, size - number * 256)
            paths.append(tile_path(0, number, width))
            tile = self.read(paths[-1])
            if len(tile) != width * 32:
                raise Bad("%s has not its length" % paths[-1])
            leaves += [tile[at:at + 32] for at in range(0, len(tile), 32)]
        if root_of(leaves) != root:
            raise Bad("the tiles do not have the root that was signed: a record of the ledger was changed")
        if sorted(paths) != sorted(name for name in self.files if name.startswith("ledger/tile/0/")):
            raise Bad("there are tiles that are not of this tree")
        self.held.append("the tiles have the root that was signed, of %d records" % size)
        return leaves

    def records(self, leaves, size, root, note):
        names = [name for name in self.files if name.startswith("records/")]
        if not all(re.fullmatch(r"records/(0|[1-9][0-9]*)\.json", name) for name in names):
            raise Bad("there is a file among the records that is none")
        run, due, out = None, 0, []
        for seq in sorted(int(name[8:-5]) for name in names):
            name, at = "records/%d.json" % seq, "record %d: " % seq
            raw = self.read(name, RECORD_MAX)
            try:
                record = strict(raw)
            except (ValueError, RecursionError) as error:
                raise Bad(at + str(error))
            if b"\n" in raw or b"\r" in raw or sorted(record) != sorted(FIELDS) or record["schema"] != "record/v1":
                raise Bad(at + "it is no record/v1")
            if record["seq"] != seq or seq >= size or leaf_hash(raw) != leaves[seq]:
                raise Bad(at + "it is not the record that was sealed there")
            if record["prev"] != (leaves[seq - 1] if seq else leaf_hash(b"")).hex():
                raise Bad(at + "it was sealed on another record than the one before it")
            proof = "ledger/proofs/%d.tlog-proof" % seq
            if proof in self.files:
                head, _, signed = self.read(proof).decode().partition("\n\n")
                lines = head.split("\n")
                path = [base64.b64decode(line, validate=True) for line in lines[2:]]
                if lines[:2] != ["c2sp.org/tlog-proof@v1", "index %d" % seq] or signed != note \
                        or not included(leaf_hash(raw), seq, size, path, root):
                    raise Bad("%s does not prove that the record is in the ledger" % proof)
            if record["run"] == "installation":
                continue  # a rotation of the ledger's key
            run = run or record["run"]
            if record["run"] != run or record["run_seq"] != due:
                raise Bad(at + "it is not record %d of run %s" % (due, run))
            due += 1
            out.append(record)
        if not out or out[0]["event"]["type"] != "run_opened":
            raise Bad("the run does not begin with its opening")
        self.held.append("%d records of run %s are whole, in order, and in the signed tree" % (len(out), run))
        return run, out

    def contents(self, records):
        """Every content that the records name is there and as it was. Returns gaps, and whether parts are withheld."""
        gaps, redacted, whole = [], False, 0
        if self.files.get("plan/plan.json") != records[0]["event"]["plan_sha256"]:
            raise Bad("plan/plan.json is not the plan with which the run began")
        wanted, downloads = {}, []
        for record in records:
            event, seq = record["event"], record["seq"]
            report = event.get("report") or {}
            plain = [(event.get("intent") or {}).get("command_sha256"), event.get("manifest"), event.get("changes"), event.get("permit"),
                     report.get("transfers"), report.get("timing"), report.get("undeclared")]
            wanted.update({digest: (seq, None) for digest in plain if digest})
            downloads += [report["transfers"]] if report.get("transfers") else []
            for stream in ("stdout", "stderr"):
                output = report.get(stream) or {}
                if output.get("blob"):
                    known = wanted.get(output["blob"], (seq, None))[1]
                    if known and known.get("root") != output.get("root"):
                        raise Bad("record %d: its %s has another root than the same content before" % (seq, stream))
                    wanted[output["blob"]] = (seq, output)
                if output.get("truncated"):
                    gaps.append("record %d: %s is kept in part" % (seq, stream))
        name = "blobs/sha256/{0:.2}/{0}".format
        for blob in downloads:
            if name(blob) in self.files:
                wanted.update({item["blob"]: (0, None) for item in strict(self.read(name(blob))) if item.get("blob")})
        for digest, (seq, output) in sorted(wanted.items()):
            if name(digest) not in self.files:
                if output and "outputs-redacted/%s.json" % output.get("root") in self.files:
                    redacted = True
                    self.unchecked.append("record %d: what is shown of a redacted output" % seq)
                else:
                    gaps.append("record %d: blob %s is missing" % (seq, digest))
                continue
            if self.files[name(digest)] != digest:
                raise Bad("record %d: %s does not have the digest that it is named by" % (seq, name(digest)))
            if output and output.get("root"):
                blob = self.read(name(digest))
                if not HEAD.match(blob) or segments_root(blob) != (output["root"], output.get("segments", 0)):
                    raise Bad("record %d: %s does not have the segments on record" % (seq, name(digest)))
            whole += 1
        self.held.append("%d contents have the digests and roots on record" % whole)
        return gaps, redacted

    def matrix(self, records):
        """Every cell that began has an end, and the run has one."""
        gaps, hosts, open_cells, attempts, ended = [], {}, {}, {}, None
        for record in records:
            event = record["event"]
            kind, cell = event["type"], event.get("cell") or event.get("attempt") or {}
            place = "%s/%s" % (cell.get("host"), cell.get("step"))
            if kind == "host_started":
                hosts.setdefault(event["host"], None)
            elif kind == "host_ended":
                hosts[event["host"]] = event["outcome"]
            elif kind == "host_reopened":
                hosts[event["host"]] = None
            elif kind in ("attempt_started", "attempt_lost"):
                attempts[place, cell["attempt"]] = open_cells[place] = None
            elif kind == "attempt_ended":
                attempts[place, cell["attempt"]] = event["outcome"]
            elif kind == "step_ended":
                open_cells[place] = event["outcome"]
            elif kind == "step_resolved":
                open_cells[place] = "succeeded" if event["succeeded"] else "failed"
            elif kind in ("run_ended", "run_resumed", "run_suspended"):
                ended = event["outcome"] if kind == "run_ended" else None
        gaps += ["the run has no end on record"] if ended is None else []
        gaps += ["%s: no outcome on record" % host for host, outcome in hosts.items() if outcome is None]
        gaps += ["%s: attempt %d has no end on record" % at for at, outcome in attempts.items() if outcome is None]
        gaps += ["%s: nobody knows what became of it" % at for at, out in open_cells.items() if out in (None, "unknown")]
        return gaps


def judge(folder, pins):
    bundle, verdict = Bundle(folder), {"schema": "verdict/v1", "of": "bundle", "run_id": "", "problems": [], "gaps": []}
    try:
        bundle.list_files()
        bundle.sums()
        size, root, note = bundle.head(pins)
        bundle.sums_signature()
        leaves = bundle.leaves(size, root)
        verdict["run_id"], records = bundle.records(leaves, size, root, note)
        verdict["gaps"], redacted = bundle.contents(records)
        verdict["gaps"] += bundle.matrix(records)
        code = 12 if verdict["gaps"] else 13 if redacted else 10 if pins else 11
    except Untrusted as error:
        code, verdict["problems"] = 22, [str(error)]
    except OSError as error:
        code, verdict["problems"] = 30, [str(error)]
    except Exception as error:  # what cannot be read as it should was not written so
        code, verdict["problems"] = 20, [str(error) or repr(error)]
    if not pins:
        bundle.unchecked.append("whether the ledger's key is the right one: give it with --pin")
    bundle.unchecked.append("receipts of anchors, and what is only a view of the records")
    verdict.update(code=code, checked=bundle.held, not_checked=bundle.unchecked)
    return verdict


def main(arguments):
    as_json = "--json" in arguments
    arguments = [argument for argument in arguments if argument != "--json"]
    pins, folders = [], []
    while arguments:
        argument = arguments.pop(0)
        if argument == "--pin" and arguments:
            with open(arguments.pop(0), encoding="ascii") as file:
                pins += file.read().split()
        else:
            folders.append(argument)
    folder = folders[0] if folders else os.path.dirname(os.path.abspath(__file__))
    verdict = judge(folder, pins)
    if as_json:
        print(json.dumps(verdict, indent=1))
    else:
        print("code %d, run %s" % (verdict["code"], verdict["run_id"] or "unknown"))
        for key, word in (("problems", "wrong"), ("gaps", "missing"), ("checked", "checked"), ("not_checked", "not checked")):
            for line in verdict[key]:
                print("  %s: %s" % (word, ascii(line)[1:-1]))
    return verdict["code"]


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
