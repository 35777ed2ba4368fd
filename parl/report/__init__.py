"""Reports of a run: metrics files, progress display and plots."""
