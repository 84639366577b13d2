"""Numbers and names as people read them, and as strict JSON takes them. Pure; needs the standard library only."""

from __future__ import annotations

import math
import unicodedata
from typing import TYPE_CHECKING

from tracer.errors import InputError

if TYPE_CHECKING:  # the command line shows its help without numpy
    from tracer.records import Floats

_UNSAFE = {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"}
_LONGEST = 1_000


def clean(text: str, limit: int = _LONGEST) -> str:
    """`text` in one line of at most `limit` characters, without control characters that a terminal would act on.

    Names and tokens come from files: control, direction and private characters become pictures or "�".
    """
    if len(text) > limit:
        text = text[: limit - 1] + "…"
    if text.isascii() and text.isprintable():
        return text
    return "".join(map(_safe, text))


def shorten(text: str, width: int) -> str:
    """`text` in at most `width` characters, its middle left out."""
    if len(text) <= width:
        return text
    tail = max((width - 1) * 2 // 3, 1)
    return text[: max(width - 1 - tail, 0)] + "…" + text[-tail:]


def ending(text: str, width: int) -> str:
    """The last `width` characters of `text`: of a path, the end tells where in the model it is."""
    return text if len(text) <= width else "…" + text[-max(width - 1, 1) :]


def figure(value: float, signed: bool = False) -> str:
    """`value` with four significant digits; thousands are set apart by spaces: "-770.1", "5 040 900", "2.4e-07"."""
    if math.isnan(value):
        return "nan"
    sign = "+" if signed else "-"
    if 1e3 <= abs(value) < 1e12:
        return f"{value:{sign},.0f}".replace(",", " ")
    return f"{value:{sign}.4g}" if value else "0"


def percentage(value: float) -> str:
    """A share as a percentage: "0.04 %", "51 %", "100 %"."""
    hundredths = value * 100
    if not math.isfinite(hundredths):
        return figure(hundredths)
    return f"{hundredths:.0f} %" if abs(hundredths) >= 9.5 else f"{hundredths:.2g} %"


def multiple(value: float) -> str:
    """A share as a percentage, past 1 000 % as a multiple: "51 %", "43 000 times"."""
    return f"{figure(float(f'{value:.2g}'))} times" if 10 <= value < math.inf else percentage(value)


def times(value: float) -> str:
    """`multiple` with "of" where it needs one: "51 % of", "43 000 times"."""
    text = multiple(value)
    return text if text.endswith("times") else f"{text} of"


def total(values: Floats) -> float:
    """The sum; without the warnings that numpy gives where it overflows, or where ∞ meets −∞ and it is NaN."""
    return float(sum(values.tolist()))


def dtype_name(dtype: object) -> str:
    """torch's name of a dtype without "torch.": "float32", "bfloat16"."""
    return str(dtype).removeprefix("torch.")


def of_example(values: Floats, example: int | None) -> float:
    """The sum over the examples (E,), or the figure of one; InputError where there is no such example."""
    if example is None:
        return total(values)
    require_example(example, len(values))
    return float(values[example])


def require_example(example: int, count: int) -> None:
    """Raise InputError where a trace of `count` examples has no such one."""
    if not 0 <= example < count:
        held = f"the trace holds {count}, 0 to {count - 1}" if count else "the trace holds none"
        raise InputError(f"there is no example {example}: {held}")


def relative(delta: float, change: float) -> float:
    """|delta| / |change|; infinite where the output does not change but the delta is not 0."""
    return abs(delta) / abs(change) if change else (0.0 if delta == 0 else math.inf)


def json_figure(value: float | None) -> float | str | None:
    """`value` as strict JSON takes it: NaN is None, infinities are "inf" and "-inf"."""
    if value is None or math.isnan(value):
        return None
    return value if math.isfinite(value) else str(value)


def _safe(character: str) -> str:
    code = ord(character)
    if code < 0x20:
        return chr(0x2400 + code)
    if code == 0x7F:
        return "␡"
    if unicodedata.category(character) in _UNSAFE:
        return "�"
    return " " if character.isspace() else character
