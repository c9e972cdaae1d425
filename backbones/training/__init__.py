"""How anything here is trained, shared by pre-training and the tasks: recipes, Runner, schedule, exact resume."""
