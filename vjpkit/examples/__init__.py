"""Programs and data that come with vjpkit; their lines count as the user's."""
