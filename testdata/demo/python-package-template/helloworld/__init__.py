"""A package to be installed by the demonstration."""
