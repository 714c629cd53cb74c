"""A double of ServiceNow's Table API and Attachment API.

The seed: {"accounts": {NAME: PASSWORD}, "tokens": {TOKEN: NAME}, "tables": {TABLE: [RECORD, ...]}, "references":
{TABLE: {FIELD: TABLE}}, "choices": {TABLE: {FIELD: {VALUE: LABEL}}}, "page": N, "display_hours": N}. A record's values are
texts; `sys_id` and the system's own fields are made when absent. `page`: no answer has more records than that, whatever the
limit asks for. `display_hours`: so far from UTC are the times that this account is shown (display values).

Further orders: {"do": "table", "table": T} for its records as they are, {"do": "set", "table": T, "sys_id": S, "fields":
{...}} for what somebody else does in between (it counts as an update), {"do": "journal"} for all notes and comments, {"do":
"attachments"}.

Further faults: "repeat" (the next page is this page again), "elsewhere" (the next page is on another site), "no_total" (no
count), "stale" (updates are answered as done, and are not).
"""

import datetime
import hashlib
import secrets
import urllib.parse

from double import Answer, Double, run

TIME = "%Y-%m-%d %H:%M:%S"
JOURNALS = ("work_notes", "comments")
NUMBERS = {"change_request": "CHG", "incident": "INC", "change_task": "CTASK"}
OPERATORS = ("ISNOTEMPTY", "ISEMPTY", "STARTSWITH", "ENDSWITH", "NOT LIKE", "NOT IN", "LIKE", "IN", "!=", ">=", "<=", "=",
             ">", "<")


def now():
    return datetime.datetime.now(datetime.timezone.utc).strftime(TIME)


def failure(status, message, detail=None, headers=None):
    return Answer(status, {"error": {"message": message, "detail": detail}, "status": "failure"}, headers)


