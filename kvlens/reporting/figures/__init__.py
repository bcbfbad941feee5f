"""The paper's figures, of any run's results: recipes, their layouts, and what draws them."""
