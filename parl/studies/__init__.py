"""What is done with finished runs: found, grouped, compared, drawn."""
