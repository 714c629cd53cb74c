"""A double of Trello's REST API.

The seed: {"keys": [KEY], "tokens": {TOKEN: USERNAME}, "read_only": [TOKEN], "members": {USERNAME: FULL NAME}, "page": N,
"attachment_max": BYTES, "boards": [{"name", "lists": [NAME or {"name", "closed"}], "members": [USERNAME]}], "cards":
[{"shortLink", "name", "board", "list", "members": [USERNAME], "labels": [NAME], "start", "due", "dueComplete", "desc",
"closed", "comments": [{"member", "text"}], "checklists": [{"name", "items": [{"name", "state"}]}], "hidden": true}]}.

Boards, lists and members are told by their names and get ids (24 hexadecimal digits) that are the same in each run: what a name
got is answered by {"do": "id", "of": "board" | "list" | "member" | "label", "name": N} (of a list that two boards have: {"do":
"id", "of": "list", "board": B, "name": N}). `page`: no answer has more actions than that, whatever the limit asks for.
`read_only`: tokens with which nothing can be changed. `hidden`: a card on a board that this token may not see. All times are
UTC.

Further orders: {"do": "card", "card": C} for all that is shown of it (C: shortLink or id), {"do": "set", "card": C, "fields":
{...}, "member": M} for what somebody else does in between, fields as PUT takes them ("list": NAME and "members": [USERNAME]
too), {"do": "comment", "card": C, "text": T, "member": M}, {"do": "comments", "card": C} (oldest first), {"do": "attachments",
"card": C} (with `sha256` and, if it is one, `text`).

Further faults: "repeat" (an answer with actions is the newest of them, whatever is asked), "stale" (changes are answered as done,
and are not kept; a card is answered as it was before its last change, if it had none with a `dateLastActivity` of an hour
ago).
"""

import copy
import datetime
import hashlib
import json
import mimetypes
import re
import urllib.parse

from double import Answer, Double, run
from forms import parts

SITE = "https://trello.com"
NOT_FOUND = "The requested resource was not found."
COLORS = ("green", "yellow", "orange", "red", "purple", "blue")
COMMENT_MAX = 16384
MOMENT = datetime.timedelta(milliseconds=1)
CARD_FIELDS = ("name", "desc", "closed", "idList", "idBoard", "idMembers", "idLabels", "due", "dueComplete", "start",
               "dueReminder", "pos", "subscribed")
ONE_FIELD = ("name", "desc", "closed", "idList", "idMembers", "due", "dueComplete", "start", "pos", "subscribed",
             "dueReminder", "idLabels")


class Refused(Exception):
    """What is not done, and how that is said."""

    def __init__(self, status, words):
        super().__init__(words)
        self.answer = words_of(status, words)


def words_of(status, words):
    return Answer(status, content_type="text/plain; charset=utf-8", body=words.encode())


def time(at):
    return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}Z"


def now():
    return datetime.datetime.now(datetime.timezone.utc)


def moment(text):
    """A time out of what was sent, or None when it is none."""
    try:
        at = datetime.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        return None
    return at.astimezone(datetime.timezone.utc) if at.tzinfo else at.replace(tzinfo=datetime.timezone.utc)


def yes(value):
    return value is True or str(value).lower() in ("true", "1")


def picked(record, fields):
    """Some fields of a record, always with its id."""
    if fields in (None, "all"):
        return record
    return {name: record[name] for name in ["id", *fields.split(",")] if name in record}


