"""One run as a job for somebody else's scheduler: Kubernetes (Kubeflow Trainer) and SkyPilot."""
