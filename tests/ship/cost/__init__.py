"""The cost model, held against what trials really do."""
