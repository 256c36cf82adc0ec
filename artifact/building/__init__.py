"""From a checkout to an artifact: requirements, environment, source, assets, pipeline."""
