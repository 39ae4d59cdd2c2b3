"""The parallel arithmetic of the native engine: mesh, stage split, weights, tensor plan, schedule, loss, gradients."""
