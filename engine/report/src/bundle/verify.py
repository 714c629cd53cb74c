#!/usr/bin/env python3
"""Verifies a bundle of evidence: `python3 verify.py BUNDLE [--pin KEYS] [--tsa-ca PEM] [--against HEAD] [--json]`.

Python 3.9 or later, nothing else; signatures and time stamps are checked with openssl where it is installed, and said not
to be where it is not. This file is a convenience: it came with the bundle, so whoever changed the bundle could have changed
it. Read it (the format is in docs/evidence-format.md of runbook), or write your own.

Exit codes: 0 verified, keys pinned, and a witness (--pin) or a time stamp authority (--tsa-ca) holds it; 10 verified, keys
pinned; 11 consistent in itself, keys not pinned; 12 incomplete; 13 a redacted edition, or what remains of a run whose
contents were removed; 20 tampered; 21 forked; 22 untrusted key; 30 could not check. What was not checked is listed.
"""
import base64
import calendar
import hashlib
import json
import os
import re
import shutil
import stat
import subprocess
import sys
import tempfile
import time

RECORD_MAX, SEGMENT_MAX = 65535, 65536
FIELDS = ["schema", "seq", "prev", "time", "mono_ms", "run", "run_seq", "event"]
CONSISTENCY = "ledger/consistency-to-anchor.txt"
HEAD = re.compile(rb"\Arunbook-output/v1 ([0-9a-f]{64})\n")


class Bad(Exception):
    """Not as it was sealed."""


class Untrusted(Exception):
    """By another key, or by one out of its time."""


class Forked(Exception):
    """Of another history."""


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


def consistent(old_size, old_root, size, root, path):
    """RFC 9162, 2.1.4.2, for 0 < old_size < size."""
    path = ([old_root] if old_size & (old_size - 1) == 0 else []) + path
    fn, sn = old_size - 1, size - 1
    while fn & 1:
        fn, sn = fn >> 1, sn >> 1
    if not path:
        return False
    old = new = path[0]
    for node in path[1:]:
        if sn == 0:
            return False
        if fn & 1 or fn == sn:
            old, new = sha256(b"\1", node, old), sha256(b"\1", node, new)
            while fn and not fn & 1:
                fn, sn = fn >> 1, sn >> 1
        else:
            new = sha256(b"\1", new, node)
        fn, sn = fn >> 1, sn >> 1
    return sn == 0 and (old, new) == (old_root, root)


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


def redacted_root(shown, root, segments):
    """Root of an output of which some segments are withheld, and their numbers."""
    leaves, withheld = [], []
    if sorted(shown) != ["entries", "root", "schema", "segments"] or shown["schema"] != "redacted-output/v1" \
            or (shown["root"], shown["segments"]) != (root, segments) or len(shown["entries"]) != segments:
        raise ValueError("it is not of its form, or of another output")
    for number, entry in enumerate(shown["entries"]):
        if entry == {"leaf": entry.get("leaf"), "withheld": True}:
            leaves.append(bytes.fromhex(entry["leaf"]))
            withheld.append(number)
        elif sorted(entry) in (["salt", "text"], ["base64", "salt"]):
            text = entry["text"].encode() if "text" in entry else base64.b64decode(entry["base64"], validate=True)
            leaves.append(sha256(b"\0", bytes.fromhex(entry["salt"]), text))
        else:
            raise ValueError("entry %d is not of its form" % number)
    return root_of(leaves).hex(), withheld


class Key:
    """A verifier key, NAME+ID+KEY: of a ledger (kind 1) or of a witness (kind 4), Ed25519 both."""

    def __init__(self, text):
        self.text = text
        self.name, key_id, key = text.split("+", 2)
        raw = base64.b64decode(key, validate=True)
        self.id, self.kind, self.public = bytes.fromhex(key_id), raw[0], raw[1:]
        if len(raw) != 33 or sha256(self.name.encode(), b"\n", raw)[:4] != self.id or self.kind not in (1, 4):
            raise ValueError("%s is no verifier key" % text)


