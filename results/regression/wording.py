"""How a verdict and a history spell counts and p-values."""


def counted(number: int, what: str) -> str:
    """Such as "1 night" and "2 nights"."""
    return f"{number} {what}{'' if number == 1 else 's'}"


def spell_p(value: float) -> str:
    """A p-value to four digits after the point, or that it is below all that these can say."""
    return f"{value:.4f}" if value >= 0.00005 else "< 0.0001"
