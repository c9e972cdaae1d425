"""`python -m benchmarks` is `backbench`, for launchers such as torchrun that start a module."""

from benchmarks.commands.cli import main

if __name__ == "__main__":
    main()
