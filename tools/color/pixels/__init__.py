"""Which pixels of a crop are the object, and what colors they have."""
