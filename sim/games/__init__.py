"""Sample games that use only the public plug-in calls."""
