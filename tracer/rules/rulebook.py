"""Which rule each call gets: a default, and overrides by pattern. Loads no torch."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, cast, get_args

from tracer import ops
from tracer.errors import InputError

Rule = Literal["exact", "gradient", "rescale", "captum"]
RULES: tuple[str, ...] = get_args(Rule)


def call_names(op: str, path: str, module_type: str, within: str = "") -> tuple[str, ...]:
    """The names of a call of `op` in the module at `path`, of which a pattern has to fit one.

    "<path>/<op>", the module's path, its type and the op; for an op called by a composite op (`within`), such as the
    division in `F.normalize`, also "<path>/<within>/<op>" and the names of the composite op, which one may be shown as.
    `op` is "" where one module runs several ops.
    """
    names = (f"{path}/{op}", path, module_type, op)
    return (*names, f"{path}/{within}/{op}", f"{path}/{within}", *within.split("/")) if within else names


def recorded_op(kind: str, type_name: str) -> str:
    """The op that runs where a trace shows a call of this kind and type; "" for a module that runs several.

    A call that no one saw run bears the name of its node in autograd's graph: "CubeBackward" for the function Cube.
    """
    if kind == "module":
        return ops.op_of_module(type_name)
    return re.sub(r"Backward\d*$", "", type_name) if kind == "unobserved" else type_name


def recorded_names(kind: str, type_name: str, path: str, module_type: str) -> tuple[str, ...]:
    """The `call_names` of a call in a trace; `module_type` is the type of the module that it is or is called in."""
    op = recorded_op(kind, type_name)
    if kind == "module":
        return call_names(op, path, module_type)
    module_path, _, within = path.rpartition("/")[0].partition("/")
    return call_names(op, module_path, module_type, within)


def fits(patterns: Iterable[str], names: Sequence[str]) -> bool:
    """Whether one of the patterns fits one of a call's names; *, ? and [abc] mean what they mean in file names."""
    return any(fnmatchcase(name, pattern) for pattern in patterns for name in names)


@dataclass(frozen=True, slots=True)
class Override:
    """Calls that `pattern` fits get `rule`."""

    pattern: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The `default` rule and the `overrides`; of several that fit a call the last one holds.

    "exact": conserves, for every op. "gradient": the derivative at the input. "rescale": the secant of each element
    where an op has one input and an output of its shape, else the gradient. "captum": the rule of the installed captum
    for its module types, else the gradient.
    """

    default: Rule = "exact"
    overrides: tuple[Override, ...] = ()

    @classmethod
    def parse(cls, default: str = "exact", overrides: Sequence[str] = ()) -> Rulebook:
        """A rulebook from words, such as `parse("captum", ["*/softmax=exact"])`; `InputError` for unknown ones."""
        found = []
        for text in overrides:
            pattern, equals, rule = text.rpartition("=")
            if not equals or not pattern:
                raise InputError(f"rule {text!r} is not of the form PATTERN=RULE, such as '*/softmax=exact'")
            found.append(Override(pattern.strip(), _rule(rule.strip())))
        return cls(_rule(default), tuple(found))

    @property
    def rules(self) -> frozenset[Rule]:
        """The rules that some call may get."""
        return frozenset({self.default, *(override.rule for override in self.overrides)})

    @property
    def doubled(self) -> bool:
        """Whether a rule of captum's takes part: these need input and reference in one doubled batch."""
        return "captum" in self.rules

    def override(self, op: str, path: str, module_type: str, within: str = "") -> Override | None:
        """The override that holds for a call with these `call_names`; None if the default does."""
        names = call_names(op, path, module_type, within)
        return next((override for override in reversed(self.overrides) if fits((override.pattern,), names)), None)

    def __str__(self) -> str:
        return " ".join([self.default, *(f"{override.pattern}={override.rule}" for override in self.overrides)])


EXACT = Rulebook()


def _rule(word: str) -> Rule:
    if word not in RULES:
        raise InputError(f"no rule is called {word!r}; there are {', '.join(RULES)}")
    return cast(Rule, word)
