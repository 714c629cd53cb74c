"""A double of Jira's REST API, version 2, as Data Center and Cloud have it.

The seed: {"accounts": {NAME: PASSWORD or API token}, "tokens": {TOKEN: NAME}, "deployment": "Server" (the default) or "Cloud",
"context": "/jira", "page": N, "hours": N, "users": {NAME: {"displayName", "emailAddress", "accountId", "timeZone"}},
"fields": [{"id", "name", "type": "datetime" | "date" | "string" | "number" | "option" | ..., "allowed": [...]}], "statuses":
{NAME: "new" | "indeterminate" | "done"}, "workflow": {STATUS: [{"id", "name", "to", "screen": [FIELD], "required": [FIELD],
"sets": {FIELD: VALUE}}]}, "attachment_max": BYTES, "issues": [{"key", "status", "fields": {...}, "comments": [{"author",
"body"}], "properties": {...}, "formerly": [KEY], "hidden": true}]}.

`page`: no page has more comments or issues than that, whatever is asked for. `hours`: so far from UTC are all times shown. Of an
issue's fields, `assignee` and `reporter` are names of accounts, `components` names, an "option" its text; all others are as
they are shown. A transition takes the fields of its `screen` and no others, wants those that are `required`, and `sets` some by
itself. `formerly`: keys that the issue had in other projects, under which it is still found. In the Cloud, `search` is gone
and `search/jql` (with nextPageToken, without a total) is there; people have an accountId and no name.

Further orders: {"do": "issue", "key": K} for all that is shown of it, {"do": "set", "key": K, "fields": {...}, "status": S,
"account": A} for what somebody else does in between (it counts as an update), {"do": "comment", "key": K, "body": B,
"account": A}, {"do": "comments", "key": K}, {"do": "attachments", "key": K} (with `sha256` and, if it is one, `text`),
{"do": "properties", "key": K}, {"do": "move", "key": K, "to": K}.

Further faults: "repeat" (each page is the first), "no_total" (no count), "stale" (changes are answered as done, and are not
kept; an issue is answered as it was before its last change, if it had none with an `updated` of an hour ago).
"""

import copy
import datetime
import hashlib
import mimetypes
import re
import urllib.parse

from double import Answer, Double, run
from forms import parts

CATEGORIES = {"undefined": (1, "No Category", "medium-gray"), "new": (2, "To Do", "blue-gray"),
              "done": (3, "Done", "green"), "indeterminate": (4, "In Progress", "yellow")}
# Fields that every issue has: names, and what they are.
SYSTEM = {"summary": ("Summary", "string"), "description": ("Description", "string"), "status": ("Status", "status"),
          "assignee": ("Assignee", "user"), "reporter": ("Reporter", "user"), "resolution": ("Resolution", "resolution"),
          "resolutiondate": ("Resolved", "datetime"), "labels": ("Labels", "array"), "components": ("Component/s", "array"),
          "attachment": ("Attachment", "array"), "comment": ("Comment", "comments-page"), "created": ("Created", "datetime"),
          "updated": ("Updated", "datetime"), "duedate": ("Due Date", "date"), "project": ("Project", "project"),
          "issuetype": ("Issue Type", "issuetype"), "priority": ("Priority", "priority")}
READ_ONLY = ("status", "attachment", "comment", "created", "updated", "project", "issuetype", "resolutiondate")
NOT_NAVIGABLE = ("attachment", "comment")
TEXT_MAX = 32767
DATE_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{3})?[+-]\d{4}")
MOMENT = datetime.timedelta(milliseconds=1)


class Refused(Exception):
    """A change that is not taken: messages, and what is wrong with which field."""

    def __init__(self, *messages, **errors):
        super().__init__(messages or errors)
        self.answer = failure(400, *messages, **errors)


def failure(status, *messages, headers=None, **errors):
    return Answer(status, {"errorMessages": list(messages), "errors": errors}, headers)


