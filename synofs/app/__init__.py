"""The edge: settings in, a running mount out."""
