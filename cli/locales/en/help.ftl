help = Make the Linux machines you already own work as one computer
help-after =
    Exit status: 0 success, 1 failure, 2 wrong usage, 3 not permitted, 4 no such process or node,
    5 refused: the process cannot move; `run` becomes the program, and `lab run` and `lab exec` exit
    with the status of the one they run (128 and the signal's number when a signal ended it).

    Environment: MINKA_DIR directory of the node's control socket (default /run/minka), MINKA_LOG how
    much the daemon logs (error, warn, info, debug, trace), NO_COLOR no colours.
help--json = Write JSON, for other programs to read
help--help = Show this help
help--version = Show the version

help-run = Run a command on another node: it keeps its terminal, directory and environment
help-run--on = Node to run on: a name, or `best` (the default)
help-run--cpus_like = Have it use no more than the processors of these nodes have too, so that it may go there; it begins here unless --on says where. The GNU C library, OpenSSL, OpenBLAS and MKL heed it. What asks the processor itself (Java, Go …) is not told: at an instruction that is unknown there it comes home, and stays away from such nodes. Nobody notices lzcnt and tzcnt, which old processors take for other instructions
help-run--gpu = Run it with an accelerator that nobody uses: on this node, or on another one that starts programs for you
help-run--strict = Fail, rather than run it here, when it cannot be placed
help-run--command = The command and its arguments

help-migrate = Move a running process to a node, and back home
help-migrate--pid = The process
help-migrate--to = Where to: a node's name, number or address, `home` or `best`

help-ps = List the processes that have moved, guests, and those that ended away
help-ps--all = Also list the processes that never moved, and why they could not

help-trace = Show what a process that is away asks of its home, while it runs
help-trace--pid = The process

help-nodes = List the nodes of the cluster
help-status = Show what this node is and does

help-install = Make this machine a node: puts the program, the node's directory and a systemd service in their places
help-install--directory = The node's directory, as `minka cluster join` or `minka cluster add` has made it
help-install--root = Install below this directory, as for an image, and start nothing

help-token = Tokens of those who may ask this node from other machines, see [api] of node.toml
help-token-add = Make a token and print it
help-token-add--name = Whose it is
help-token-add--role = What it allows: read (see everything), operate (move and follow processes, too) or admin
help-token-add--tokens = The file of tokens (normally /etc/minka/tokens.toml)
help-token-list = List the tokens
help-token-list--tokens = The file of tokens (normally /etc/minka/tokens.toml)
help-token-remove = Take a token away
help-token-remove--name = Whose it is
help-token-remove--tokens = The file of tokens (normally /etc/minka/tokens.toml)

help-doctor = Look what this machine lacks to be a node, and say how to mend it
help-doctor--config = The node's configuration (normally /etc/minka/node.toml, where there is one)

help-cluster = Say who belongs to a cluster of real machines
help-cluster--dir = The cluster's directory, to be kept safe: whoever has it decides who belongs to the cluster
help-cluster-init = Begin a cluster, which has no nodes yet
help-cluster-add = Add a machine: makes the directory that it needs, with its keys
help-cluster-add--name = What the node is called: lower-case letters, digits, hyphens
help-cluster-add--address = The machine's address as the others reach it, with a port if it is not to be 4660
help-cluster-add--others = Its addresses in other networks, if it is in several
help-cluster-remove = Take a node off the list of nodes: the others refuse its certificate
help-cluster-remove--name = The node
help-cluster-token = Make a token with which one machine may join, once and for a while, and print it
help-cluster-token--ttl = How long it is good: 90s, 15m, 12h, 2d
help-cluster-serve = Take machines in that show a token, renew certificates and let nodes go, until it is ended
help-cluster-serve--listen = Where to listen
help-cluster-join = Make this machine a node: makes its key here, and gets a certificate and the list of nodes for a token
help-cluster-join--address = Where `minka cluster serve` runs: an address or a name, with a port if it is not 4662
help-cluster-join--token = The token; others can read it here, so better in the variable MINKA_TOKEN or in a file
help-cluster-join--token_file = The file of the token, or - for standard input
help-cluster-join--name = What the node is called (normally as the machine)
help-cluster-join--reached_at = Where the others reach this machine (normally where it asks from); once for each network that it is in, the best first
help-cluster-join--port = The port of the node
help-cluster-join--into = The directory to make for the node (normally its name)
help-cluster-rotate = Make a new key for this node and get a certificate for it, without stopping anything
help-cluster-rotate--config = The node's configuration
help-cluster-rotate--service = Where `minka cluster serve` runs (normally where the node has joined)
help-cluster-rotate--refuse_old = Have the old certificate refused by all nodes from now on
help-cluster-rotate-authority = Have a new authority take the place of the cluster's: all nodes get certificates by it, and then the old one is refused
help-cluster-rotate-authority--refuse_old = Do not wait for nodes that are not there: they have to join anew
help-cluster-leave = Send everybody home, and have this node taken off the list of nodes
help-cluster-leave--config = The node's configuration
help-cluster-leave--service = Where `minka cluster serve` runs (normally where the node has joined)
help-cluster-list = List the nodes

help-node = Serve as a node of the cluster
help-node-serve = Run the node daemon until it is ended
help-node-serve--config = The node's configuration, node.toml

help-completions = Print completions for a shell
help-completions--shell = The shell
help-man = Print the manual page
help-man--dir = Write the pages of all commands into this directory instead

help-lab = A whole cluster on this machine, to try, to teach and to test with
help-lab-demo = See work spread over three nodes by itself while it runs, and still be right (about a minute)
help-lab-up = Bring up a lab that stays until it is taken down
help-lab-up--nodes = How many nodes it has
help-lab-up--name = Its name
help-lab-up--cpus = How many processors each node has, as 0.4, or 0.1,0.2,0.4 for three nodes
help-lab-up--memory = How much memory the programs of each node have, in MiB, as 256, or one for each node
help-lab-up--balance = Which processes the nodes move by themselves: all, those that mosrun started, or none
help-lab-down = End a lab
help-lab-down--name = Its name
help-lab-status = Show how the nodes of the labs fare
help-lab-status--name = Only of this lab
help-lab-exec = Run a program in a node of a lab
help-lab-exec--name = The lab's name
help-lab-exec--node = The node: its name or number
help-lab-exec--command = The program and its arguments
help-lab-run = Run a program on the first node of a lab, moving it about while it runs
help-lab-run--nodes = How many nodes the lab for this run has
help-lab-run--lab = Use this lab, which is up, instead of one for this run
help-lab-run--shake = Move it and its children to the next node, and home in turn, every TIME, as 200ms
help-lab-run--report = Write what came of the moves to this file, as JSON
help-lab-run--command = The program and its arguments

help-bench = Measure the figures that Minka promises, on this machine
help-bench--quick = Measure less: enough to see that it works, too little to rely on
help-bench-freeze = How long a program stands still when it is moved
help-bench-pages = How fast its memory follows, against plain TCP
help-bench-touch = How little it notices that its memory is still on the way
help-bench-syscall = What a forwarded system call costs, against a TCP round trip
help-bench-compute = What computing costs away from home
help-bench-read = How fast a program away from home reads a file there, against plain TCP
help-bench-write = How fast a program away from home writes a file there, against plain TCP
help-bench-exec = What it costs to start a program on another node
help-bench-home = What is left of a move once a program is home again
help-bench-balance = How soon and how well work that is started on one node spreads by itself
help-bench-usher = What becomes of processes that together want more memory than their node has
help-bench-idle = What the daemons of nodes cost on which nothing happens (about 40 s)
help-bench-many = How soon 24 nodes on this machine are up, know each other and have spread what is started on one (about 1 min)
help-bench-farm = How much sooner a source package is compiled when other nodes help, without being told, against one node and distcc (about 4 min)
help-bench-farm--source = A directory with a package in C whose Makefile uses $(CC); cargo xtask farm makes one
help-bench-all = All of these (about 9 min)
