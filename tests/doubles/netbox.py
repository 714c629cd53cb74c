"""A double of NetBox's REST API, as far as it lists devices and virtual machines.

The seed: {"tokens": {TOKEN: NAME}, "page": N, "lists": {"dcim/devices": [RECORD, ...], "virtualization/virtual-machines":
[...]}}. A record's keys are as NetBox gives them; `id`, `url` and what is absent are made. `page`: no page has more records
(MAX_PAGE_SIZE). Tokens that begin with `nbt_` are given as Bearer, others as Token.

Further faults: "repeat" (the next page is this page again), "elsewhere" (the next page is on another site), "twice" (the next
page begins with the last record of this one), "fewer" (it announces one more than it gives).
"""

import urllib.parse

from double import Answer, Double, run

NULLS = ("primary_ip", "primary_ip4", "primary_ip6", "platform", "tenant", "role", "site", "serial")


class Netbox(Double):
    def __init__(self, seed):
        super().__init__(seed)
        self.lists = {"dcim/devices": [], "virtualization/virtual-machines": []}
        for path, records in seed.get("lists", {}).items():
            for no, record in enumerate(records, 1):
                full = {"id": no, "url": None, "display": record.get("name"), "status":
                        {"value": "active", "label": "Active"}, "tags": [], "custom_fields": {},
                        **{name: None for name in NULLS}, "config_context": {"motd": "hello"}, **record}
                if full["primary_ip4"] and not full["primary_ip"]:
                    full["primary_ip"] = full["primary_ip4"]
                self.lists[path].append(full)

    def unauthorized(self):
        return Answer(403, {"detail": "Authentication credentials were not provided."}, {"WWW-Authenticate": "Token"})

    def account(self, request):
        kind, _, rest = (request.headers.get("Authorization") or "").partition(" ")
        wanted = "bearer" if rest.startswith("nbt_") else "token"
        return self.token(request, wanted) if kind.lower() == wanted else None

    def holds(self, record, name, values):
        """Whether a record fits a filter; a filter that is not known fits all, as there."""
        def slug(value):
            return (value.get("slug") or value.get("value")) if isinstance(value, dict) else value

        match name:
            case "name":
                return record["name"] in values
            case "id":
                return str(record["id"]) in values
            case "status" | "site" | "role" | "platform" | "tenant":
                return slug(record[name]) in values
            case "tag":
                return set(values) <= {tag["slug"] for tag in record["tags"]}
            case _ if name.startswith("cf_"):
                return str(record["custom_fields"].get(name[3:])).lower() in [value.lower() for value in values]
            case _:
                return True

    def answer(self, request):
        path = request.path
        if path == "/api/status/":
            return Answer(200, {"netbox-version": "4.2.0", "plugins": {}}, {"API-Version": "4.2"})
        if self.account(request) is None:
            if request.headers.get("Authorization"):
                return Answer(403, {"detail": "Invalid token"})
            return self.unauthorized()
        if path == "/api/":
            return Answer(200, {"dcim": f"{self.url}/api/dcim/"}, {"API-Version": "4.2"})
        parts = path.strip("/").split("/")
        name = "/".join(parts[1:3])
        if parts[0] != "api" or name not in self.lists or request.method != "GET":
            return Answer(404, {"detail": "Not found."}, {"API-Version": "4.2"})
        rows = self.lists[name]
        for row in rows:
            row["url"] = f"{self.url}/api/{name}/{row['id']}/"
        if len(parts) == 4:
            found = next((row for row in rows if str(row["id"]) == parts[3]), None)
            return Answer(200, found) if found else Answer(404, {"detail": "No record matches the given query."})
        controls = ("limit", "offset", "exclude", "fields", "brief", "ordering")
        filters = {name: values for name, values in request.query.items() if name not in controls}
        rows = [row for row in rows if all(self.holds(row, *one) for one in filters.items())]
        try:
            limit, offset = int(request.one("limit") or 50), int(request.one("offset") or 0)
        except ValueError:
            return Answer(400, {"detail": "limit and offset are numbers"})
        most = self.seed.get("page", 1000)
        limit = min(limit, most) if limit > 0 else most
        query = {name: values for name, values in request.query.items()}

        def link(at, site=self.url):
            query.update(limit=[str(limit)], offset=[str(at)])
            return f"{site}{path}?{urllib.parse.urlencode(query, doseq=True)}"

        following = link(offset + limit) if offset + limit < len(rows) else None
        match request.fault:
            case "repeat":
                following = link(offset)
            case "elsewhere":
                following = link(offset + limit, "http://203.0.113.1")
            case "twice":
                following = link(offset + limit - 1)
        shown = rows[offset:offset + limit]
        if request.one("exclude") == "config_context":
            shown = [{name: value for name, value in row.items() if name != "config_context"} for row in shown]
        count = len(rows) + (request.fault == "fewer")
        return Answer(200, {"count": count, "next": following,
                            "previous": link(max(0, offset - limit)) if offset else None, "results": shown},
                      {"API-Version": "4.2"}, content_type="application/json")


if __name__ == "__main__":
    run(Netbox)
