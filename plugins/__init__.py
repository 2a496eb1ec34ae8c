"""First-party methods and rewards, one short file each. They register as a third party's plugins do."""
