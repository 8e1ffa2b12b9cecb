help-sim = Simulate whole clusters under a seed, with the very code that real nodes run
help-sim-balance = Compare how much longer jobs take under Minka, MOSIX and PVM
help-sim-balance--scenarios = How many scenarios
help-sim-balance--seed = What chance begins with: the same seed gives the same figures
help-sim-balance--memory = The most memory that a job has, in percent of the largest machine's
help-sim-balance--duration = For how long jobs arrive in each scenario

sim-balance = { $scenarios } scenarios, { $jobs } jobs under each policy
sim-policy = POLICY
sim-slowdown = MEAN SLOWDOWN
sim-against-mosix = AGAINST MOSIX
sim-pvm = PVM, one machine after the other
sim-e-pvm = opportunity cost, knowing everything, no moves
sim-mosix = MOSIX
sim-e-mosix = opportunity cost, knowing everything, with moves
sim-unplaced = Minka, without placing programs when they start
sim-ours = Minka

help-sim-gossip = Show how old what nodes know of each other is, against the formulas, for 32 to 10,000 nodes
help-sim-gossip--nodes = Only one cluster, of so many nodes
help-sim-gossip--window = How many entries a datagram has (normally 32, and no more than a quarter of the cluster, for which the formulas hold)
help-sim-gossip--seed = What chance begins with: the same seed gives the same figures
help-sim-gossip--loss = How many of the datagrams are lost
help-sim-gossip--dead = How many of the nodes die
help-sim-gossip--slow = How many of the nodes take four times as long for everything
help-sim-gossip--partition = For how long the network is in two halves at the beginning

sim-nodes = NODES
sim-window = WINDOW
sim-mean-age = MEAN AGE (s)
sim-max-age = OLDEST (s)
sim-expected = EXPECTED
sim-bytes = BYTES/S

help-sim-cluster = Let whole nodes find each other, spread work and go through faults
help-sim-cluster--nodes = How many nodes
help-sim-cluster--seed = What chance begins with: the same seed gives the same figures
help-sim-cluster--loss = How many of the datagrams are lost
help-sim-cluster--dead = How many of the nodes die
help-sim-cluster--slow = How many of the nodes react a third of a second late
help-sim-cluster--partition = For how long the network is in two halves

sim-what = WHAT
sim-figure = FIGURE
sim-never = not in 5 min
sim-join = until everybody knows everybody
sim-rest = what a node sends, bytes a second
sim-spread = until all work is spread evenly
sim-moves = moves of each process until then
sim-restless = moves of each process in the half minute after that
sim-wrong-downs = nodes said to be down that were not
sim-death = until everybody knows who died
sim-on-dead = processes that computed on nodes that died
sim-lost = processes lost in all
sim-heal = until everybody knows everybody after the partition