class Trello(Double):
    def __init__(self, seed):
        super().__init__(seed)
        self.boards, self.lists, self.cards, self.actions, self.files = [], [], [], [], {}
        self.count = 0
        for name in [*seed.get("members", {}), *seed.get("tokens", {}).values()]:
            self.member(name)
        for board in seed.get("boards", []):
            number = self.fixed("board", board["name"])
            self.boards.append({"id": number, "name": board["name"], "desc": "", "closed": False, "shortLink": number[-8:],
                                "url": f"{SITE}/b/{number[-8:]}", "shortUrl": f"{SITE}/b/{number[-8:]}",
                                "members": board.get("members", list(seed.get("members", {})))})
            for place, given in enumerate(board.get("lists", [])):
                given = given if isinstance(given, dict) else {"name": given}
                self.lists.append({"id": self.fixed("list", f"{board['name']}/{given['name']}"), "name": given["name"],
                                   "closed": given.get("closed", False), "color": None, "idBoard": number,
                                   "pos": 16384 * (place + 1), "subscribed": False, "softLimit": None, "type": None})
        for place, given in enumerate(seed.get("cards", [])):
            self.seeded(place, given)

    def seeded(self, place, given):
        board = self.named(self.boards, given["board"])
        home = next(one for one in self.lists if (one["idBoard"], one["name"]) == (board["id"], given["list"]))
        card = {"id": self.new_id(), "shortLink": given["shortLink"], "idShort": place + 1, "name": given["name"],
                "desc": given.get("desc", ""), "closed": given.get("closed", False), "idBoard": board["id"],
                "idList": home["id"], "idMembers": [self.member(name)["id"] for name in given.get("members", [])],
                "labels": [self.label(board["id"], name) for name in given.get("labels", [])],
                "due": given.get("due"), "start": given.get("start"), "dueComplete": given.get("dueComplete", False),
                "dueReminder": None, "pos": 65536 * (place + 1), "subscribed": False, "activity": now(), "before": None,
                "attachments": [], "checklists": [], "hidden": given.get("hidden", False)}
        for number, checklist in enumerate(given.get("checklists", [])):
            made = {"id": self.new_id(), "name": checklist["name"], "idBoard": board["id"], "idCard": card["id"],
                    "pos": 16384 * (number + 1), "checkItems": []}
            for position, item in enumerate(checklist.get("items", [])):
                made["checkItems"].append({"id": self.new_id(), "name": item["name"], "nameData": None,
                                           "state": item.get("state", "incomplete"), "pos": 16384 * (position + 1),
                                           "due": None, "dueReminder": None, "idMember": None, "idChecklist": made["id"]})
            card["checklists"].append(made)
        self.cards.append(card)
        for comment in given.get("comments", []):
            self.comment(card, comment["member"], comment["text"])
        card["before"] = None

    # What it keeps.

    def fixed(self, kind, name):
        return hashlib.sha256(f"{kind} {name}".encode()).hexdigest()[:24]

    def new_id(self):
        """An id begins with the second in which it was made, and is greater than all before it."""
        self.count += 1
        return f"{int(now().timestamp()):08x}{self.count:016x}"

    def named(self, rows, name):
        return next(row for row in rows if row["name"] == name)

    def member(self, username):
        full = self.seed.get("members", {}).get(username, username)
        return {"id": self.fixed("member", username), "username": username, "fullName": full, "activityBlocked": False,
                "avatarHash": None, "avatarUrl": None, "initials": "".join(word[0] for word in full.split()).upper(),
                "idMemberReferrer": None, "nonPublic": {}, "nonPublicAvailable": False}

    def label(self, board, name):
        number = self.fixed("label", f"{board}/{name}")
        return {"id": number, "idBoard": board, "name": name, "color": COLORS[int(number, 16) % len(COLORS)], "uses": 1}

    def find(self, wanted):
        return next((card for card in self.cards if wanted in (card["id"], card["shortLink"])), None)

    def touch(self, card):
        """Before a change: what it was. No two changes have the same time."""
        card["before"] = {name: copy.deepcopy(value) for name, value in card.items()
                          if name not in ("before", "attachments", "checklists")}
        card["activity"] = max(now(), card["activity"] + MOMENT)

    def act(self, card, username, kind, data):
        board = next(one for one in self.boards if one["id"] == card["idBoard"])
        about = {"card": {name: card[name] for name in ("id", "name", "idShort", "shortLink")},
                 "board": {name: board[name] for name in ("id", "name", "shortLink")}}
        if kind == "commentCard":
            home = next(one for one in self.lists if one["id"] == card["idList"])
            about["list"] = {"id": home["id"], "name": home["name"]}
        member = self.member(username)
        action = {"id": self.new_id(), "idMemberCreator": member["id"], "data": {**data, **about}, "appCreator": None,
                  "type": kind, "date": time(card["activity"]), "limits": None, "memberCreator": member}
        return action

    def comment(self, card, username, text, kept=True):
        if kept:
            self.touch(card)
        action = self.act(card, username, "commentCard", {"text": text, "textData": {"emoji": {}}, "idCard": card["id"]})
        if kept:
            self.actions.append(action)
        return action

    def of_card(self, card, kind=None):
        return [one for one in self.actions if one["data"]["card"]["id"] == card["id"] and kind in (None, one["type"])]

    # How a card is shown.

    def shown(self, card, request=None):
        attachments, comments = card["attachments"], self.of_card(card, "commentCard")
        checklists = card["checklists"]
        if request is not None and request.fault == "stale":
            before = card["before"] or {"activity": card["activity"] - datetime.timedelta(hours=1)}
            card = {**card, **before}
        items = [item for checklist in checklists for item in checklist["checkItems"]]
        done = sum(item["state"] == "complete" for item in items)
        slug = re.sub(r"[^a-z0-9]+", "-", card["name"].lower()).strip("-")
        full = {"id": card["id"]}
        full.update({name: card[name] for name in CARD_FIELDS if name != "idLabels"})
        full.update(badges={"attachments": len(attachments), "comments": len(comments), "checkItems": len(items),
                            "checkItemsChecked": done, "due": card["due"], "dueComplete": card["dueComplete"],
                            "start": card["start"], "description": bool(card["desc"]), "subscribed": False, "votes": 0},
                    checkItemStates=[{"idCheckItem": item["id"], "state": "complete"} for item in items
                                     if item["state"] == "complete"],
                    dateLastActivity=time(card["activity"]), idChecklists=[one["id"] for one in checklists],
                    idMembersVoted=[], idShort=card["idShort"], idAttachmentCover=None, labels=card["labels"],
                    idLabels=[label["id"] for label in card["labels"]], manualCoverAttachment=False,
                    shortLink=card["shortLink"], shortUrl=f"{SITE}/c/{card['shortLink']}",
                    url=f"{SITE}/c/{card['shortLink']}/{card['idShort']}-{slug}", isTemplate=False, cardRole=None)
        if request is None:
            return full
        shown = dict(picked(full, request.one("fields")))
        if yes(request.one("list")):
            shown["list"] = next(one for one in self.lists if one["id"] == card["idList"])
        if yes(request.one("board")):
            shown["board"] = self.shown_board(next(one for one in self.boards if one["id"] == card["idBoard"]))
        if yes(request.one("members")):
            shown["members"] = [self.member(name) for name in self.usernames(card["idMembers"])]
        if yes(request.one("attachments")):
            shown["attachments"] = attachments
        if request.one("checklists") == "all":
            shown["checklists"] = checklists
        if yes(request.one("customFieldItems")):
            shown["customFieldItems"] = []
        return shown

    def shown_board(self, board):
        return {**{name: value for name, value in board.items() if name != "members"}, "descData": None,
                "idOrganization": None, "pinned": False, "starred": False, "subscribed": False,
                "prefs": {"permissionLevel": "private"}, "labelNames": {}}

    def usernames(self, ids):
        known = {self.member(name)["id"]: name for name in self.everybody()}
        return [known[one] for one in ids]

    def everybody(self):
        return [*self.seed.get("members", {}), *(name for name in self.seed.get("tokens", {}).values()
                                                 if name not in self.seed.get("members", {}))]

    # Who asks, and what.

    def login(self, request):
        """The key and the token that were given, and whether in a header."""
        kind, _, rest = (request.headers.get("Authorization") or "").partition(" ")
        if kind.lower() == "oauth":
            pairs = dict(re.findall(r'(\w+)="([^"]*)"', rest))
            return (urllib.parse.unquote(pairs.get("oauth_consumer_key", "")),
                    urllib.parse.unquote(pairs.get("oauth_token", "")), True)
        return request.one("key", ""), request.one("token", ""), False

    def unauthorized(self):
        return words_of(401, "invalid token")

    def answer(self, request):
        key, token, header = self.login(request)
        if not key and not token:
            return words_of(401, "unauthorized permission requested")
        if key not in self.seed.get("keys", []):
            return words_of(401, "invalid key")
        account = self.seed.get("tokens", {}).get(token)
        if not token:
            return words_of(401, "unauthorized permission requested")
        if account is None:
            return self.unauthorized()
        if request.method != "GET" and token in self.seed.get("read_only", []):
            return words_of(401, "unauthorized card permission requested")
        place = request.path.strip("/").split("/")
        if place[:1] != ["1"]:
            return words_of(404, f"Cannot {request.method} {request.path}")
        try:
            answer = self.resource(request, account, place[1:], header)
        except Refused as refused:
            return refused.answer
        answer.headers.update({"X-Rate-Limit-Api-Token-Interval-Ms": "10000", "X-Rate-Limit-Api-Token-Max": "100",
                               "X-Rate-Limit-Api-Token-Remaining": "99"})
        return answer

    def sent(self, request):
        """What was sent along: in the query, in a body of JSON, or in a form."""
        values = {name: given[0] for name, given in request.query.items() if name not in ("key", "token")}
        kind = (request.headers.get("Content-Type") or "").lower()
        if kind.startswith("application/json") and request.body:
            try:
                given = request.json()
            except ValueError:
                raise Refused(400, "Error parsing body: invalid JSON") from None
            if not isinstance(given, dict):
                raise Refused(400, "Error parsing body: no object")
            values.update(given)
        if kind.startswith("application/x-www-form-urlencoded"):
            values.update(urllib.parse.parse_qsl(request.body.decode(), keep_blank_values=True))
        return values

    def valid(self, number, of="id"):
        if not re.fullmatch(r"[0-9a-f]{24}|[A-Za-z0-9]{8}", number):
            raise Refused(400, f"invalid {of}")

    def resource(self, request, account, place, header):
        match (request.method, place):
            case ("GET", ["members", who]):
                names = [name for name in self.everybody() if who in (name, self.member(name)["id"])]
                name = account if who == "me" else next(iter(names), None)
                if name is None:
                    raise Refused(404, "model not found")
                whole = {**self.member(name), "url": f"{SITE}/{name}", "memberType": "normal", "confirmed": True,
                         "bio": "", "email": None, "status": "disconnected", "idOrganizations": [],
                         "idBoards": [board["id"] for board in self.boards]}
                return Answer(200, picked(whole, request.one("fields")))
            case ("GET", ["boards", number, *rest]) if rest in ([], ["lists"], ["members"]):
                self.valid(number)
                board = next((one for one in self.boards if number in (one["id"], one["shortLink"])), None)
                if board is None:
                    raise Refused(404, NOT_FOUND)
                if rest == ["members"]:
                    return Answer(200, [self.member(name) for name in board["members"]])
                if rest == ["lists"]:
                    wanted = request.one("filter", "open")
                    return Answer(200, [picked(one, request.one("fields")) for one in self.lists
                                        if one["idBoard"] == board["id"]
                                        and (wanted == "all" or one["closed"] == (wanted == "closed"))])
                return Answer(200, picked(self.shown_board(board), request.one("fields")))
            case ("GET", ["lists", number]):
                self.valid(number)
                found = next((one for one in self.lists if one["id"] == number), None)
                if found is None:
                    raise Refused(404, NOT_FOUND)
                return Answer(200, found)
            case (_, ["actions", number]):
                return self.action(request, account, number)
            case (_, ["cards", number, *rest]):
                self.valid(number)
                card = self.find(number)
                if card is None:
                    raise Refused(404, NOT_FOUND)
                if card["hidden"]:
                    raise Refused(401, "unauthorized card permission requested")
                return self.card(request, account, card, rest, header)
            case _:
                raise Refused(404, f"Cannot {request.method} {request.path}")

    def card(self, request, account, card, rest, header):
        kept = request.fault != "stale"
        match (request.method, rest):
            case ("GET", []):
                return Answer(200, self.shown(card, request))
            case ("PUT", []):
                return self.put(request, account, card, self.sent(request), kept)
            case ("PUT", [field]) if field in ONE_FIELD:
                return self.put(request, account, card, {field: self.sent(request).get("value")}, kept)
            case ("GET", ["actions"]):
                return Answer(200, self.page(request, card))
            case ("POST", ["actions", "comments"]):
                return Answer(200, self.comment(card, account, self.text(request), kept))
            case (_, ["actions", number, "comments"]) if request.method in ("PUT", "DELETE"):
                return self.action(request, account, number)
            case ("GET", ["attachments"]):
                return Answer(200, [picked(one, request.one("fields")) for one in card["attachments"]])
            case ("POST", ["attachments"]):
                return self.attach(request, account, card, kept)
            case (_, ["attachments", number, *more]):
                attachment = next((one for one in card["attachments"] if one["id"] == number), None)
                if attachment is None:
                    raise Refused(404, NOT_FOUND)
                if request.method == "GET" and more[:1] == ["download"]:
                    # With a header alone, as there.
                    if not header:
                        raise Refused(401, "unauthorized permission requested")
                    return Answer(200, body=self.files[number], content_type=attachment["mimeType"])
                if request.method == "DELETE" and not more:
                    if kept:
                        self.touch(card)
                        card["attachments"].remove(attachment)
                    return Answer(200, {"limits": {}})
                return Answer(200, attachment)
            case ("GET", ["checklists"]):
                return Answer(200, card["checklists"])
            case ("PUT", ["checkItem", number]):
                return self.check(request, card, number, kept)
            case ("GET", ["members"]):
                return Answer(200, [self.member(name) for name in self.usernames(card["idMembers"])])
            case ("GET", ["list"]):
                return Answer(200, next(one for one in self.lists if one["id"] == card["idList"]))
            case ("GET", ["pluginData"]):
                return Answer(200, [])
            case _:
                raise Refused(404, f"Cannot {request.method} {request.path}")

    # What is changed.

    def put(self, request, account, card, given, kept):
        taken = {}
        for field, value in given.items():
            if field in CARD_FIELDS:
                taken.update(self.taken(card, field, value))
        if not kept:
            return Answer(200, self.shown({**card, **taken, "activity": now()}, None))
        self.change(card, account, taken)
        request.fault = None
        return Answer(200, self.shown(card, request))

    def change(self, card, account, taken):
        changed = {name: value for name, value in taken.items() if card[name] != value}
        # Nothing changed: no update, as there.
        if not changed:
            return
        old = {name: card[name] for name in changed if name != "labels"}
        lists = {one["id"]: {"id": one["id"], "name": one["name"]} for one in self.lists}
        data = {"old": old}
        if "idList" in changed:
            data.update(listBefore=lists[card["idList"]], listAfter=lists[changed["idList"]])
        self.touch(card)
        card.update(changed)
        if old:
            self.actions.append(self.act(card, account, "updateCard", data))

    def taken(self, card, field, value):
        wrong = Refused(400, f"invalid value for {field}")
        match field:
            case "name" | "desc":
                if not isinstance(value, str) or len(value) > 16384 or field == "name" and not value.strip():
                    raise wrong
            case "closed" | "dueComplete" | "subscribed":
                if str(value).lower() not in ("true", "false", "1", "0"):
                    raise wrong
                value = yes(value)
            case "due" | "start":
                if value in (None, "", "null"):
                    return {field: None}
                at = moment(value)
                if at is None:
                    raise Refused(400, "invalid date")
                value = time(at)
            case "idList":
                found = next((one for one in self.lists if one["id"] == value), None)
                if found is None:
                    raise wrong
                return {"idList": value, "idBoard": found["idBoard"]}
            case "idBoard":
                first = next((one for one in self.lists if one["idBoard"] == value), None)
                if first is None:
                    raise wrong
                return {} if card["idBoard"] == value else {"idBoard": value, "idList": first["id"]}
            case "idMembers":
                value = value.split(",") if isinstance(value, str) else value
                value = [one for one in value or [] if one]
                if set(value) - {self.member(name)["id"] for name in self.everybody()}:
                    raise wrong
            case "idLabels":
                value = value.split(",") if isinstance(value, str) else value or []
                known = {label["id"]: label for other in self.cards for label in other["labels"]}
                if set(value) - set(known):
                    raise wrong
                return {"labels": [known[one] for one in value]}
        return {field: value}

    def text(self, request):
        text = self.sent(request).get("text")
        if not isinstance(text, str) or not text.strip() or len(text) > COMMENT_MAX:
            raise Refused(400, "invalid value for text")
        return text

    def action(self, request, account, number):
        self.valid(number)
        action = next((one for one in self.actions if one["id"] == number), None)
        if action is None:
            raise Refused(404, NOT_FOUND)
        if request.method == "GET":
            return Answer(200, action)
        if action["type"] != "commentCard" or action["memberCreator"]["username"] != account:
            raise Refused(401, "unauthorized action permission requested")
        card = self.find(action["data"]["card"]["id"])
        if request.method == "PUT":
            text = self.text(request)
            changed = {**action, "data": {**action["data"], "text": text, "dateLastEdited": time(now())}}
            if request.fault != "stale":
                self.touch(card)
                action.update(changed)
            return Answer(200, changed)
        if request.method == "DELETE":
            if request.fault != "stale":
                self.touch(card)
                self.actions.remove(action)
            return Answer(200, {"_value": None})
        raise Refused(404, f"Cannot {request.method} {request.path}")

    def attach(self, request, account, card, kept):
        form = parts(request)
        values = self.sent(request)
        file = None
        for part in form or []:
            if part.name == "file":
                file = part
            elif part.filename is None:
                values[part.name] = part.body.decode("utf-8", "replace")
        if file is None and not re.match(r"https?://", str(values.get("url") or "")):
            raise Refused(400, "invalid value for url")
        number = self.new_id()
        name = values.get("name") or (file.filename or "Upload" if file else values["url"])
        if len(name) > 256:
            raise Refused(400, "invalid value for name")
        attachment = {"id": number, "bytes": None, "date": time(now()), "edgeColor": None,
                      "idMember": self.member(account)["id"], "isUpload": file is not None,
                      "mimeType": values.get("mimeType") or "", "name": name, "previews": [], "pos": 16384}
        if file:
            most = self.seed.get("attachment_max")
            if most is not None and len(file.body) > most:
                raise Refused(413, "Payload Too Large")
            kind = attachment["mimeType"] or file.content_type
            if kind == "application/octet-stream":
                kind = mimetypes.guess_type(file.filename or name)[0] or kind
            saved = re.sub(r"[^A-Za-z0-9._-]", "_", file.filename or name)
            attachment.update(bytes=len(file.body), mimeType=kind, fileName=saved,
                              url=f"{SITE}/1/cards/{card['id']}/attachments/{number}/download/{saved}")
        else:
            attachment.update(url=values["url"], fileName=None)
        if kept:
            self.touch(card)
            card["attachments"].append(attachment)
            self.files[number] = file.body if file else b""
            self.actions.append(self.act(card, account, "addAttachmentToCard",
                                         {"attachment": {"id": number, "name": name, "url": attachment["url"]}}))
        return Answer(200, attachment)

    def check(self, request, card, number, kept):
        item = next((one for checklist in card["checklists"] for one in checklist["checkItems"] if one["id"] == number), None)
        if item is None:
            raise Refused(404, NOT_FOUND)
        state = self.sent(request).get("state")
        state = {"true": "complete", "false": "incomplete"}.get(str(state).lower(), state)
        if state not in ("complete", "incomplete"):
            raise Refused(400, "invalid value for state")
        if kept:
            self.touch(card)
            item["state"] = state
        return Answer(200, {**item, "state": state})

    # Pages: newest first, and what is before one that is known.

    def page(self, request, card):
        kinds = request.one("filter") or "commentCard,updateCard:idList"

        def wanted(action):
            for kind in kinds.split(","):
                name, _, field = kind.strip().partition(":")
                if name == "all" or name == action["type"] and (not field or field in action["data"].get("old", {})):
                    return True
            return False

        try:
            limit = int(request.one("limit") or 50)
        except ValueError:
            limit = -1
        if not 0 <= limit <= 1000:
            raise Refused(400, "invalid value for limit")
        rows = [action for action in self.of_card(card) if wanted(action)][::-1]
        for name, keeps in (("before", lambda one, mark: one < mark), ("since", lambda one, mark: one > mark)):
            mark = request.one(name)
            if not mark or mark == "null" or request.fault == "repeat":
                continue
            if re.fullmatch(r"[0-9a-f]{24}", mark):
                rows = [action for action in rows if keeps(action["id"], mark)]
            elif moment(mark):
                rows = [action for action in rows if keeps(moment(action["date"]), moment(mark))]
            else:
                raise Refused(400, f"invalid value for {name}")
        rows = rows[:min(limit, self.seed.get("page", 1000))]
        members = request.one("memberCreator", "true") != "false"
        return [picked({name: value for name, value in action.items() if members or name != "memberCreator"},
                       request.one("fields")) for action in rows]

    # What a test tells it.

    def obey(self, order):
        if order.get("fault") == "status":
            limited = {"error": "API_TOKEN_LIMIT_EXCEEDED", "message": "Rate limit exceeded"}
            order.setdefault("value", limited if order["status"] == 429 else {"message": "told to", "error": "ERROR"})
        return super().obey(order)

    def order(self, order):
        if order["do"] == "id":
            return self.id_of(order)
        card = self.find(order.get("card", ""))
        if card is None:
            raise ValueError("no such card")
        account = order.get("member", "somebody.else")
        match order["do"]:
            case "card":
                return json.loads(json.dumps(self.shown(card)))
            case "set":
                given = dict(order["fields"])
                card["hidden"] = given.pop("hidden", card["hidden"])
                if "list" in given:
                    name = given.pop("list")
                    given["idList"] = next(one["id"] for one in self.lists
                                           if (one["idBoard"], one["name"]) == (card["idBoard"], name))
                if "members" in given:
                    given["idMembers"] = [self.member(name)["id"] for name in given.pop("members")]
                taken = {}
                for field, value in given.items():
                    taken.update(self.taken(card, field, value))
                self.change(card, account, taken)
                return self.shown(card)
            case "comment":
                return self.comment(card, account, order["text"])
            case "comments":
                return self.of_card(card, "commentCard")
            case "attachments":
                return [{**one, "sha256": hashlib.sha256(self.files[one["id"]]).hexdigest(),
                         "text": text(self.files[one["id"]])} for one in card["attachments"]]
            case _:
                return super().order(order)

    def id_of(self, order):
        match order["of"]:
            case "board":
                return self.named(self.boards, order["name"])["id"]
            case "list":
                board = self.named(self.boards, order["board"])["id"] if "board" in order else None
                return next(one["id"] for one in self.lists
                            if one["name"] == order["name"] and board in (None, one["idBoard"]))
            case "member":
                return self.member(order["name"])["id"]
            case "label":
                return next(label["id"] for card in self.cards for label in card["labels"]
                            if label["name"] == order["name"])


def text(content):
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


if __name__ == "__main__":
    run(Trello)
