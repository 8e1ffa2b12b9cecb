## openMosix's tools

mosctl-unknown = nothing is known of it
mosctl-up = up
mosctl-down = down
mosctl-stays = its processes stay
mosctl-moves = its processes may leave
mosctl-blocked = it takes no guests
mosctl-open = it takes guests
mosctl-overheads = moving a process costs { $move } ms, { $memory } MiB of its memory follow in a second, and a forwarded call takes { $call } µs longer than one at home
mosctl-measured = These figures were measured.
mosctl-assumed = These figures are assumed, not measured.

help-mosctl = Ask and steer a node, as openMosix's mosctl does
help-mosctl--verb = What: stay keeps processes from leaving by themselves and block guests from coming, nostay and noblock end that, expel sends the guests home, bring fetches the node's own, setspeed, setyard and setdecay set figures; the others ask
help-mosctl--node = Of which node: its number, name or address; the speed for setspeed; for setyard a speed, a node, this or PIII/1GHz; the interval in seconds for setdecay
help-mosctl--parts = For setdecay: what is kept of a thousand each interval, slowly and fast (normally 975 and 926)
help-mosrun = Run a command where it computes fastest, or where it is told to, as openMosix's mosrun does
help-mosrun--home = Run it here (under the name mosrun also -h)
help-mosrun--on = Run it on this node: a number, name or address (under the name mosrun also -NUMBER)
help-mosrun--jobs = Run it on one of these nodes, any of them, as 1-3,7 (under the name mosrun also -j1-3,7)
help-mosrun--anyway = Run it here if it cannot run there
help-mosrun--lock = It and its descendants stay where they begin
help-mosrun--unlock = They may be moved although their parent is locked
help-mosrun--keep = They may be moved if their parent may (this is what holds anyway)
help-mosrun--job = What it mostly does: cpu for computing, so that its calls do not draw it home, io for reading and writing, so that it is drawn there from the beginning (under the name mosrun also -c, -i)
help-mosrun--decay = How fast what is known of it and its descendants is forgotten (under the name mosrun also -s, -f, -n)
help-mosrun--interval = Of what is known of it a part is forgotten every so many seconds
help-mosrun--kept = So much of it is kept then, of a thousand
help-mosrun--zero = The command's arguments begin at argument 0, which is otherwise its own name
help-mosrun--command = The command and its arguments
help-showmap = Show the nodes and their numbers, as openMosix's showmap does
help-mon = Draw what all nodes do, anew each second, as openMosix's mosmon does
help-mon--show = What: their load, the same on a logarithmic scale, their speed, memory in use as it matters to processes or as Linux has it, or the processor time in use (under the name mosmon also -l, -L, -s, -m, -r, -u)
help-mon--columns = How their numbers stand: beside each other, digits one below the other, without gaps, or as there is room (under the name mosmon also -w, -v, -V, -a)
help-mon--dead = Also the nodes that are not up (under the name mosmon also -d)
help-mon--total = Also how many are up (under the name mosmon also -t)
help-mon--once = Draw it once and end

mon-load = load (1.00: one task for each standard processor)
mon-log-load = load, on a logarithmic scale (1.00: one task for each standard processor)
mon-speed = speed of all processors (10000: one standard processor)
mon-memory = memory in MiB (#: in use, +: to be had)
mon-raw-memory = memory in MiB (#: in use, +: free, as Linux calls it)
mon-use = processor time in use, in percent
mon-foot = h: help   q: end
mon-total = { $nodes } nodes with { $cpus } processors are up
mon-help =
    l, L    load, and on a logarithmic scale
    s       speed of all processors
    m, r    memory as it matters to processes, and as Linux has it
    u       processor time in use
    w       numbers beside each other
    v, V    digits one below the other, and without gaps
    a       as there is room
    d       also the nodes that are not up (x)
    t       how many are up
    ← →     the nodes that do not fit
    Enter   look now
    h       this page, and back
    q       the end
    ?       a node that has told nothing of itself

help-mtop = Show the processes that use the processor and where they compute, as openMosix's mtop does; nothing is known here of what one uses elsewhere
help-mtop--once = Show them once and end
help-omdiscd = Find the other nodes by multicast, without their addresses, and tell this node's daemon
help-omdiscd--interfaces = On which network, up to six; without, that of the default route
help-omdiscd--nodaemon = Stay in the foreground and print what is found
help-omdiscd--multicast_ttl = How many routers an announcement may pass
help-omdiscd--config = The node's configuration
help-setpe = Write, check or compare openMosix's map of a cluster
help-setpe--read = Write the map of the running cluster
help-setpe--check = Only say whether a map can be understood
help-setpe--write = Look for the cluster's nodes where a map says that they are (for root), and say what is otherwise all the same; a machine becomes a node only by a certificate (minka cluster add)
help-setpe--off = Take no part any more: guests go home, own processes come home and stay (under the name setpe also -off)
help-setpe--file = The map, or - (normally the first of /etc/openmosix.map, /etc/mosix.map and /etc/hpc.map)
help-tune = Measure this machine's speed
help-tune--set = Let the node use what was measured

mtop-user = USER
mtop-cpu = CPU %
mtop-foot = q: end
setpe-sound = a map of { $nodes } nodes
omdiscd-heard = { $node } is at { $address }
setpe-other = { $path } is not the map of the running cluster
setpe-unknown = number { $number }, { $address }, is none of its nodes
setpe-missing = number { $number }, { $address }, is not in the map
setpe-other-help = A machine becomes a node with minka cluster add and minka install; numbers are said in [ids] of node.toml.
tune-measured = this machine's speed is { $speed }
tune-set = this machine's speed is { $speed }, and the node uses that now
tune-used = the node uses { $speed }
