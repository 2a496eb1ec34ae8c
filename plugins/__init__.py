"""First-party methods, a folder for each family, rewards and judges. They register as a third party's plugins do."""
