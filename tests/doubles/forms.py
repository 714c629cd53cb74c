"""Forms with files in them (multipart/form-data), as browsers and clients send them."""

import re
import urllib.parse


class Part:
    """One field of a form: its name, its bytes, and for a file its name and kind."""

    def __init__(self, name, body, filename, content_type):
        self.name = name
        self.body = body
        self.filename = filename
        self.content_type = content_type


def value(header, name):
    """A parameter of a header, or None."""
    found = re.search(rf';\s*{name}\*=(?:UTF-8|utf-8)\'[^\']*\'([^;\s]+)', header)
    if found:
        return urllib.parse.unquote(found[1])
    found = re.search(rf';\s*{name}=(?:"((?:[^"\\]|\\.)*)"|([^;\s]+))', header)
    if not found:
        return None
    text = re.sub(r"\\(.)", r"\1", found[1]) if found[1] is not None else found[2]
    # Browsers write a quote, and ends of lines, in this way.
    return text.replace("%22", '"').replace("%0D", "\r").replace("%0A", "\n")


def parts(request):
    """The parts of a form, or None when the request holds none, or none that is whole."""
    kind = request.headers.get("Content-Type") or ""
    boundary = value(kind, "boundary")
    if not kind.lower().startswith("multipart/form-data") or not boundary:
        return None
    pieces = (b"\r\n" + request.body).split(b"\r\n--" + boundary.encode())
    # What is before the first boundary counts for nothing; the last one has two dashes behind it.
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        return None
    found = []
    for piece in pieces[1:-1]:
        head, gap, body = piece.partition(b"\r\n\r\n")
        if not gap:
            return None
        headers = {}
        for line in head.decode("utf-8", "replace").split("\r\n"):
            name, _, text = line.partition(":")
            headers[name.strip().lower()] = text.strip()
        disposition = headers.get("content-disposition", "")
        found.append(Part(value(disposition, "name"), body, value(disposition, "filename"),
                          headers.get("content-type", "application/octet-stream")))
    return found
