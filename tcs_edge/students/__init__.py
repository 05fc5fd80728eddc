"""Students: choice, expected accuracy, Pareto front, network."""
