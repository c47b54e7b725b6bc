"""A loaded model that answers the questions of samples."""
