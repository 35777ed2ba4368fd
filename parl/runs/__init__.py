"""What a run is: its settings, how its objects are built, how it is trained, judged and kept."""
