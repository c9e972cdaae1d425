"""What is run: the command line, the recipes and suites, the generated data."""
