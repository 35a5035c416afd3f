"""Makes kuberay_schema.json from KubeRay's two CRDs, small enough to keep.

python -m tests.harness.deploy.kuberay_schema COMMIT ray.io_rayjobs.yaml ray.io_rayclusters.yaml
"""

import json
import sys
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


def strict(node: Any, parts: dict[str, str]) -> Any:
    """An OpenAPI schema as JSON Schema that refuses unknown fields.

    parts: texts longer than SHORT -> their names, which stand in their place; it is filled.
    """
    if isinstance(node, list):
        return [strict(item, parts) for item in node]
    if not isinstance(node, dict):
        return node
    out = {}
    for key, value in node.items():
        if key == "properties":
            out[key] = {name: strict(part, parts) for name, part in value.items()}
        elif key not in DROPPED and not key.startswith("x-kubernetes-"):
            out[key] = strict(value, parts)
    if node.get("x-kubernetes-int-or-string"):
        out.pop("anyOf", None)
        out["type"] = ["integer", "string"]
    if "properties" in out and not node.get("x-kubernetes-preserve-unknown-fields"):
        out["additionalProperties"] = False
    text = json.dumps(out, sort_keys=True, separators=(",", ":"))
    if len(text) <= SHORT:
        return out
    return {"$ref": f"#/$defs/{parts.setdefault(text, f'p{len(parts)}')}"}


def kind(path: Path, parts: dict[str, str]) -> tuple[str, Any]:
    """(kind, schema) of a CRD's version v1."""
    definition = YAML(typ="safe").load(path)
    name = definition["spec"]["names"]["kind"]
    (v1,) = (v for v in definition["spec"]["versions"] if v["name"] == "v1")
    schema = v1["schema"]["openAPIV3Schema"]
    fields = {"apiVersion": {"const": "ray.io/v1"}, "kind": {"const": name}}
    schema["properties"] |= {**fields, "status": False}
    return name, strict({**schema, "required": [*fields, "metadata", "spec"]}, parts)


def main(commit: str, *paths: str) -> None:
    """Write the file beside this one."""
    parts: dict[str, str] = {}
    kinds = dict(kind(Path(path), parts) for path in paths)
    lines = [f'"{name}":{text}' for text, name in parts.items()]
    head = json.dumps({"$comment": NOTE.format(commit), "kinds": kinds})
    target = Path(__file__).with_suffix(".json")
    target.write_text(head.removesuffix("}") + ',"$defs":{' + ",\n".join(lines) + "}}\n")


if __name__ == "__main__":
    main(*sys.argv[1:])
