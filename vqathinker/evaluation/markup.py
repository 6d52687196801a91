"""Tables as Markdown and LaTeX."""

from __future__ import annotations

import math
from collections.abc import Sequence

from vqathinker.metrics import Estimate

LATEX = {"_": r"\_", "%": r"\%", "&": r"\&", "#": r"\#", "$": r"\$", "\\": r"\textbackslash{}"}


def markdown(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a Markdown table; the columns after the first are numbers, to the right.

    >>> print(markdown(["set", "SRCC"], [["a|b", "0.9"]]), end="")
    | set | SRCC |
    |---|---:|
    | a\|b | 0.9 |
    """
    lines = [header, *rows]
    cells = [" | ".join(cell.replace("|", r"\|") for cell in line) for line in lines]
    ruler = "|" + "|".join(["---", *["---:"] * (len(header) - 1)]) + "|"
    first, *others = [f"| {line} |" for line in cells]
    return "\n".join([first, ruler, *others]) + "\n"


def latex(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    r"""Return a LaTeX table in the style of booktabs.

    >>> print(latex(["set", "SRCC"], [["my_set", "0.9"]]), end="")
    \begin{tabular}{lr}
    \toprule
    set & SRCC \\
    \midrule
    my\_set & 0.9 \\
    \bottomrule
    \end{tabular}
    """
    first, *others = [
        " & ".join("".join(LATEX.get(sign, sign) for sign in cell) for cell in line) + r" \\"
        for line in [header, *rows]
    ]
    opening = [rf"\begin{{tabular}}{{l{'r' * (len(header) - 1)}}}", r"\toprule", first, r"\midrule"]
    return "\n".join([*opening, *others, r"\bottomrule", r"\end{tabular}"]) + "\n"


def cell(estimate: Estimate) -> str:
    """Write a metric with its interval.

    >>> cell(Estimate(0.91234, 0.9, 0.92))
    '0.912 [0.900, 0.920]'
    """
    if math.isnan(estimate.low):
        return f"{estimate.value:.3f}"
    return f"{estimate.value:.3f} [{estimate.low:.3f}, {estimate.high:.3f}]"
