"""The kernel border: the only package that imports pyfuse3."""
