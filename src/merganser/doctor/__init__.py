"""Look at what runs need, from the model server to the deployments, and say what to mend."""
