## Errors: a first line, and help

error-failed = failed to { $operation }
error-because = because: { $reason }
error-connect = no node daemon answers at { $path }
error-connect-help = help: start one with `minka node serve --config FILE`, or name its directory in MINKA_DIR
error-not-permitted = process { $pid } belongs to another user
error-no-process = there is no process { $pid }
error-no-node = there is no node { $node }
error-no-node-help = help: `minka nodes` lists them
error-silent-node = node { $node } does not answer
error-no-best = no other node can be reached
error-cannot-move = process { $pid } cannot move
error-not-moved = process { $pid } did not move and is on { $node }
error-busy = process { $pid } is being moved already
error-timed-out = process { $pid } has not moved within { $seconds } s
error-not-root = only root may steer a node
error-not-steered = the node cannot be steered like that
error-too-many-clients = the node daemon has too many clients
error-too-many-processes = the node daemon already takes care of { $limit } processes
error-no-device = this node has no free device ({ $kind })
error-no-device-help = help: these nodes say that they have one: { $nodes }
error-not-started = no node that has a free device starts the program
not-started-not-offered = it starts no programs for this user of other nodes ([xpu] start in its node.toml)
not-started-no-such-user = it has no user of this name
not-started-root = nothing is started for root
not-started-no-device = its device is no longer free
not-started-full = it has started as many programs as it may
not-started-silent = it does not answer
gpu-elsewhere = started on { $node }, with { $device }
no-device-not-watched = nobody looks after its accelerators
no-device-none = it has none of that kind
no-device-in-use = others use what it has
no-device-drained = a policy keeps work from what it has
no-device-not-known = it is not known whether others use what it has
error-ending = the node daemon is ending
error-version = the node daemon is of another version than this program

## minka migrate

migrate-done = process { $pid } is on { $node } now; it stood still for { $freeze } ms
migrate-already = process { $pid } is on { $node }
migrate-with = with it are those that share its memory: { $with }

## minka run

run-at-home = running at home: { $reason }

## minka ps

ps-pid = PID
ps-command = COMMAND
ps-home = HOME
ps-where = WHERE
ps-moves = MOVES
ps-cantmove = CANTMOVE
ps-moving = moving
ps-guest = guest
ps-ended = ended

## minka install

install-started = this machine is the node { $name } now, and its daemon runs
install-done = this machine is the node { $name } now; nothing has been started
    {"  "}start the daemon: systemctl enable --now minkad, or, as root: minka node serve --config /etc/minka/node.toml

## minka doctor

doctor-good = ok
doctor-poor = poor
doctor-bad = lacking
doctor-processor = an x86-64 processor
doctor-processor-mend = Programs move between x86-64 machines only.
doctor-written-pages = a kernel that tells which memory a program has written
doctor-written-pages-mend = Install Linux 6.1 or newer.
doctor-tracked-writes = a kernel that notes what a program writes without stopping it
doctor-tracked-writes-mend = Install Linux 6.1 or newer, built with CONFIG_USERFAULTFD; before 6.7 who is not root needs CONFIG_MEM_SOFT_DIRTY, too.
doctor-memory-on-demand = memory that follows on demand
doctor-memory-on-demand-mend = Run the daemon as root; until then all memory of a program travels before it goes on.
doctor-forwarding = filters that forward system calls
doctor-forwarding-mend = The kernel must be built with CONFIG_SECCOMP_FILTER.
doctor-tracing = the right to trace programs
doctor-tracing-mend = Run the daemon as root, or set kernel.yama.ptrace_scope = 0 in /etc/sysctl.d.
doctor-namespaces = namespaces for guests
doctor-namespaces-mend = Run the daemon as root, or let users make user namespaces.
doctor-scheduler = a scheduler that lets everybody run who is ready to
doctor-scheduler-mend = This kernel may let a node wait for seconds while programs are busy, and processes may be lost for it: install 6.18.45 or newer,
    or set kernel.sched_autogroup_enabled = 0 in /etc/sysctl.d.
