//! From Kubernetes' objects to the model.
