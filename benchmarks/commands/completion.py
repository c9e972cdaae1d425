"""What the shell completes. It asks whenever Tab is pressed, so nothing heavy is imported for an answer."""

from collections.abc import Iterable


def complete_recipe(incomplete: str) -> list[str]:
    """The packaged recipes; a file of one's own the shell completes itself."""
    from benchmarks.planning.recipe import list_recipes

    return _beginning_with(incomplete, list_recipes())


def complete_backbone(incomplete: str) -> list[str]:
    """The backbones that are registered here; timm's, and those of plug-ins, take too long to find."""
    from backbones.names import registered_names

    return _beginning_with(incomplete, registered_names())


def complete_data_set(incomplete: str) -> list[str]:
    """What `backbench data check` can check."""
    from tasks.data_sets import DATA_SETS

    return _beginning_with(incomplete, (data_set.name for data_set in DATA_SETS.values()))


def _beginning_with(incomplete: str, names: Iterable[str]) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