doctor-hpc = the tree /hpc
doctor-hpc-mend = Everything else works without. Run the daemon as root, where there is /dev/fuse (modprobe fuse).
doctor-kernel = the kernel's own code in programs; where nodes show the same, clocks are read away from home as fast as at home
doctor-kernel-mend = The kernel shows none; programs cannot be moved from or to this machine.
doctor-config = the configuration of a node
doctor-config-mend = `minka cluster join` makes one; put it where it is looked for, or name it with --config.
doctor-keys = the keys of the node
doctor-keys-mend = `minka cluster join` or `add` makes them; they belong in the directory that the configuration names, mode 600.
doctor-certificate = the certificate of the node, by the cluster's authority
doctor-certificate-mend = It is too old, or the authority is another one by now: `minka cluster join`, as on a new machine.
doctor-former-certificate = the certificate of the node, by the cluster's authority: another one takes its place
doctor-former-certificate-mend = The new authority gives one out by itself; if it cannot reach this node: minka cluster rotate
doctor-address = the address at which the node listens
doctor-address-mend = It must be one of this machine's own: see `ip address`.
doctor-daemon = the daemon of the node
doctor-daemon-mend = Start it, as root: minka node serve --config /etc/minka/node.toml
doctor-peers = the other nodes
doctor-peers-mend = These do not answer. Are they on, do their daemons run, does a firewall keep the port closed?

## minka token

token-once = this is the token; it is not kept and cannot be shown again
token-name = NAME
token-role = ROLE

## minka cluster

cluster-made = { $directory } is the directory of a new cluster: keep it safe
    {"  "}next: `minka cluster serve`, and `minka cluster token` once for each machine
    {"  "}(or `minka cluster add NAME ADDRESS`, to copy all by hand)
cluster-token = for one machine, within { $minutes } minutes: put it into MINKA_TOKEN there, and `minka cluster join ADDRESS`
cluster-serving = machines may join at { $address }
cluster-joined = this machine is the node { $name } now; all that it needs is in { $directory }
    {"  "}as root: minka install { $directory }
cluster-rotated = { $name } has a new key and a new certificate; its daemon takes them within a few seconds
cluster-renewed = { $nodes }: have certificates by the new authority
cluster-left-behind = { $nodes }: have none, and are refused now; to let one in again: `minka cluster remove NAME`, and
    {"  "}there delete /etc/minka/keys, then `minka cluster join` and `minka install` as on a new machine
cluster-succeeded = the cluster in { $directory } has a new authority; what the former one has signed is refused
    {"  "}whoever asks nodes over HTTPS needs the new ca.pem; keep that directory safe, and destroy copies of the old one
cluster-not-renewed-help = Until they have theirs the former authority is good, too. It goes on by itself while `minka cluster serve` runs,
    or say it again when these nodes are there. On a node that cannot be reached from here: minka cluster rotate.
    If the former key is in wrong hands: minka cluster rotate-authority --refuse-old.
cluster-left = { $name } is of the cluster no more; the others refuse its certificate
    {"  "}stop its daemon: systemctl disable --now minkad
cluster-added = { $name } is a node of the cluster now; all that its machine needs is in { $directory }
    {"  "}copy that directory to the machine, and there, as root: minka install { $name }
cluster-removed = { $name } is off the list in { $directory }; whoever knows the new one refuses its certificate
cluster-told = { $nodes }: know of it
cluster-missed = { $nodes }: not there now; the others will tell

cannot-join-without-token = join without a token: it goes into the variable MINKA_TOKEN, or a file (--token-file)
cannot-find-service = find the service of the cluster's authority: say where it is (--service ADDRESS)
cannot-understand-token = understand the token: it begins with minka1- and is as `minka cluster token` has printed it
cannot-renew-all = renew the certificates of all nodes
cannot-empty = empty this node first: { $away } of its processes are still away, and { $guests } guests still here
cannot-be-two-nodes = install { $path }: another one is there, so this machine is another node already
other-node-help = If it is that one no more (minka cluster leave), delete the directory of its keys and say it again.
cannot-have-name = name a node "{ $name }": the word has a meaning of its own
cannot-make-cluster = make a cluster in { $directory }: there is one already
cannot-find-node = find the node { $name } in { $path }
cannot-reach-authority = reach the service of the cluster's authority at { $address }
cannot-speak-to-authority = speak to the cluster's authority at { $address }
cannot-join = join: the cluster's authority refuses
cannot-leave = leave the cluster: the cluster's authority refuses
cannot-renew = renew the certificate: the cluster's authority refuses

## minka trace

trace-lost = ... { $lines ->
    [one] one line left out
   *[other] { $lines } lines left out
 }
trace-away = === arrived at { $node }, stood still for { $freeze } ms
trace-home = === home again, stood still for { $freeze } ms
trace-home-because = === home again: { $reason }
trace-ended = === ended
trace-ended-because = === ended: { $reason }

## minka status, minka nodes

status = node { $node }, Minka { $release }, daemon { $pid }, up { $minutes } min
    {"  "}listens at { $listen }
    {"  "}{ $away } of its processes away, { $guests } guests here
