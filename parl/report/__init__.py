"""What a run tells of itself: metrics in files, progress on the screen, pictures."""
