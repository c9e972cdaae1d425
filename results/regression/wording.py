"""How a verdict and a history spell counts, amounts and p-values."""

import math


def counted(number: int, what: str) -> str:
    """Such as "1 night" and "2 nights"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def spell_p(value: float) -> str:
    """A p-value to four digits after the point, or that it is below all that these can say."""
    return f"{value:.4f}" if value >= 0.00005 else "< 0.0001"


def spell_amount(value: float) -> str:
    """A positive amount to three significant digits, and to ones: "2.37", "1,005"."""
    return f"{value:,.{max(2 - math.floor(math.log10(value)), 0)}f}"
