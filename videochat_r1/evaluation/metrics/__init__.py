"""Numbers of single answers, and tables, means and intervals of many."""
