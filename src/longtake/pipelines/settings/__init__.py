"""What a request resolves to: options and the defaults of a model merged into the settings of a run."""
