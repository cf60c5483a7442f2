"""Studies of pruned networks, each one command that can be interrupted and resumed."""
