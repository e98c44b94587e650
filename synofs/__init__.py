"""synofs: a Synology NAS as a local folder, through its File Station HTTPS API."""

__version__ = "0.1.0"
