help = Make the Linux machines you already own work as one computer
help-after =
    Exit status: 0 success, 1 failure, 2 wrong usage, 3 not permitted, 4 no such process or node,
    5 refused: the process cannot move; `run`, `lab run` and `lab exec` exit with the status of the
    program they run (128 and the signal's number when a signal ended it).

    Environment: MINKA_DIR directory of the node's control socket (default /run/minka), MINKA_LOG how
    much the daemon logs (error, warn, info, debug, trace), NO_COLOR no colours.
help--json = Write JSON, for other programs to read
help--help = Show this help
help--version = Show the version

help-run = Run a command on another node: it keeps its terminal, directory and environment
help-run--on = Node to run on: a name, or `best` (the default)
help-run--strict = Fail, rather than run it here, when it cannot be placed
help-run--command = The command and its arguments

help-migrate = Move a running process to a node, and back home
help-migrate--pid = The process
help-migrate--to = Where to: a node's name, `home` or `best`

help-ps = List the processes that have moved, guests, and those that ended away
help-ps--all = Also list the processes that never moved, and why they could not

help-trace = Show what a process that is away asks of its home, while it runs
help-trace--pid = The process

help-nodes = List the nodes of the cluster
help-status = Show what this node is and does

help-node = Serve as a node of the cluster
help-node-serve = Run the node daemon until it is ended
help-node-serve--config = The node's configuration, node.toml

help-completions = Print completions for a shell
help-completions--shell = The shell
help-man = Print the manual page