class Note:
    """A C2SP signed note that is a checkpoint: its text, ledger, size, root, and the signatures of a key."""

    def __init__(self, note, what):
        self.note, self.what = note, what
        text, _, self.lines = note.rpartition("\n\n")
        self.text = text + "\n"
        self.origin, size, root = (self.text.split("\n") + ["", ""])[:3]
        if not re.fullmatch(r"0|[1-9][0-9]{0,18}", size):
            raise Bad("%s is no signed head" % what)
        self.size, self.root = int(size), base64.b64decode(root, validate=True)
        if len(self.root) != 32:
            raise Bad("%s is no signed head" % what)

    def by(self, key):
        found = [base64.b64decode(line.split(" ")[2], validate=True) for line in self.lines.split("\n")
                 if line.startswith("\u2014 %s " % key.name)]
        return [signature[4:] for signature in found if signature[:4] == key.id]


def tile_path(level, number, width):
    groups = ["%03d" % (number % 1000)]
    while number >= 1000:
        number //= 1000
        groups.insert(0, "x%03d" % (number % 1000))
    return "ledger/tile/%d/%s%s" % (level, "/".join(groups), "" if width == 256 else ".p/%d" % width)


class Bundle:
    def __init__(self, folder):
        self.folder, self.files, self.held, self.unchecked, self.gaps = folder, {}, [], [], []
        self.redacted = self.anchored = False

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

    def openssl(self, arguments, files):
        """Runs openssl with these contents as files, whose names stand in the arguments. None: there is no openssl."""
        if not shutil.which("openssl"):
            return None
        with tempfile.TemporaryDirectory() as place:
            for name, content in files.items():
                with open(os.path.join(place, name), "wb") as file:
                    file.write(content)
            return subprocess.run(["openssl"] + arguments, cwd=place, capture_output=True)

    def signature(self, public, message, signature, what):
        """Ed25519. The 12 bytes before the key are those of RFC 8410. False: it is false; None: not checked."""
        done = self.openssl(["pkeyutl", "-verify", "-pubin", "-keyform", "DER", "-inkey", "key", "-rawin", "-in", "message",
                             "-sigfile", "signature"],
                            {"key": bytes.fromhex("302a300506032b6570032100") + public, "message": message,
                             "signature": signature})
        if done is None:
            self.unchecked.append("%s: there is no openssl" % what)
        elif done.returncode != 0:
            raise Bad("%s: the signature is false" % what)
        else:
            self.held.append("%s: signed" % what)

    def keys(self, pins):
        """The ledger's keys with the sizes from which on they sign: each has signed for the next (`key_rotated`)."""
        current = Key(self.read("trust/log.vkey").decode("ascii").split()[-1])  # the newest is the last
        links = []
        for seq in sorted(int(name[8:-5]) for name in self.files if re.fullmatch(r"records/[0-9]{1,19}\.json", name)):
            raw = self.read("records/%d.json" % seq, RECORD_MAX)
            event = strict(raw)["event"] if b"key_rotated" in raw else {}
            if event.get("type") != "key_rotated":
                continue
            old, new = Key(event["old_key"]), Key(event["new_key"])
            links = links or [(old, 0)]
            if old.text != links[-1][0].text or new.name != old.name or new.text in [key.text for key, _ in links]:
                raise Untrusted("record %d: the rotation does not follow the one before it" % seq)
            text = ("runbook key rotation v1\n%s\n%s\n%d\n" % (old.text, new.text, seq)).encode()
            for which, key in (("old", old), ("new", new)):
                try:
                    self.signature(key.public, text, base64.b64decode(event[which + "_signature"]),
                                   "record %d: the %s key's signature" % (seq, which))
                except Bad as error:
                    raise Untrusted(str(error))
            links.append((new, seq + 1))
        self.links = links or [(current, 0)]
        if self.links[-1][0].text != current.text or current.kind != 1:
            raise Untrusted("the rotations on record do not lead to the key in trust/log.vkey")
        known = [key.text for key, _ in self.links]
        if pins and not set(pins) & set(known):
            raise Untrusted("the ledger's key is %s, and it is not pinned" % current.text)

    def head(self, note, what):
        """A checkpoint, signed by the key in force at its size; over a rotation by both; by no other key of the ledger."""
        head = Note(note, what)
        at = max(n for n, (_, since) in enumerate(self.links) if since <= head.size or n == 0)
        signers = {at, at - 1} if at and self.links[at][1] == head.size else {at}
        for n, (key, _) in enumerate(self.links):
            signatures = head.by(key) if head.origin == key.name else []
            if (n in signers) != bool(signatures):
                raise Untrusted("%s is not signed by the key in force (%s), or by another too" % (what, self.links[at][0].text))
            for signature in signatures:
                self.signature(key.public, head.text.encode(), signature, what)
        return head

    def sshsig(self, armored, namespace, message, what):
        """Checks an SSHSIG (OpenSSH's PROTOCOL.sshsig) by an Ed25519 key, and returns the key; None for another kind."""
        lines = armored.strip().split("\n")
        blob, fields = base64.b64decode("".join(lines[1:-1])), []
        rest = blob[10:]
        while rest:
            length = int.from_bytes(rest[:4], "big")
            fields.append(rest[4:4 + length])
            rest = rest[4 + length:]
        if blob[:10] != b"SSHSIG\0\0\0\1" or len(fields) != 5 or fields[1] != namespace:
            raise Bad("%s is no SSHSIG for %s" % (what, namespace.decode()))
        key, _, reserved, algorithm, signature = fields
        if not key.startswith(b"\0\0\0\x0bssh-ed25519"):
            return None
        digest = hashlib.new(algorithm.decode(), message).digest()
        signed = b"SSHSIG" + b"".join(len(part).to_bytes(4, "big") + part for part in (namespace, reserved, algorithm, digest))
        self.signature(key[-32:], signed, signature[-64:], what)
        return key

    def sums_signature(self):
        key = self.sshsig(self.read("SHA256SUMS.sig", 16384).decode("ascii"), b"runbook-bundle@v1", self.read("SHA256SUMS"),
                          "SHA256SUMS.sig")
        if key is None or key[-32:] not in [known.public for known, _ in self.links]:
            raise Untrusted("SHA256SUMS.sig is by another key than the ledger's")

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

    def outside(self, head, leaves):
        """Receipts of those outside, each with the head that it is for; heads must be of the bundle's history."""
        self.roots, self.receipts, proofs = {head.size: head.root}, [], {}
        if "anchors/anchors.json" not in self.files:
            self.unchecked.append("whether anybody outside holds a head: there is no receipt")
            return
        if CONSISTENCY in self.files:
            blocks = self.read(CONSISTENCY).decode("ascii").rstrip("\n").split("\n\n")
            if blocks[0] != "runbook-consistency@v1\nfrom %d" % head.size:
                raise Bad("%s does not begin with the bundle's head" % CONSISTENCY)
            for block in blocks[1:]:
                to, *path = block.split("\n")
                proofs[int(to[3:])] = [base64.b64decode(line, validate=True) for line in path]
        for receipt in strict(self.read("anchors/anchors.json"))["anchors"]:
            if self.files.get(receipt["file"]) != receipt["sha256"]:
                raise Bad("%s is not the receipt that anchors.json names" % receipt["file"])
            of = receipt.get("head", "ledger/checkpoint")
            other = self.head(self.read(of).decode("utf-8"), of)
            if other.size < head.size:
                self.roots[other.size] = root_of(leaves[:other.size])
            elif other.size in proofs:
                if not consistent(head.size, head.root, other.size, other.root, proofs[other.size]):
                    raise Bad("%s does not prove that the head of %d records goes on from the bundle's" % (CONSISTENCY, other.size))
                self.roots[other.size] = other.root
            if self.roots.get(other.size, other.root) != other.root:
                raise Forked("%s is of another history" % of)
            if (receipt["size"], bytes.fromhex(receipt["root"])) != (other.size, other.root):
                raise Bad("anchors.json: %s is of another head" % receipt["file"])
            self.receipts.append((receipt, other))

    def anchors(self, covers, witnesses, tsa_ca):
        """What the receipts prove, to whoever trusts a witness or an authority."""
        for receipt, head in self.receipts:
            name, raw = "%s (%s)" % (receipt["anchor"], receipt["kind"]), self.read(receipt["file"])
            if head.size not in self.roots:
                self.unchecked.append("%s: its head of %d records is not proved to be of this history" % (name, head.size))
            elif receipt["kind"] == "witness":
                self.witness(name, head, Note(raw.decode("utf-8"), receipt["file"]), covers, witnesses)
            elif receipt["kind"] == "rfc3161":
                self.stamp(name, head, raw, covers, tsa_ca)
            else:
                if Note(strict(raw)["note"], receipt["file"]).text != head.text:
                    raise Bad("%s: its receipt is of another head" % name)
                self.unchecked.append("%s: a copy of the head of %d records is elsewhere, compare it there: %s"
                                      % (name, head.size, {key: value for key, value in strict(raw).items() if key != "note"}))

    def witness(self, name, head, note, covers, witnesses):
        """C2SP tlog-cosignature v1: over the time and the head."""
        if note.text != head.text:
            raise Bad("%s: its receipt is of another head" % name)
        for key in witnesses:
            for signature in note.by(key):
                at = int.from_bytes(signature[:8], "big")
                message = "cosignature/v1\ntime %d\n%s" % (at, note.text)
                before = len(self.held)
                self.signature(key.public, message.encode(), signature[8:], "%s: cosignature of %s at %d" % (name, key.name, at))
                self.anchored |= len(self.held) > before and head.size >= covers
                return
        self.unchecked.append("%s: the cosignature over %d records: give the witness's key with --pin" % (name, head.size))

    def stamp(self, name, head, raw, covers, tsa_ca):
        """RFC 3161, through openssl, at the time that the stamp says: its certificate may have expired since."""
        told = self.openssl(["ts", "-reply", "-in", "token", "-text"], {"token": raw})
        found = told and re.search(r"^Time stamp: (.*?)(\.[0-9]+)? ([0-9]{4}) GMT$", told.stdout.decode("utf-8", "replace"), re.M)
        if not tsa_ca or not found:
            self.unchecked.append("%s: the time stamp over %d records: %s" % (
                name, head.size, "give its authority with --tsa-ca" if not tsa_ca else "openssl does not read it, or is not here"))
            return
        at = calendar.timegm(time.strptime("%s %s" % (found.group(1), found.group(3)), "%b %d %H:%M:%S %Y"))
        done = self.openssl(["ts", "-verify", "-data", "head", "-in", "token", "-CAfile", os.path.abspath(tsa_ca), "-attime",
                             str(at)], {"head": head.note.encode(), "token": raw})
        if done.returncode == 0:
            self.held.append("%s: stamped %s" % (name, time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))))
            self.anchored |= head.size >= covers
        elif b"message imprint mismatch" in done.stderr:
            raise Bad("%s: its time stamp is of something else" % name)
        else:
            self.unchecked.append("%s: its time stamp is not by an authority in %s" % (name, tsa_ca))

    def against(self, heads, size, leaves):
        """Heads got elsewhere are of the same history, as far as the tiles and the proofs of consistency go."""
        for path, note in heads:
            other = self.head(note, path)
            root = root_of(leaves[:other.size]) if other.size <= size else self.roots.get(other.size)
            restored = [seq for seq, known in self.restored if seq < other.size <= known]
            if root is None and not restored:
                self.unchecked.append("%s: no proof of consistency from %d to its %d records" % (path, size, other.size))
            elif root == other.root:
                self.held.append("%s: of the same history" % path)
            elif restored:
                self.gaps.append("%s: of records that are gone: an older copy was put back (record %d)" % (path, restored[0]))
            else:
                raise Forked("%s: of another history" % path)

    def records(self, leaves, head):
        """Every record at its place. Those of no run: rotations, copies that were put back, redactions, a removal."""
        names = [name for name in self.files if name.startswith("records/")]
        if not all(re.fullmatch(r"records/(0|[1-9][0-9]*)\.json", name) for name in names):
            raise Bad("there is a file among the records that is none")
        run, due, out, size = None, 0, [], head.size
        self.restored, self.redactions, self.purge = [], {}, None
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
                begin, _, signed = self.read(proof).decode().partition("\n\n")
                lines = begin.split("\n")
                path = [base64.b64decode(line, validate=True) for line in lines[2:]]
                if lines[:2] != ["c2sp.org/tlog-proof@v1", "index %d" % seq] or signed != head.note \
                        or not included(leaf_hash(raw), seq, size, path, head.root):
                    raise Bad("%s does not prove that the record is in the ledger" % proof)
            if record["run"] == "installation":
                self.notice(record, run)
                continue
            run = run or record["run"]
            if record["run"] != run or record["run_seq"] != due:
                raise Bad(at + "it is not record %d of run %s" % (due, run))
            due += 1
            out.append(record)
        if self.purge and not out:
            return self.purge["event"]["purged_run"], out
        if self.purge or not out or out[0]["event"]["type"] != "run_opened":
            raise Bad("the run does not begin with its opening")
        self.held.append("%d records of run %s are whole, in order, and in the signed tree" % (len(out), run))
        return run, out

    def notice(self, record, run):
        event = record["event"]
        if event["type"] == "ledger_restored":
            self.restored.append((record["seq"], event["known_size"]))
        elif event["type"] == "outputs_redacted" and event["attempt"]["run"] == run:
            numbers = self.redactions.setdefault(event["root"], [])
            numbers += [(first, last) for first, last in event["ranges"]]
        elif event["type"] == "purged" and run is None:
            self.purge = record
        elif event["type"] != "key_rotated":
            raise Bad("record %d: it tells nothing of this run" % record["seq"])

    def purged(self):
        """What remains of a run whose contents were removed: the request for that, and who has signed it."""
        event, seq = self.purge["event"], self.purge["seq"]
        for name, digest in (("purge/request.json", event["request"]), ("purge/removed.txt", event["removed"])):
            if name not in self.files:
                self.gaps.append("%s is missing" % name)
            elif self.files[name] != digest:
                raise Bad("%s does not have the digest on record" % name)
        if len({signature["key"] for signature in event["signatures"]}) < 2:
            raise Bad("record %d: the removal is not signed by two persons" % seq)
        if not self.gaps:
            request = self.read("purge/request.json")
            if (event["purged_run"], event["records"]) not in [(run["run"], run["records"]) for run in strict(request)["runs"]]:
                raise Bad("record %d: the request does not ask for this run's removal" % seq)
            for signature in event["signatures"]:
                what = "the signature of %s for the removal" % signature["signer"]
                key = self.sshsig(signature["signature"], b"runbook-purge@v1", request, what)
                if key is None:
                    self.unchecked.append("%s: its kind of key is for ssh-keygen (VERIFY.txt)" % what)
                elif base64.b64encode(key).decode() != signature["key"].split(" ")[1]:
                    raise Bad("%s is by another key than the record says" % what)
        self.redacted = True
        self.unchecked.append("what the run did: its %d records were removed (record %d)" % (event["records"], seq))
        self.unchecked.append("whether those who signed for the removal were entitled to")

    def contents(self, records):
        """Every content that the records name is there and as it was, or is withheld as a record says."""
        gaps, whole = self.gaps, 0
        if self.files.get("plan/plan.json") != records[0]["event"]["plan_sha256"]:
            raise Bad("plan/plan.json is not the plan with which the run began")
        opening = records[0]["event"]
        named = [("policy/policy.yaml", opening.get("policy")), ("policy/people.yaml", opening.get("people"))]
        for number, used in enumerate(opening.get("approvals") or [], 1):
            named += [("approvals/%d.json" % number, used["document"]), ("approvals/%d.json.sig" % number, used["signature"])]
        named = dict(named)
        for path in sorted(self.files):
            if path.startswith(("policy/", "approvals/")) and path != "approvals/allowed_signers" and self.files[path] != named.get(path):
                raise Bad("%s is not what the run's opening names" % path)
        wanted, downloads = {}, []
        for record in records:
            event, seq = record["event"], record["seq"]
            report = event.get("report") or {}
            plain = [(event.get("intent") or {}).get("command_sha256"), event.get("manifest"), event.get("changes"), event.get("permit"),
                     event.get("policy"), event.get("people"), (event.get("change") or {}).get("answer"), report.get("transfers"), report.get("timing"), report.get("undeclared")]
            plain += [used[key] for used in event.get("approvals") or [] for key in ("document", "signature")]
            plain += [event.get("exchange"), event.get("proof")]
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
                    self.edition(seq, output)
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

    def edition(self, seq, output):
        """An output of which something is withheld has the root on record, and a record says what is withheld."""
        name = "outputs-redacted/%s.json" % output["root"]
        try:
            root, withheld = redacted_root(strict(self.read(name)), output["root"], output.get("segments", 0))
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            raise Bad("%s: %s" % (name, error))
        if root != output["root"]:
            raise Bad("%s does not come to the root on record" % name)
        on_record = self.redactions.get(root, [])
        if not all(any(first <= number <= last for first, last in on_record) for number in withheld):
            self.gaps.append("record %d: more of its output is withheld than any record says" % seq)
        listed = {item["root"]: item["withheld"] for item in strict(self.read("redactions.json"))["outputs"]}
        if withheld != [number for first, last in listed.get(root, []) for number in range(first, last + 1)]:
            raise Bad("redactions.json does not say what is withheld of %s" % name)
        self.redacted = True
        self.held.append("record %d: %d lines are withheld, and the rest has the root on record" % (seq, len(withheld)))


    def matrix(self, records):
        """Every cell that began has an end, and the run has one."""
        gaps, hosts, open_cells, attempts, sessions, ended = [], {}, {}, {}, set(), None
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
            elif kind == "session_opened":
                sessions.add(event["host"])
            elif kind == "session_closed":
                sessions.discard(event["host"])
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
        gaps += ["%s: a session was opened, and its end is not on record" % host for host in sorted(sessions) if ended]
        gaps += ["%s: attempt %d has no end on record" % at for at, outcome in attempts.items() if outcome is None]
        gaps += ["%s: nobody knows what became of it" % at for at, out in open_cells.items() if out in (None, "unknown")]
        self.gaps += gaps


