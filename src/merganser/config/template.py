"""``${env.NAME}`` and ``${env.NAME || 'default'}`` in strings; no other expressions."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from merganser.config.sections import TEMPLATES

if TYPE_CHECKING:
    from collections.abc import Mapping

    from merganser.config.checked_config import Document

_TEMPLATE = re.compile(r"\$\{([^}]*)\}")
_VARIABLE = re.compile(r"env\.([A-Za-z_][A-Za-z0-9_]*)")
_QUOTED = re.compile(r"""(['"])(.*)\1""")


class _TemplateError(Exception):
    def __init__(self, problem: str, fix: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.fix = fix


def fill_templates(document: Document, environment: Mapping[str, str]) -> None:
    """Replace environment variables where the language allows them; report those that are missing.

    As in cagent, an empty variable counts as missing before ``||``.
    """
    for pattern in TEMPLATES:
        for location, value in list(document.matches(pattern)):
            if not isinstance(value, str) or "${" not in value:
                continue
            try:
                filled = _TEMPLATE.sub(lambda m: _evaluate(m[1], environment), value)
                document.replace(location, filled)
            except _TemplateError as error:
                document.error(location, error.problem, fix=error.fix)
                document.cover(location)


def _evaluate(expression: str, environment: Mapping[str, str]) -> str:
    missing = list[str]()
    for word in expression.split("||"):
        variable = _VARIABLE.fullmatch(word.strip())
        quoted = _QUOTED.fullmatch(word.strip())
        if quoted:
            return quoted[2]
        if not variable:
            raise _TemplateError(
                f"cannot read ${{{expression}}}",
                "write ${env.NAME} or ${env.NAME || 'default'}",
            )
        if environment.get(variable[1]):
            return environment[variable[1]]
        missing.append(variable[1])
    names = " and ".join(missing)
    raise _TemplateError(
        f"the environment variable {names} is not set",
        f"set {missing[0]}, or give a default: ${{env.{missing[0]} || 'default'}}",
    )
