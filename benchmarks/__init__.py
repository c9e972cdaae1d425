"""What is run: the command line, the recipes, the generated data and the demo."""