def judge(folder, pins, tsa_ca=None, heads=()):
    bundle, verdict = Bundle(folder), {"schema": "verdict/v1", "of": "bundle", "run_id": "", "problems": []}
    try:
        pins = [Key(pin) for pin in pins]
        ledgers, witnesses = [[key for key in pins if key.kind == kind] for kind in (1, 4)]
        bundle.list_files()
        bundle.sums()
        bundle.keys([key.text for key in ledgers])
        head = bundle.head(bundle.read("ledger/checkpoint").decode("utf-8"), "ledger/checkpoint")
        bundle.sums_signature()
        leaves = bundle.leaves(head.size, head.root)
        bundle.outside(head, leaves)
        verdict["run_id"], records = bundle.records(leaves, head)
        bundle.against(heads, head.size, leaves)
        if records:
            bundle.contents(records)
            bundle.matrix(records)
        else:
            bundle.purged()
        if "anchors/anchors.json" in bundle.files:
            bundle.anchors((records or [bundle.purge])[-1]["seq"] + 1, witnesses, tsa_ca)
        code = 12 if bundle.gaps else 13 if bundle.redacted else 11 if not ledgers else 0 if bundle.anchored else 10
        if not ledgers:
            bundle.unchecked.append("whether the ledger's key is the right one: give it with --pin")
    except Untrusted as error:
        code, verdict["problems"] = 22, [str(error)]
    except Forked as error:
        code, verdict["problems"] = 21, [str(error)]
    except OSError as error:
        code, verdict["problems"] = 30, [str(error)]
    except Exception as error:  # what cannot be read as it should was not written so
        code, verdict["problems"] = 20, [str(error) or repr(error)]
    bundle.unchecked.append("what is only a view of the records")
    verdict.update(code=code, gaps=bundle.gaps, checked=bundle.held, not_checked=bundle.unchecked)
    return verdict


def main(arguments):
    as_json = "--json" in arguments
    arguments = [argument for argument in arguments if argument != "--json"]
    pins, heads, tsa_ca, folders = [], [], None, []
    while arguments:
        argument = arguments.pop(0)
        if argument == "--pin" and arguments:
            with open(arguments.pop(0), encoding="ascii") as file:
                pins += [line for line in file.read().split("\n") if line.strip() and not line.startswith("#")]
        elif argument == "--against" and arguments:
            with open(arguments[0], encoding="utf-8", newline="") as file:
                heads.append((arguments.pop(0), file.read()))
        elif argument == "--tsa-ca" and arguments:
            tsa_ca = arguments.pop(0)
        else:
            folders.append(argument)
    folder = folders[0] if folders else os.path.dirname(os.path.abspath(__file__))
    verdict = judge(folder, pins, tsa_ca, heads)
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
