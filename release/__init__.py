"""What is made of a release: the bill of materials, and the check of the lock file."""
