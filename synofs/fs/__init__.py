"""The filesystem: inodes, caches and verbs. Knows nothing of kernels or HTTP."""
