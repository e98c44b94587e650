"""The far side over the File Station API; usable on its own as a client library."""
