"""What `backbench export` says."""

from benchmarks.running.exporting import Exported


def show_export(exported: Exported) -> None:
    """Say what was written, and what whoever takes it over has to know."""
    product = exported.product
    for path in exported.paths:
        print(path)
    numbers = sum(tensor.numel() for tensor in product.tensors.values())
    print(f"{product.kind}: {len(product.tensors)} tensors, {numbers:,} numbers")
    print(f"pixels: {exported.about.normalisation}")
    for remark in product.remarks:
        print(f"note: {remark}")
