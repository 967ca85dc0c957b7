"""The families of methods, and the mark of each, as in the figures."""

from __future__ import annotations

from petlbench import spec, zoo
from petlbench.errors import InputError
from petlbench.figures.paper import STYLES
from petlbench.published import Rows

MARKS = {
    "s": "M-5-5H5V5H-5Z",
    "v": "M-6-5H6L0 6Z",
    "o": "M-5.5 0a5.5 5.5 0 1 0 11 0a5.5 5.5 0 1 0-11 0Z",
    "^": "M-6 5H6L0-6Z",
    "D": "M0-7L7 0L0 7L-7 0Z",
    "P": "M-2-6H2V-2H6V2H2V6H-2V2H-6V-2H-2Z",
    "X": "M-6-3.5L-3.5-6L0-2.5L3.5-6L6-3.5L2.5 0L6 3.5L3.5 6L0 2.5L-3.5 6L-6 3.5L-2.5 0Z",
}
"""The shapes of `petlbench.figures`, about 12 pixels wide around the origin."""


def family(name: str) -> str:
    """The family of a method; empty if the zoo does not know it. A path in a record is never imported."""
    try:
        return zoo.method(name).family if not zoo.is_path(name) and zoo.is_known(zoo.METHODS, name) else ""
    except InputError:  # a variant whose library is not here
        return ""


def families(rows: Rows) -> list[str]:
    """Those of published rows."""
    return [family(spec.parse(method)[0].name) for method in rows.axes["method"]]


def definitions() -> str:
    """The marks, once for the whole page."""
    return "".join(
        f'<symbol id="mark-{name}" overflow="visible"><path d="{MARKS[STYLES[name][1]]}"/></symbol>' for name in STYLES
    )


def symbol(family: str) -> str:
    """The mark of a family, or a gap of its size."""
    use = f'<use href="#mark-{family}"/>' if family else ""
    return f'<svg class="mark {family}" viewBox="-8 -8 16 16" aria-hidden="true">{use}</svg>'
