"""Methods for one seed, and their seeds as one."""
