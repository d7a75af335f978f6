"""memspec.networks: a controller around any Functional memory, the common ground on which memories are trained."""
