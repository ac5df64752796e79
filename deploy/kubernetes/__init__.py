"""The platform on a cluster as a Kustomize tree, made from the settings: see docs/kubernetes.md."""