pool-single = single pool
pool-server = server of a server pool
pool-client = client of a server pool: it takes no guests
pool-adaptive = adaptive pool
pool-open = it takes guests
pool-blocked = it takes no guests, for it was told so
pool-time = it takes no guests at this time
pool-used = it takes no guests, for somebody uses the machine
nodes-node = NODE
nodes-address = ADDRESS
nodes-reachable = REACHABLE
nodes-load = LOAD
nodes-cpus = CPUS
nodes-speed = SPEED
nodes-memory = MEMORY (MiB)
nodes-available = AVAILABLE
nodes-devices = ACCELERATORS FREE
nodes-drained = { $devices } ({ $count } drained)
nodes-guests = OURS THERE
nodes-this = this node
nodes-yes = yes
nodes-no = no

## The command line

heading-usage = Usage:
heading-commands = Commands:
heading-arguments = Arguments:
heading-options = Options:
word-options = {"["}OPTIONS]
word-default = {"["}default:
word-values = {"["}possible values:
word-command = COMMAND
usage-value = the value "{ $value }" does not suit { $argument }
usage-unknown = there is no argument { $argument }
usage-command = there is no command { $command }
usage-missing = missing: { $argument }
usage-no-command = a command is missing
usage-conflict = { $argument } does not go with the other arguments
usage-other = the command line cannot be understood
usage-more = `minka --help` tells more.

## minka lab

lab-up = lab { $name } is up: { $nodes }
lab-up-run = minka lab exec { $option }{ $node } -- COMMAND
lab-up-run-means = run a program on a node
lab-up-ps = minka lab exec { $option }{ $node } -- minka ps
lab-up-ps-means = ask a node where its processes are
lab-up-status = minka lab status
lab-up-status-means = see how the nodes fare
lab-up-down = minka lab down { $option }
lab-up-down-means = end it
lab-down = lab { $name } is down
lab-none = no lab is up: `minka lab up` makes one
lab-not-running = no lab is running in { $directory }
lab-not-running-help = help: `minka lab up` makes one, `minka lab status` lists them
lab-no-node-help = help: `minka lab status` lists them
lab-lab = LAB
lab-node = NODE
lab-address = ADDRESS
lab-network = NETWORK
lab-daemon = DAEMON
lab-connected = connected
lab-cut = cut off
lab-dead = dead
lab-crashed = crashed
lab-daemon-starting = starting
lab-daemon-running = running, PID { $pid }
lab-daemon-ended = ended with { $status }
lab-daemon-killed = killed
shake-moves = { $moves ->
    [one] one move
   *[other] { $moves } moves
 } of { $processes ->
    [one] one process
   *[other] { $processes } processes
 } ({ $arrivals }); stood still { $median } ms in the median, { $max } ms at most
shake-none = nothing moved
shake-refused = refused { $count ->
    [one] once
   *[other] { $count } times
 }: { $reason }

## minka lab demo

demo-alone = Computing the right results first, here and unmoved: { $programs } programs
demo-lab =
    Three nodes are up and know each other ({ $time } ms). The same programs now start on node1, which has half a
    processor for all of them. Nobody moves them: the nodes do. { $late } takes no guests yet.
demo-unlimited = This system does not let processors be limited here: the nodes share two, and believe to have half a one each.
demo-program = PROGRAM
demo-programs = PROGRAMS
demo-computes = COMPUTES
demo-node = NODE
demo-load = LOAD
demo-closed = (takes no guests)
demo-moves = MOVES
demo-freeze = FROZEN (ms)
demo-output = RESULT
demo-primes = the number of primes below { $figure }
demo-gzip = { $figure } lines, compressed
demo-sort = { $figure } lines, sorted
demo-sha256sum = the SHA-256 of { $figure } MiB
demo-running = running
demo-right = right
demo-wrong = WRONG
demo-failed = FAILED with { $status }
demo-moved = { $program }: { $from } → { $to }, stood still for { $freeze } ms
demo-opens = { $node } takes guests now
demo-closes = { $node } is wanted by its owner: guests go home
demo-failed-because = { $program } failed: { $reason }
demo-by-itself = by itself
demo-moves-seen = Moves seen: { $out } from home to a host, { $on } from host to host, { $home } from a host home.
demo-good = All { $programs } programs went where there was room while they ran, and all their results are right.
demo-unmoved = All { $programs } results are right, but not every kind of move was seen.
demo-bad = Not all of the { $programs } programs got it right.

## minka bench

bench-figure = FIGURE
bench-measured = MEASURED
bench-must = PROMISED
bench-aim = AIM
bench-good = kept
bench-bad = MISSED
