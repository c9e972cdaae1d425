"""What the sections of a recipe are made of."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field, model_validator

PositiveInt = Annotated[int, Field(gt=0)]
NonNegative = Annotated[float, Field(ge=0)]


def _unsigned(value: Any) -> Any:
    """-0.0 as 0.0, also in a list: equal numbers make equal keys."""
    if isinstance(value, list | tuple):
        return type(value)(map(_unsigned, value))
    return 0.0 if isinstance(value, float) and value == 0 else value


class Settings(BaseModel):
    """A section of a recipe: unknown keys and wrong types are refused, values do not change afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _zero_has_no_sign(cls, given: Any) -> Any:
        return {key: _unsigned(value) for key, value in given.items()} if isinstance(given, dict) else given
