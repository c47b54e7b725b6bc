"""Results for people: pages, pictures, text tables."""
