"""The kinds of resource that users write, as types: fields, defaults, and the texts of CRD and `explain`."""