class Jira(Double):
    def __init__(self, seed):
        super().__init__(seed)
        self.cloud = seed.get("deployment", "Server") == "Cloud"
        self.zone = datetime.timezone(datetime.timedelta(hours=seed.get("hours", 0)))
        self.custom = {field["id"]: field for field in seed.get("fields", [])}
        self.issues = []
        self.files = {}
        self.last = {"comment": 10100, "attachment": 10400}
        for number, given in enumerate(seed.get("issues", [])):
            at = datetime.datetime.now(datetime.timezone.utc)
            issue = {"id": str(10001 + number), "key": given["key"], "status": given["status"], "created": at,
                     "updated": at, "fields": dict(given.get("fields", {})), "comments": [], "attachments": [],
                     "properties": dict(given.get("properties", {})), "formerly": list(given.get("formerly", [])),
                     "hidden": given.get("hidden", False), "before": None}
            self.issues.append(issue)
            for comment in given.get("comments", []):
                self.comment(issue, comment["author"], comment["body"])
            issue["before"] = None

    # What it keeps.

    def find(self, key):
        """An issue by its key, one that it had, or its id."""
        wanted = key.upper()
        return next((issue for issue in self.issues
                     if wanted in (issue["key"], issue["id"]) or wanted in issue["formerly"]), None)

    def touch(self, issue):
        """Before a change: what it was. No two changes have the same time."""
        issue["before"] = {name: copy.deepcopy(issue[name]) for name in ("status", "updated", "fields")}
        issue["updated"] = max(datetime.datetime.now(datetime.timezone.utc), issue["updated"] + MOMENT)

    def number(self, kind):
        self.last[kind] += 1
        return str(self.last[kind])

    def comment(self, issue, account, body):
        self.touch(issue)
        comment = {"id": self.number("comment"), "author": account, "body": body, "created": issue["updated"],
                   "updated": issue["updated"], "by": account}
        issue["comments"].append(comment)
        return comment

    # How it is shown.

    def site(self):
        return self.url + self.seed.get("context", "")

    def rest(self, *parts_of_path):
        return "/".join([f"{self.site()}/rest/api/2", *(urllib.parse.quote(str(part)) for part in parts_of_path)])

    def time(self, at):
        at = at.astimezone(self.zone)
        return f"{at:%Y-%m-%dT%H:%M:%S}.{at.microsecond // 1000:03}{at:%z}"

    def user(self, name):
        if name is None:
            return None
        given = self.seed.get("users", {}).get(name, {})
        shown = {"displayName": given.get("displayName", name), "active": given.get("active", True),
                 "timeZone": given.get("timeZone", "Etc/UTC"), "emailAddress": given.get("emailAddress", "")}
        if self.cloud:
            account = self.account_id(name)
            return {"self": f"{self.rest('user')}?accountId={account}", "accountId": account,
                    "accountType": "atlassian", **shown}
        return {"self": f"{self.rest('user')}?username={urllib.parse.quote(name)}", "name": name, "key": name, **shown}

    def account_id(self, name):
        given = self.seed.get("users", {}).get(name, {})
        return given.get("accountId") or f"557058:{hashlib.sha256(name.encode()).hexdigest()[:32]}"

    def numbered(self, kind, name):
        """A thing with a name that has an id, always the same."""
        return str(10000 + int(hashlib.sha256(f"{kind} {name}".encode()).hexdigest()[:6], 16) % 90000)

    def status(self, name):
        key = self.seed.get("statuses", {}).get(name, "undefined")
        number, label, color = CATEGORIES[key]
        status = self.numbered("status", name)
        return {"self": self.rest("status", status), "description": "", "iconUrl": f"{self.site()}/", "name": name,
                "id": status, "statusCategory": {"self": self.rest("statuscategory", number), "id": number, "key": key,
                                                 "colorName": color, "name": label}}

    def shown_comment(self, issue, comment):
        return {"self": self.rest("issue", issue["id"], "comment", comment["id"]), "id": comment["id"],
                "author": self.user(comment["author"]), "body": comment["body"],
                "updateAuthor": self.user(comment["by"]), "created": self.time(comment["created"]),
                "updated": self.time(comment["updated"])}

    def shown_attachment(self, attachment):
        name = urllib.parse.quote(attachment["filename"])
        content = (f"{self.rest('attachment')}/content/{attachment['id']}" if self.cloud
                   else f"{self.site()}/secure/attachment/{attachment['id']}/{name}")
        return {"self": self.rest("attachment", attachment["id"]), "id": attachment["id"],
                "filename": attachment["filename"], "author": self.user(attachment["author"]),
                "created": self.time(attachment["created"]), "size": attachment["size"],
                "mimeType": attachment["mimeType"], "content": content}

    def kind(self, field):
        if field in SYSTEM:
            return SYSTEM[field][1]
        return self.custom[field].get("type", "string") if field in self.custom else None

    def shown_field(self, issue, field):
        value = issue["fields"].get(field)
        match field:
            case "status":
                return self.status(issue["status"])
            case "created" | "updated":
                return self.time(issue[field])
            case "comment":
                rows = [self.shown_comment(issue, comment) for comment in issue["comments"]]
                page = rows[:self.seed.get("page", len(rows))]
                return {"comments": page, "self": self.rest("issue", issue["id"], "comment"),
                        "maxResults": len(page), "total": len(rows), "startAt": 0}
            case "attachment":
                return [self.shown_attachment(attachment) for attachment in issue["attachments"]]
            case "project":
                project = issue["key"].rpartition("-")[0]
                return {"self": self.rest("project", project), "id": self.numbered("project", project), "key": project,
                        "name": project, "projectTypeKey": "software"}
            case "issuetype":
                return {"self": self.rest("issuetype", "10005"), "id": "10005", "name": value or "Change", "subtask": False}
            case "labels":
                return value or []
            case "components":
                return [{"self": self.rest("component", self.numbered(field, name)),
                         "id": self.numbered(field, name), "name": name} for name in value or []]
        if value is None:
            return None
        match self.kind(field):
            case "user":
                return self.user(value)
            case "resolution" | "priority":
                return {"self": self.rest(field, self.numbered(field, value)), "id": self.numbered(field, value),
                        "name": value}
            case "option":
                return {"self": self.rest("customFieldOption", self.numbered(field, value)), "value": value,
                        "id": self.numbered(field, value)}
        return value

    def shown(self, issue, request, default="*all"):
        if request is not None and request.fault == "stale":
            before = issue["before"] or {"updated": issue["updated"] - datetime.timedelta(hours=1)}
            issue = {**issue, **before}
        # Repeated, and with commas: both are taken.
        asked = request.query.get("fields", []) if request is not None else []
        words = [word.strip() for value in asked for word in value.split(",") if word.strip()] or [default]
        names = set()
        for word in words if not all(word.startswith("-") for word in words) else [default, *words]:
            if word in ("*all", "*navigable"):
                names.update(name for name in (*SYSTEM, *self.custom) if word == "*all" or name not in NOT_NAVIGABLE)
            elif word.startswith("-"):
                names.discard(word[1:])
            elif self.kind(word):
                names.add(word)
        fields = {name: self.shown_field(issue, name) for name in (*SYSTEM, *self.custom) if name in names}
        return {"expand": "renderedFields,names,schema,operations,editmeta,changelog,versionedRepresentations",
                "id": issue["id"], "self": self.rest("issue", issue["id"]), "key": issue["key"], "fields": fields}

    # What is changed.

    def taken(self, field, value):
        """A field's value as it is kept, out of what is sent."""
        kind = self.kind(field)
        if value is None:
            return None
        if field == "components":
            return [one["name"] for one in value]
        if field == "labels":
            if any(" " in label for label in value):
                raise Refused(labels="The label can't contain spaces.")
            return list(value)
        match kind:
            case "datetime":
                if not isinstance(value, str) or not DATE_TIME.fullmatch(value):
                    raise Refused(**{field: f"Error parsing date string: {value}"})
                with_fraction = value if "." in value else value[:19] + ".000" + value[19:]
                return self.time(datetime.datetime.strptime(with_fraction, "%Y-%m-%dT%H:%M:%S.%f%z"))
            case "date":
                if not isinstance(value, str) or not re.fullmatch(r"\d{4}-\d\d-\d\d", value):
                    raise Refused(**{field: f"Error parsing date string: {value}"})
            case "string":
                if not isinstance(value, str):
                    raise Refused(**{field: "Operation value must be a string"})
                if len(value) > TEXT_MAX:
                    raise Refused(**{field: "The entered text is too long. It exceeds the allowed limit of 32,767 "
                                            "characters."})
            case "number":
                if isinstance(value, bool) or not isinstance(value, int | float):
                    raise Refused(**{field: "Operation value must be a number"})
            case "user":
                wanted = value.get("accountId" if self.cloud else "name")
                names = [name for name in {**self.seed.get("accounts", {}), **self.seed.get("users", {})}
                         if wanted == (self.account_id(name) if self.cloud else name)]
                if not names:
                    raise Refused(**{field: f"User '{wanted}' does not exist."})
                return names[0]
            case "resolution" | "priority":
                return value["name"]
            case "option":
                if not isinstance(value, dict) or value.get("value") not in self.custom[field].get("allowed", []):
                    raise Refused(**{field: "Option value is not valid" if not isinstance(value, dict)
                                     else f"Option value '{value.get('value')}' is not valid"})
                return value["value"]
        return value

    def changes(self, issue, body, allowed):
        """New values of fields, and comments, that a body asks for."""
        fields, comments = {}, []
        asked = {**body.get("fields", {}), **body.get("update", {})}
        for field in asked:
            known = field in allowed if allowed is not None else self.kind(field) and field not in READ_ONLY
            if field != "comment" and not known:
                raise Refused(**{field: f"Field '{field}' cannot be set. It is not on the appropriate screen, "
                                        "or unknown."})
        for field, value in body.get("fields", {}).items():
            fields[field] = self.taken(field, value)
        for field, operations in body.get("update", {}).items():
            for operation in operations:
                for verb, value in operation.items():
                    if field == "comment" and verb == "add":
                        comments.append(self.body(value))
                    elif verb == "set":
                        fields[field] = self.taken(field, value)
                    elif field in ("labels", "components") and verb in ("add", "remove"):
                        one = self.taken(field, [value])[0]
                        held = fields.get(field, issue["fields"].get(field) or [])
                        fields[field] = [other for other in held if other != one] + [one] * (verb == "add")
                    else:
                        raise Refused(**{field: f"The operation '{verb}' is not possible on this field."})
        return fields, comments

    def body(self, given):
        text = given.get("body")
        if not isinstance(text, str):
            raise Refused(comment="Operation value must be a string")
        if not text.strip():
            raise Refused(comment="Comment body can not be empty!")
        if len(text) > TEXT_MAX:
            raise Refused(comment="The entered text is too long. It exceeds the allowed limit of 32,767 characters.")
        return text

    # The answers.

    def unauthorized(self):
        headers = {"WWW-Authenticate": f'OAuth realm="{urllib.parse.quote(self.site(), safe="")}"',
                   "X-Seraph-LoginReason": "AUTHENTICATED_FAILED"}
        if self.cloud:
            return Answer(401, headers=headers, content_type="text/plain;charset=UTF-8",
                          body=b"Client must be authenticated to access this resource.")
        return failure(401, "You are not authenticated. Authentication required to perform this operation.",
                       headers=headers)

    def answer(self, request):
        account = self.basic(request) or self.token(request, "Bearer")
        context = self.seed.get("context", "")
        if not request.path.startswith(context + "/"):
            return Answer(404, content_type="text/html;charset=UTF-8", body=b"<html><body>Not found</body></html>")
        parts_of_path = request.path[len(context):].strip("/").split("/")
        place = parts_of_path[3:]
        anonymous = place == ["serverInfo"] and not request.headers.get("Authorization")
        if account is None and not anonymous:
            return self.unauthorized()
        if parts_of_path[:2] == ["secure", "attachment"] and len(parts_of_path) == 4:
            return self.content(parts_of_path[2])
        if parts_of_path[:3] not in (["rest", "api", "2"], ["rest", "api", "latest"]):
            return failure(404, "null for uri: " + self.site() + request.path)
        try:
            return self.resource(request, account, place)
        except Refused as refused:
            return refused.answer

    def resource(self, request, account, place):
        match (request.method, place):
            case ("GET", ["serverInfo"]):
                version = "1001.0.0-SNAPSHOT" if self.cloud else "9.12.15"
                return Answer(200, {"baseUrl": self.site(), "version": version,
                                    "versionNumbers": [1001, 0, 0] if self.cloud else [9, 12, 15],
                                    "deploymentType": "Cloud" if self.cloud else "Server", "buildNumber": 9120015,
                                    "buildDate": "2026-01-12T00:00:00.000+0000", "scmInfo": "0" * 40,
                                    "serverTime": self.time(datetime.datetime.now(datetime.timezone.utc)),
                                    "serverTitle": "Jira"})
            case ("GET", ["myself"]):
                return Answer(200, self.user(account))
            case ("GET", ["field"]):
                return Answer(200, [self.described(field) for field in (*SYSTEM, *self.custom)])
            case ("GET", ["search"]) if self.cloud:
                return failure(410, "The requested API has been removed. Please migrate to the /rest/api/3/search/jql "
                                    "API. A full migration guideline is available.")
            case ("GET", ["search"]):
                return self.search(request)
            case ("GET", ["search", "jql"]) if self.cloud:
                return self.search(request)
            case ("GET", ["attachment", "content", attachment]) if self.cloud:
                return self.content(attachment)
            case ("GET", ["attachment", attachment]):
                found = next((one for issue in self.issues for one in issue["attachments"] if one["id"] == attachment), None)
                if found is None:
                    return failure(404, f"The attachment with id '{attachment}' does not exist")
                return Answer(200, self.shown_attachment(found))
            case (_, ["issue", key, *rest]):
                issue = self.find(key)
                if issue is None or issue["hidden"] and self.cloud:
                    return failure(404, "Issue does not exist or you do not have permission to see it."
                                   if self.cloud else "Issue Does Not Exist")
                if issue["hidden"]:
                    return failure(403, "You do not have the permission to see the specified issue.")
                return self.issue(request, account, issue, rest)
            case _:
                return failure(404, "null for uri: " + self.site() + request.path)

    def described(self, field):
        if field in SYSTEM:
            name, kind = SYSTEM[field]
            return {"id": field, "key": field, "name": name, "custom": False, "orderable": field not in READ_ONLY,
                    "navigable": field not in NOT_NAVIGABLE, "searchable": True, "clauseNames": [field],
                    "schema": {"type": kind, "system": field}}
        name, number = self.custom[field]["name"], int(field.rpartition("_")[2])
        return {"id": field, "key": field, "name": name, "custom": True, "orderable": True, "navigable": True,
                "searchable": True, "clauseNames": [f"cf[{number}]", name],
                "schema": {"type": self.kind(field), "custom": f"com.atlassian.jira.plugin:{self.kind(field)}",
                           "customId": number}}

    def content(self, attachment):
        found = next((one for issue in self.issues for one in issue["attachments"] if one["id"] == attachment), None)
        if found is None:
            return failure(404, f"The attachment with id '{attachment}' does not exist")
        return Answer(200, body=self.files[attachment], content_type=found["mimeType"])

    def issue(self, request, account, issue, rest):
        kept = request.fault != "stale"
        match (request.method, rest):
            case ("GET", []):
                return Answer(200, self.shown(issue, request))
            case ("PUT", []):
                fields, comments = self.changes(issue, self.json(request), None)
                if kept:
                    self.keep(issue, account, fields, comments)
                return Answer(204)
            case ("GET", ["comment"]):
                rows = [self.shown_comment(issue, comment) for comment in issue["comments"]]
                if (request.one("orderBy") or "").startswith("-"):
                    rows.reverse()
                page, told = self.page(request, rows, 1048576 if not self.cloud else 100)
                return Answer(200, {**told, "comments": page})
            case ("POST", ["comment"]):
                body = self.body(self.json(request))
                home = issue if kept else {**issue, "comments": []}
                return Answer(201, self.shown_comment(issue, self.comment(home, account, body)))
            case (_, ["comment", number]):
                comment = next((one for one in issue["comments"] if one["id"] == number), None)
                if comment is None:
                    return failure(404, f"Can not find a comment for the id: {number}.")
                return self.one_comment(request, account, issue, comment, kept)
            case ("GET", ["transitions"]):
                offered = [self.shown_transition(request, transition) for transition in self.offered(issue)]
                wanted = request.one("transitionId")
                return Answer(200, {"expand": "transitions",
                                    "transitions": [one for one in offered if wanted in (None, one["id"])]})
            case ("POST", ["transitions"]):
                return self.transition(request, account, issue, kept)
            case ("POST", ["attachments"]):
                return self.attach(request, account, issue, kept)
            case ("GET", ["properties"]):
                return Answer(200, {"keys": [{"self": self.rest("issue", issue["id"], "properties", key), "key": key}
                                             for key in issue["properties"]]})
            case (_, ["properties", key]):
                return self.property(request, issue, key, kept)
            case _:
                return Answer(405, headers={"Allow": "HEAD,GET,OPTIONS"})

    def json(self, request):
        try:
            value = request.json()
        except ValueError:
            raise Refused("Unexpected character or end of input in the body.") from None
        if not isinstance(value, dict):
            raise Refused("Can not deserialize the body: an object is wanted.")
        return value

    def keep(self, issue, account, fields, comments, status=None):
        if status is not None or any(issue["fields"].get(name) != value for name, value in fields.items()):
            self.touch(issue)
        issue["fields"].update(fields)
        if status is not None:
            issue["status"] = status
            done = self.seed.get("statuses", {}).get(status) == "done"
            issue["fields"]["resolutiondate"] = self.time(issue["updated"]) if done else None
        for body in comments:
            self.comment(issue, account, body)

    def one_comment(self, request, account, issue, comment, kept):
        if request.method == "GET":
            return Answer(200, self.shown_comment(issue, comment))
        if request.method == "PUT":
            body = self.body(self.json(request))
            if kept:
                self.touch(issue)
                comment.update(body=body, updated=issue["updated"], by=account)
            return Answer(200, {**self.shown_comment(issue, comment), "body": body})
        if request.method == "DELETE":
            if kept:
                self.touch(issue)
                issue["comments"].remove(comment)
            return Answer(204)
        return Answer(405)

    def offered(self, issue):
        return self.seed.get("workflow", {}).get(issue["status"], [])

    def shown_transition(self, request, transition):
        shown = {"id": str(transition["id"]), "name": transition["name"], "to": self.status(transition["to"])}
        if self.cloud:
            shown.update(hasScreen=bool(transition.get("screen")), isGlobal=False, isInitial=False, isAvailable=True,
                         isConditional=False)
        if "transitions.fields" in (request.one("expand") or ""):
            required = transition.get("required", [])
            shown["fields"] = {field: {"required": field in required, "name": self.described(field)["name"],
                                       "fieldId": field, "schema": self.described(field)["schema"], "operations": ["set"]}
                               for field in {*transition.get("screen", []), *required}}
        return shown

    def transition(self, request, account, issue, kept):
        body = self.json(request)
        wanted = body.get("transition")
        wanted = str(wanted.get("id")) if isinstance(wanted, dict) and wanted.get("id") is not None else None
        if wanted is None:
            raise Refused("Missing 'transition' identifier")
        found = next((one for one in self.offered(issue) if str(one["id"]) == wanted), None)
        if found is None:
            known = next((one["name"] for offers in self.seed.get("workflow", {}).values() for one in offers
                          if str(one["id"]) == wanted), None)
            if known is None or self.cloud:
                raise Refused(f"Transition id '{wanted}' is not valid for this issue.")
            raise Refused(f"It seems that you have tried to perform a workflow operation ({known}) that is not valid for "
                          f"the current state of this issue ({issue['key']}). The likely cause is that somebody has "
                          "changed the issue recently, please look at the issue history for details.")
        required = found.get("required", [])
        fields, comments = self.changes(issue, body, {*found.get("screen", []), *required})
        missing = {field: f"{self.described(field)['name']} is required."
                   for field in required if fields.get(field, issue["fields"].get(field)) is None}
        if missing:
            raise Refused(**missing)
        if kept:
            self.keep(issue, account, {**fields, **found.get("sets", {})}, comments, found["to"])
        return Answer(204)

    def attach(self, request, account, issue, kept):
        if (request.headers.get("X-Atlassian-Token") or "").lower() not in ("no-check", "nocheck"):
            return Answer(403, content_type="text/html;charset=UTF-8", body=b"XSRF check failed")
        found = parts(request)
        if found is None:
            return Answer(415)
        files = [part for part in found if part.name == "file" and part.filename]
        most = self.seed.get("attachment_max")
        for part in files:
            if most is not None and len(part.body) > most:
                return failure(413, f"The file '{part.filename}' exceeds its maximum permitted size of {most} bytes.")
        made = []
        if files and kept:
            self.touch(issue)
        for part in files:
            kind = part.content_type
            if kind == "application/octet-stream":
                kind = mimetypes.guess_type(part.filename)[0] or kind
            attachment = {"id": self.number("attachment"), "filename": part.filename, "author": account,
                          "created": issue["updated"], "size": len(part.body), "mimeType": kind}
            if kept:
                issue["attachments"].append(attachment)
                self.files[attachment["id"]] = part.body
            made.append(self.shown_attachment(attachment))
        return Answer(200, made)

    def property(self, request, issue, key, kept):
        held = issue["properties"]
        if request.method == "PUT":
            try:
                value = request.json()
            except ValueError:
                raise Refused("The value is no JSON.") from None
            status = 200 if key in held else 201
            if kept:
                held[key] = value
            return Answer(status)
        if key not in held:
            return failure(404, f"The property with key '{key}' does not exist.")
        if request.method == "GET":
            return Answer(200, {"key": key, "value": held[key]})
        if request.method == "DELETE":
            if kept:
                del held[key]
            return Answer(204)
        return Answer(405)

    # Pages, and what is looked for.

    def page(self, request, rows, most):
        try:
            start = int(request.one("startAt") or 0)
            size = int(request.one("maxResults") or most)
        except ValueError:
            raise Refused("startAt and maxResults are numbers.") from None
        size = max(0, min(size, self.seed.get("page", most)))
        if request.fault == "repeat":
            start = 0
        start = max(0, start)
        told = {"startAt": start, "maxResults": size, "total": len(rows)}
        if request.fault == "no_total":
            del told["total"]
        return rows[start:start + size], told

    def search(self, request):
        rows = [self.shown(issue, request, "*navigable") for issue in self.select(request.one("jql") or "")]
        if not self.cloud:
            page, told = self.page(request, rows, 1000)
            return Answer(200, {"expand": "schema,names", **told, "issues": page})
        size = max(1, min(int(request.one("maxResults") or 50), self.seed.get("page", 5000)))
        start = int(request.one("nextPageToken") or 0) if request.fault != "repeat" else 0
        answer = {"issues": rows[start:start + size], "isLast": start + size >= len(rows)}
        if not answer["isLast"]:
            answer["nextPageToken"] = str(start + size)
        return Answer(200, answer)

    def select(self, jql):
        """Issues that some conditions, all of them, hold for; nothing else of the language is understood here."""
        query, _, order = re.sub(r"(?i)(^|\s)order\s+by\s", "\0", jql, count=1).partition("\0")
        found = [issue for issue in self.issues if not issue["hidden"]]
        for text in re.split(r"(?i)\s+and\s+", query.strip()) if query.strip() else []:
            parsed = re.fullmatch(r"(?is)\s*(\w+)\s*(=|!=|\bin\b)\s*(.+?)\s*", text)
            if not parsed or parsed[1].lower() not in ("key", "issuekey", "issue", "id", "project", "status", "labels"):
                raise Refused(f"Error in the JQL Query: Expecting a condition but got '{text}'.")
            name, operator, rest = parsed[1].lower(), parsed[2].lower(), parsed[3]
            if operator == "in":
                rest = rest.strip("()")
            wanted = [word.strip().strip("'\"") for word in (rest.split(",") if operator == "in" else [rest])]
            if name in ("key", "issuekey", "issue", "id"):
                named = [self.find(word) for word in wanted]
                for word, issue in zip(wanted, named):
                    if issue is None or issue["hidden"]:
                        raise Refused(f"An issue with key '{word}' does not exist for field '{parsed[1]}'.")
                holds = lambda issue, named=named: issue in named  # noqa: E731
            else:
                values = {"project": lambda issue: [issue["key"].rpartition("-")[0]],
                          "status": lambda issue: [issue["status"]],
                          "labels": lambda issue: issue["fields"].get("labels") or []}[name]
                low = [word.lower() for word in wanted]
                holds = lambda issue, of=values, low=low: any(one.lower() in low for one in of(issue))  # noqa: E731
            found = [issue for issue in found if holds(issue) != (operator == "!=")]
        for text in reversed(order.split(",") if order else []):
            name, _, way = text.strip().partition(" ")
            if name.lower() not in ("key", "created", "updated", "status"):
                raise Refused(f"Not able to sort using field '{name}'.")
            found.sort(key=lambda issue, name=name.lower(): issue[name], reverse=way.strip().lower() == "desc")
        return found

    # What a test tells it.

    def obey(self, order):
        if order.get("fault") == "status":
            order.setdefault("value", {"errorMessages": ["Rate limit exceeded." if order["status"] == 429 else "told to"],
                                       "errors": {}})
        return super().obey(order)

    def order(self, order):
        issue = self.find(order.get("key", ""))
        if issue is None:
            raise ValueError("no such issue")
        account = order.get("account", "somebody.else")
        match order["do"]:
            case "issue":
                return self.shown(issue, None)
            case "set":
                self.touch(issue)
                issue["fields"].update(order.get("fields", {}))
                issue["status"] = order.get("status", issue["status"])
                issue["hidden"] = order.get("hidden", issue["hidden"])
                return self.shown(issue, None)
            case "comment":
                return self.shown_comment(issue, self.comment(issue, account, order["body"]))
            case "comments":
                return [self.shown_comment(issue, comment) for comment in issue["comments"]]
            case "attachments":
                return [{**self.shown_attachment(one), "sha256": hashlib.sha256(self.files[one["id"]]).hexdigest(),
                         "text": text(self.files[one["id"]])} for one in issue["attachments"]]
            case "properties":
                return issue["properties"]
            case "move":
                self.touch(issue)
                issue["formerly"].append(issue["key"])
                issue["key"] = order["to"]
                return {}
            case _:
                return super().order(order)


def text(content):
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


if __name__ == "__main__":
    run(Jira)
