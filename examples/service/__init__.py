"""A plain long-running program that embeds a component system; see README.md beside this."""
