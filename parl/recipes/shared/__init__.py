"""What several recipes share: settings and networks of a family of algorithms."""
