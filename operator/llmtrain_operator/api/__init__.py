"""The resource kinds that users write, as types: fields, defaults, and the texts of the CRD and of `explain`."""
