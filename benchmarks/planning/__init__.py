"""What is going to be run: recipes and planned cells."""