class ServiceNow(Double):
    def __init__(self, seed):
        super().__init__(seed)
        self.tables = {}
        self.journal = []
        self.attachments = []
        self.files = {}
        self.tables.setdefault("sys_user", [])
        for table in ("change_request", "cmdb_ci_server", *seed.get("tables", {})):
            self.tables.setdefault(table, [])
        for table, records in seed.get("tables", {}).items():
            for record in records:
                self.insert(table, record, "admin")

    def insert(self, table, fields, account):
        at = now()
        record = {"sys_id": secrets.token_hex(16), "sys_created_on": at, "sys_updated_on": at,
                  "sys_created_by": account, "sys_updated_by": account, "sys_mod_count": "0", "sys_class_name": table}
        if table in NUMBERS and "number" not in fields:
            record["number"] = f"{NUMBERS[table]}{30001 + len(self.tables[table]):07}"
        record.update({name: "" if value is None else str(value) for name, value in fields.items()
                       if name not in JOURNALS})
        self.tables[table].append(record)
        self.note(table, record, fields, account)
        return record

    def update(self, table, record, fields, account):
        known = {name: "" if value is None else value if isinstance(value, str) else str(value).lower()
                 if isinstance(value, bool) else str(value) for name, value in fields.items()}
        changed = {name: value for name, value in known.items()
                   if name not in JOURNALS and not name.startswith("sys_") and record.get(name, "") != value}
        noted = self.note(table, record, fields, account)
        record.update(changed)
        # Nothing changed: no update, as there.
        if changed or noted:
            record.update(sys_mod_count=str(int(record["sys_mod_count"]) + 1), sys_updated_on=now(),
                          sys_updated_by=account)

    def note(self, table, record, fields, account):
        noted = [name for name in JOURNALS if fields.get(name)]
        for name in noted:
            self.journal.append({"sys_id": secrets.token_hex(16), "name": table, "element": name,
                                 "element_id": record["sys_id"], "value": fields[name], "sys_created_on": now(),
                                 "sys_created_by": account})
        return bool(noted)

    def find(self, table, sys_id):
        return next((record for record in self.rows(table) if record["sys_id"] == sys_id), None)

    def rows(self, table):
        return self.journal if table == "sys_journal_field" else self.tables[table]

    # How a value is shown.

    def reference(self, table, field):
        return self.seed.get("references", {}).get(table, {}).get(field)

    def display_of(self, table, record):
        return record.get("name") or record.get("number") or record.get("user_name") or record["sys_id"]

    def display(self, table, field, record):
        if field in JOURNALS:
            entries = [entry for entry in self.journal
                       if (entry["element_id"], entry["element"]) == (record["sys_id"], field)]
            label = field.replace("_", " ").capitalize()
            return "".join(f"{self.local(entry['sys_created_on'])} - {entry['sys_created_by']} ({label})\n"
                           f"{entry['value']}\n\n" for entry in reversed(entries))
        value = record.get(field, "")
        target = self.reference(table, field)
        if target:
            found = self.find(target, value) if value else None
            return self.display_of(target, found) if found else ""
        label = self.seed.get("choices", {}).get(table, {}).get(field, {}).get(value)
        return label if label is not None else self.local(value)

    def local(self, value):
        """A time as this account is shown it; any other value as it is."""
        try:
            at = datetime.datetime.strptime(value, TIME)
        except ValueError:
            return value
        return (at + datetime.timedelta(hours=self.seed.get("display_hours", 0))).strftime(TIME)

    def walk(self, table, record, name):
        """The table, record and field that a dotted name leads to; None for a record that is not there."""
        first, _, rest = name.partition(".")
        while rest:
            target = self.reference(table, first)
            found = self.find(target, record.get(first, "")) if target else None
            if found is None:
                return None
            table, record = target, found
            first, _, rest = rest.partition(".")
        return table, record, first

    def shown(self, table, record, request):
        wanted = [name for name in (request.one("sysparm_fields") or "").split(",") if name]
        if not wanted:
            wanted = list(record) + [name for name in JOURNALS if table in NUMBERS]
        kind = request.one("sysparm_display_value", "false").lower()
        links = request.one("sysparm_exclude_reference_link", "false").lower() != "true"
        out = {}
        for name in wanted:
            found = self.walk(table, record, name)
            if found is None:
                out[name] = {"display_value": "", "value": ""} if kind == "all" else ""
                continue
            place, row, field = found
            # A field that the table does not have is left out, as there.
            if field not in row and field not in JOURNALS and not any(field in other for other in self.rows(place)):
                continue
            value, display = row.get(field, ""), self.display(place, field, row)
            target = self.reference(place, field)
            link = f"{self.url}/api/now/table/{target}/{value}" if target and value else None
            if kind == "all":
                out[name] = {"display_value": display, "value": value}
                if link and links:
                    out[name]["link"] = link
            elif kind == "true":
                out[name] = {"display_value": display, "link": link} if link and links else display
            else:
                out[name] = {"link": link, "value": value} if link and links else value
        return out

    # What a query means. A condition that cannot be made out is left out, as there: it then finds more, not less.

    def condition(self, table, text):
        at, operator = min(((text.find(word), word) for word in OPERATORS if text.find(word) > 0),
                           key=lambda found: (found[0], -len(found[1])), default=(-1, None))
        if operator is None:
            return None
        name, wanted = text[:at], text[at + len(operator):]
        rows = self.rows(table)
        if "." not in name and rows and not any(name in row for row in rows):
            return None

        def holds(record):
            found = self.walk(table, record, name)
            value = found[1].get(found[2], "") if found else ""
            low, want = value.lower(), wanted.lower()
            return {
                "=": low == want, "!=": low != want, "LIKE": want in low, "NOT LIKE": want not in low,
                "STARTSWITH": low.startswith(want), "ENDSWITH": low.endswith(want), "IN": low in want.split(","),
                "NOT IN": low not in want.split(","), "ISEMPTY": value == "", "ISNOTEMPTY": value != "",
                ">=": value >= wanted, "<=": value <= wanted, ">": value > wanted, "<": value < wanted,
            }[operator]

        return holds

    def select(self, table, query):
        orders = []
        unions = []
        for part in query.split("^NQ"):
            groups = []
            for text in part.split("^"):
                if text.startswith("ORDERBYDESC"):
                    orders.append((text[len("ORDERBYDESC"):], True))
                    continue
                if text.startswith("ORDERBY"):
                    orders.append((text[len("ORDERBY"):], False))
                    continue
                either = text.startswith("OR") and groups
                holds = self.condition(table, text[2:] if either else text)
                if holds is None:
                    continue
                if either:
                    groups[-1].append(holds)
                else:
                    groups.append([holds])
            unions.append(groups)
        rows = [record for record in self.rows(table)
                if any(all(any(holds(record) for holds in group) for group in groups) for groups in unions)]
        for name, downwards in reversed(orders):
            rows.sort(key=lambda record: record.get(name, ""), reverse=downwards)
        return rows

    # The answers.

    def unauthorized(self):
        return failure(401, "User Not Authenticated", "Required to provide Auth information",
                       {"WWW-Authenticate": 'BASIC realm="Service-now"'})

    def answer(self, request):
        account = self.basic(request) or self.token(request, "Bearer")
        if account is None:
            return self.unauthorized()
        parts = request.path.strip("/").split("/")
        # A version of the interface may be named.
        if len(parts) > 2 and parts[:2] == ["api", "now"] and parts[2] in ("v1", "v2"):
            del parts[2]
        match parts:
            case ["api", "now", "table", table, *rest] if len(rest) < 2:
                if table not in self.tables and table != "sys_journal_field":
                    return failure(400, f"Invalid table {table}")
                return self.one(request, account, table, rest[0]) if rest else self.many(request, account, table)
            case ["api", "now", "attachment", *rest]:
                return self.attachment(request, account, rest)
            case _:
                return failure(400, "Requested URI does not represent any resource", request.path)

    def page(self, request, rows):
        """Some of the rows, with the headers that say where the others are."""
        try:
            limit = int(request.one("sysparm_limit") or 10000)
            offset = int(request.one("sysparm_offset") or 0)
        except ValueError:
            return None, failure(400, "Pagination not supported", "sysparm_limit and sysparm_offset are numbers")
        limit = max(1, min(limit, self.seed.get("page", 10000)))
        query = {name: values[0] for name, values in request.query.items()}

        def link(kind, at, site=self.url):
            query.update(sysparm_limit=str(limit), sysparm_offset=str(at))
            return f'<{site}{request.path}?{urllib.parse.urlencode(query)}>;rel="{kind}"'

        links = [link("first", 0)]
        if offset > 0:
            links.append(link("prev", max(0, offset - limit)))
        if request.fault == "repeat":
            links.append(link("next", offset))
        elif request.fault == "elsewhere":
            links.append(link("next", offset + limit, "http://203.0.113.1"))
        elif offset + limit < len(rows):
            links.append(link("next", offset + limit))
        links.append(link("last", max(0, (len(rows) - 1) // limit * limit)))
        headers = {"Link": ",".join(links), "X-Total-Count": str(len(rows))}
        if request.fault == "no_total":
            del headers["X-Total-Count"]
        if (request.one("sysparm_suppress_pagination_header") or "").lower() == "true":
            headers = {}
        return rows[offset:offset + limit], headers

    def many(self, request, account, table):
        if request.method == "GET":
            rows, headers = self.page(request, self.select(table, request.one("sysparm_query") or ""))
            if rows is None:
                return headers
            return Answer(200, {"result": [self.shown(table, record, request) for record in rows]}, headers)
        if request.method == "POST" and table != "sys_journal_field":
            record = self.insert(table, request.json(), account)
            return Answer(201, {"result": self.shown(table, record, request)},
                          {"Location": f"{self.url}/api/now/table/{table}/{record['sys_id']}"})
        return failure(405, "Method not supported")

    def one(self, request, account, table, sys_id):
        record = self.find(table, sys_id)
        if record is None:
            return failure(404, "No Record found", "Record doesn't exist or ACL restricts the record retrieval")
        if request.method == "GET":
            return Answer(200, {"result": self.shown(table, record, request)})
        if request.method in ("PATCH", "PUT"):
            if request.fault != "stale":
                self.update(table, record, request.json(), account)
            return Answer(200, {"result": self.shown(table, record, request)})
        if request.method == "DELETE":
            self.rows(table).remove(record)
            return Answer(204)
        return failure(405, "Method not supported")

    def attachment(self, request, account, rest):
        match (request.method, rest):
            case ("GET", []):
                wanted = dict(part.split("=", 1) for part in (request.one("sysparm_query") or "").split("^")
                              if "=" in part)
                rows = [row for row in self.attachments
                        if all(row.get(name) == value for name, value in wanted.items())]
                rows, headers = self.page(request, rows)
                return headers if rows is None else Answer(200, {"result": rows}, headers)
            case ("POST", ["file"]):
                table, sys_id = request.one("table_name"), request.one("table_sys_id")
                if not request.one("file_name") or table not in self.tables or not self.find(table, sys_id):
                    return failure(404, "Invalid attachment", "table_name, table_sys_id and file_name name a record")
                at, attachment = now(), secrets.token_hex(16)
                row = {"sys_id": attachment, "table_name": table, "table_sys_id": sys_id,
                       "file_name": request.one("file_name"), "size_bytes": str(len(request.body)),
                       "content_type": request.headers.get("Content-Type", ""),
                       "hash": hashlib.sha256(request.body).hexdigest(), "sys_created_on": at,
                       "sys_created_by": account, "sys_mod_count": "0",
                       "download_link": f"{self.url}/api/now/attachment/{attachment}/file"}
                self.attachments.append(row)
                self.files[attachment] = request.body
                return Answer(201, {"result": row}, {"Location": f"{self.url}/api/now/attachment/{attachment}"})
            case ("GET", [attachment, *more]) if more in ([], ["file"]) and attachment in self.files:
                row = next(row for row in self.attachments if row["sys_id"] == attachment)
                if more:
                    return Answer(200, body=self.files[attachment], content_type=row["content_type"])
                return Answer(200, {"result": row})
            case ("DELETE", [attachment]) if attachment in self.files:
                del self.files[attachment]
                self.attachments = [row for row in self.attachments if row["sys_id"] != attachment]
                return Answer(204)
            case _:
                return failure(404, "No Record found", "Record doesn't exist or ACL restricts the record retrieval")

    def order(self, order):
        match order["do"]:
            case "table":
                return self.tables[order["table"]]
            case "set":
                record = self.find(order["table"], order["sys_id"])
                if record is None:
                    raise ValueError("no such record")
                self.update(order["table"], record, order["fields"], order.get("account", "somebody.else"))
                return record
            case "journal":
                return self.journal
            case "attachments":
                return self.attachments
            case _:
                return super().order(order)


if __name__ == "__main__":
    run(ServiceNow)
