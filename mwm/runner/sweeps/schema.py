"""The JSON Schema of a sweep file: what editors complete and check, as it follows from the records."""

from __future__ import annotations

import json
from collections.abc import Collection, Iterator
from typing import Any

from mwm.attacks import Attack
from mwm.config.spec import json_schema
from mwm.config.written import FRACTION
from mwm.runner.sweeps.space import DOMAIN_KINDS
from mwm.runner.sweeps.sweep import Sweep
from mwm.trials.trial import Victim

Tree = dict[str, Any]

NUMBER: Tree = {"anyOf": [{"type": "number"}, {"type": "string", "pattern": f"^{FRACTION.pattern}$"}]}
"""A number, or a fraction such as 3/255, which is a word to every other reader of YAML."""

RANGES = {"integers": {"type": "integer"}, "uniform": NUMBER, "loguniform": NUMBER}
"""Domains between two numbers, with what these are."""


def sweep_schema() -> Tree:
    """The schema of a sweep file. For whatever the file says of victims and attacks a domain may stand."""
    definitions: Tree = {}
    whole = _Part("sweep", (), definitions).place(Sweep)
    fields = definitions["sweep.Sweep"]["properties"]
    fields["victim"] = _Part("victim", DOMAIN_KINDS, definitions).place(Victim)
    fields["attacks"]["items"] = _Part("attack", ("grid",), definitions).place(Attack)
    written_in = {"$schema": "http://json-schema.org/draft-07/schema#", "title": "A sweep of mwm"}
    return {**written_in, "allOf": [whole], "$defs": dict(sorted(definitions.items()))}


def schema_text(*, in_ascii: bool = False) -> str:
    """The schema as it is kept in a file, or in ASCII, which is the same in every encoding."""
    return json.dumps(sweep_schema(), indent=1, ensure_ascii=in_ascii) + "\n"


class _Part:
    """A part of the file in which the `domains` are allowed; its definitions are named after it."""

    def __init__(self, name: str, domains: Collection[str], definitions: Tree) -> None:
        self._name, self._domains, self._definitions = name, domains, definitions

    def place(self, record: Any) -> Tree:
        """What may stand where a record, or one of a union of records, is read."""
        made = json_schema(record)
        records = made.pop("$defs", {})
        kinds = {_last(ref) for mapping in _mappings([made, records]) for ref in mapping.values()}
        if "properties" in made:
            records[made["title"]] = made
            made = {"$ref": made["title"]}
        for name, schema in records.items():
            self._definitions[f"{self._name}.{name}"] = self._record(name, schema, chosen=name in kinds)
        return self._value(made, self._name)

    def _record(self, name: str, schema: Tree, *, chosen: bool) -> Tree:
        """The keys of a record; of one that is chosen by its kind, that is needed and is no domain."""
        fields = {
            field: _titleless(one) if field == "kind" else self._value(one, f"{self._name}.{name}.{field}")
            for field, one in schema["properties"].items()
        }
        needed = [*schema.get("required", ()), *["kind"] * (chosen and "kind" not in schema.get("required", ()))]
        told = {"description": _joined(schema["description"])} if "description" in schema else {}
        return {**told, "type": "object", "additionalProperties": False, "required": needed, "properties": fields}

    def _value(self, schema: Tree, path: str) -> Tree:
        """What may stand in one place: a value, or a domain, whose options may be domains again."""
        plain, told = self._plain(schema, path), {key: schema[key] for key in ("default",) if key in schema}
        if not self._domains:
            return plain | told
        self._definitions[path] = {"anyOf": [plain, *self._domains_of(path, _numbers(schema))]}
        return {"$ref": f"#/$defs/{path}", **told}

    def _domains_of(self, path: str, numbers: set[str]) -> Iterator[Tree]:
        for kind in self._domains:
            options: Tree = {"type": "array", "minItems": 1, "items": {"$ref": f"#/$defs/{path}"}}
            if kind in RANGES:
                options = {"type": "array", "minItems": 2, "maxItems": 2, "items": RANGES[kind]}
            if kind not in RANGES or "number" in numbers or (kind == "integers" and numbers):
                yield _only(kind, options)

    def _plain(self, schema: Tree, path: str) -> Tree:
        """What may stand in a place where no domain does."""
        if "discriminator" in schema:
            return self._union(schema["discriminator"]["mapping"])
        if "$ref" in schema:
            return {"$ref": f"#/$defs/{self._name}.{_last(schema['$ref'])}"}
        if "anyOf" in schema:
            return {"anyOf": [self._plain(one, path) for one in schema["anyOf"]]}
        if schema.get("type") == "array":
            pair = schema.get("prefixItems", [])  # so many values, all of a kind
            sizes = {key: value for key, value in _titleless(schema).items() if key != "prefixItems"}
            return sizes | {"items": self._value(pair[0] if pair else schema["items"], f"{path}.item")}
        if schema.get("type") == "number":
            return {"anyOf": [_titleless(schema), NUMBER["anyOf"][1]]}
        return _titleless(schema)

    def _union(self, mapping: dict[str, str]) -> Tree:
        """One record of several: by its kind in a word, in full, or with a domain of kinds."""
        words: Tree = {"enum": sorted(mapping)}
        records = dict.fromkeys(f"{self._name}.{_last(ref)}" for ref in mapping.values())
        many = [
            {
                "type": "object",
                "required": ["kind"],
                "properties": {"kind": _only(kind, {"type": "array", "items": words})},
            }
            for kind in self._domains
            if kind not in RANGES
        ]
        return {"anyOf": [words, *({"$ref": f"#/$defs/{name}"} for name in records), *many]}


def _only(key: str, value: Tree) -> Tree:
    return {"type": "object", "additionalProperties": False, "required": [key], "properties": {key: value}}


def _titleless(schema: Tree) -> Tree:
    return {key: value for key, value in schema.items() if key not in ("title", "default", "description")}


def _joined(text: str) -> str:
    """A docstring whose lines are not broken."""
    return "\n\n".join(" ".join(part.split()) for part in text.split("\n\n"))


def _last(ref: str) -> str:
    return ref.rpartition("/")[2]


def _numbers(schema: Tree) -> set[str]:
    """Of what kinds of numbers a value may be."""
    found = {one for option in schema.get("anyOf", ()) for one in _numbers(option)}
    return found | {kind for kind in ("integer", "number") if schema.get("type") == kind}


def _mappings(tree: Any) -> Iterator[dict[str, str]]:
    """The kinds of every union in a schema, with their records."""
    if isinstance(tree, dict):
        if "discriminator" in tree:
            yield tree["discriminator"]["mapping"]
        for value in tree.values():
            yield from _mappings(value)
    elif isinstance(tree, list):
        for value in tree:
            yield from _mappings(value)
