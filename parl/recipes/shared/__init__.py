"""Settings and networks shared by the recipes of a family of algorithms."""
