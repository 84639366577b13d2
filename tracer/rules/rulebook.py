"""Which rule each call gets: a default, and overrides by pattern."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, cast, get_args

from tracer.errors import InputError

Rule = Literal["exact", "gradient", "rescale", "captum"]
RULES: tuple[str, ...] = get_args(Rule)


@dataclass(frozen=True, slots=True)
class Override:
    """Calls that match `pattern` get `rule`."""

    pattern: str
    rule: Rule

    def matches(self, names: Sequence[str]) -> bool:
        """Whether the pattern (as in file names: *, ?, [abc]) fits one of a call's names."""
        return any(fnmatchcase(name, self.pattern) for name in names)


@dataclass(frozen=True, slots=True)
class Rulebook:
    """The `default` rule and the `overrides`; of several that match the last one holds.

    "exact": conserves, for every op. "gradient": the derivative at the input. "rescale": the secant of each element
    where an op has one input and one shape, else the gradient. "captum": what the installed captum does, by module
    type, and the gradient elsewhere.
    """

    default: Rule = "exact"
    overrides: tuple[Override, ...] = ()

    @classmethod
    def parse(cls, default: str = "exact", overrides: Sequence[str] = ()) -> Rulebook:
        """A rulebook from words: `parse("captum", ["*/softmax=exact", "LayerNorm=gradient"])`."""
        found = []
        for text in overrides:
            pattern, equals, rule = text.rpartition("=")
            if not equals or not pattern:
                raise InputError(f"rule {text!r} is not of the form PATTERN=RULE, such as '*/softmax=exact'")
            found.append(Override(pattern.strip(), _rule(rule.strip())))
        return cls(_rule(default), tuple(found))

    @property
    def doubled(self) -> bool:
        """Whether a rule of captum's takes part, which is defined on input and reference as one doubled batch."""
        return "captum" in (self.default, *(override.rule for override in self.overrides))

    def override(self, op: str, path: str, module_type: str, within: str = "") -> Override | None:
        """The override that holds for `op` in the module at `path` of type `module_type`; None: the default does.

        A pattern is held against "<path>/<op>", the module's path, its type's name and the op's name; for an op inside
        a composite one, `within`, such as the division in `F.normalize`, also against "<path>/<within>/<op>".
        """
        names = (f"{path}/{op}", path, module_type, op, *((f"{path}/{within}/{op}",) if within else ()))
        return next((override for override in reversed(self.overrides) if override.matches(names)), None)

    def __str__(self) -> str:
        return " ".join([self.default, *(f"{override.pattern}={override.rule}" for override in self.overrides)])


EXACT = Rulebook()


def _rule(word: str) -> Rule:
    if word not in RULES:
        raise InputError(f"no rule is called {word!r}; there are {', '.join(RULES)}")
    return cast(Rule, word)
