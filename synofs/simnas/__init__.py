"""A simulated Synology NAS, a process of its own. Imports nothing else of synofs."""
