"""Training runs, one module per model; each resumes from its checkpoint."""
