"""The search over layouts and engines that `auto` and the alternatives of a plan make."""
