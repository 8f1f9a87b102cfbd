"""The JSON schema of the language, from which editors complete and check YAML.

``python -m merganser.config.json_schema`` prints it; ``configs/schema.json`` is its output. Keys
that are known but not run yet are in it as deprecated, so that editors do not underline a file
that loads.
"""

from __future__ import annotations

import ast
import json
import sys
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

from merganser.config.sections import SECTIONS
from merganser.config.spec_agents import AgentSpec
from merganser.config.spec_root import Spec
from merganser.config.unsupported import TOOLSETS

if TYPE_CHECKING:
    from pydantic import BaseModel

TITLE = "merganser"
_LATER = "Known to cagent's language; not supported yet, ignored with a warning."


def build_schema() -> dict[str, Any]:
    """Give the JSON schema of a config."""
    schema = Spec.model_json_schema()
    schema["$schema"] = "https://json-schema.org/draft/2020-12/schema"
    schema["title"] = TITLE
    definitions: dict[str, Any] = schema["$defs"]
    for section in SECTIONS:
        for variant in section.variants.values():
            entry = schema if variant.model is Spec else definitions[variant.model.__name__]
            properties: dict[str, Any] = entry.setdefault("properties", {})
            for name, text in field_docstrings(variant.model).items():
                properties[name]["description"] = text
            for key, known in variant.later.items():
                if not known.refused:
                    properties[key] = {"description": _LATER, "deprecated": True}
    definitions["LaterToolset"] = {
        "description": _LATER,
        "deprecated": True,
        "type": "object",
        "properties": {"type": {"type": "string", "enum": sorted(TOOLSETS)}},
        "required": ["type"],
    }
    items = definitions[AgentSpec.__name__]["properties"]["toolsets"]["items"]
    items["oneOf"].append({"$ref": "#/$defs/LaterToolset"})
    del items["discriminator"]  # it lists the types that are run, and would exclude the others
    return schema


def render_schema() -> str:
    """Give the schema as it stands in ``configs/schema.json``."""
    return json.dumps(build_schema(), indent=2, ensure_ascii=False) + "\n"


def field_docstrings(model: type[BaseModel]) -> dict[str, str]:
    """Collect the string below each field, of the class and the classes it extends."""
    found = dict[str, str]()
    for owner in reversed(model.__mro__):
        if not owner.__module__.startswith("merganser.config.spec_"):
            continue
        for field, text in pairwise(_class_body(owner)):
            match field, text:
                case (
                    ast.AnnAssign(target=ast.Name(id=name)),
                    ast.Expr(value=ast.Constant(value=str(docstring))),
                ):
                    found[name] = " ".join(docstring.split()).replace("``", "`")
                case _:
                    pass
    return found


def _class_body(owner: type) -> list[ast.stmt]:
    path = sys.modules[owner.__module__].__file__ or ""
    for node in ast.parse(Path(path).read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ClassDef) and node.name == owner.__name__:
            return node.body
    raise AssertionError(f"{owner} is not defined in {path}")


if __name__ == "__main__":
    sys.stdout.write(render_schema())
