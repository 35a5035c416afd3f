"""Makes kuberay_schema.json from KubeRay's two CRDs, small enough to keep.

python -m tests.harness.deploy.kuberay_schema COMMIT ray.io_rayjobs.yaml ray.io_rayclusters.yaml
"""

import json
import sys
from collections import Counter
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML

NOTE = (
    "OpenAPI v3 schemas of KubeRay's RayJob and RayCluster (ray.io/v1): github.com/ray-project/"
    "kuberay, helm-chart/kuberay-operator/crds at commit {}. Copyright the KubeRay authors, Apache "
    "License 2.0 (see LICENSE). Changed by tests/harness/deploy/kuberay_schema.py: "
    "no descriptions, defaults, formats, status and older versions; equal parts are written once; "
    "unknown fields are refused, as by kubectl --validate=strict."
)
DROPPED = ("description", "default", "format")
SHORT = 60  # characters; what is shorter is not worth a reference


def strict(node: Any) -> Any:
    """An OpenAPI schema as JSON Schema that refuses unknown fields."""
    if isinstance(node, list):
        return [strict(item) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: strict(part) for name, part in value.items()}
        elif key not in DROPPED and not key.startswith("x-kubernetes-"):
            out[key] = strict(value)
    if node.get("x-kubernetes-int-or-string"):
        out.pop("anyOf", None)
        out["type"] = ["integer", "string"]
    if "properties" in out and not node.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    return out


def kind(path: Path) -> tuple[str, Any]:
    """(kind, schema) of a CRD's version v1."""
    definition = YAML(typ="safe").load(path)
    name = definition["spec"]["names"]["kind"]
    (v1,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema = strict(v1["schema"]["openAPIV3Schema"])
    fields = schema["properties"]
    del fields["status"]
    fields |= {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": name}}
    return name, {**schema, "required": ["apiVersion", "kind", "metadata", "spec"]}


def text_of(node: Any) -> str:
    """One line of JSON."""
    return json.dumps(node, sort_keys=True, separators=(",", ":"))


def is_schema(node: Any) -> bool:
    """Whether it is a schema: in a mapping of properties, "type" would be one more schema."""
    return isinstance(node, dict) and isinstance(node.get("type"), str | list)


def count(node: Any, seen: Counter[str]) -> None:
    """Count each schema below a node."""
    if is_schema(node):
        seen[text_of(node)] += 1
    for part in node.values() if isinstance(node, dict) else node if isinstance(node, list) else ():
        count(part, seen)


def shared(node: Any, names: dict[str, str], parts: dict[str, Any], top: bool = False) -> Any:
    """The node with references in the place of what stands in `names`; fills `parts`."""
    name = names.get(text_of(node)) if is_schema(node) and not top else None
    if name:
        if name not in parts:
            parts[name] = None
            parts[name] = shared(node, names, parts, top=True)
        return {"$ref": f"#/$defs/{name}"}
    if isinstance(node, dict):
        return {key: shared(part, names, parts) for key, part in node.items()}
    if isinstance(node, list):
        return [shared(part, names, parts) for part in node]
    return node


def main(commit: str, *paths: str) -> None:
    """Write the file beside this one."""
    kinds = dict(kind(Path(path)) for path in paths)
    seen: Counter[str] = Counter()
    count(kinds, seen)
    often = sorted(text for text, n in seen.items() if n > 1 and len(text) > SHORT)
    names = {text: f"p{i}" for i, text in enumerate(often)}
    parts: dict[str, Any] = {}
    small = {name: shared(schema, names, parts, top=True) for name, schema in kinds.items()}
    schema = {"$comment": NOTE.format(commit), "kinds": small, "$defs": parts}
    target = Path(__file__).with_suffix(".json")
    target.write_text(text_of(schema).replace('},"p', '},\n"p') + "\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
