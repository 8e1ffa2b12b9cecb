## Errors: a first line, and help

error-failed = failed to { $operation }
error-because = because: { $reason }
error-connect = no node daemon answers at { $path }
error-connect-help = help: start one with `minka node serve --config FILE`, or name its directory in MINKA_DIR
error-not-permitted = process { $pid } belongs to another user
error-no-process = there is no process { $pid }
error-no-node = there is no node { $node }
error-no-node-help = help: `minka nodes` lists them
error-no-best = no other node can be reached
error-cannot-move = process { $pid } cannot move
error-not-moved = process { $pid } did not move and is on { $node }
error-busy = process { $pid } is being moved already
error-timed-out = process { $pid } has not moved within { $seconds } s
error-too-many-clients = the node daemon has too many clients
error-too-many-processes = the node daemon already takes care of { $limit } processes
error-ending = the node daemon is ending
error-version = the node daemon is of another version than this program

## minka migrate

migrate-done = process { $pid } is on { $node } now; it stood still for { $freeze } ms
migrate-already = process { $pid } is on { $node }

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
    listens at { $listen }
    { $away } of its processes away, { $guests } guests here
nodes-node = NODE
nodes-address = ADDRESS
nodes-reachable = REACHABLE
nodes-guests = OURS THERE
nodes-this = this node
nodes-yes = yes
nodes-no = no

## The command line

heading-usage = Usage:
heading-commands = Commands
heading-arguments = Arguments
heading-options = Options
usage-value = the value "{ $value }" does not suit { $argument }
usage-unknown = there is no argument { $argument }
usage-command = there is no command { $command }
usage-missing = missing: { $argument }
usage-no-command = a command is missing
usage-conflict = { $argument } does not go with the other arguments
usage-other = the command line cannot be understood
usage-more = `minka --help` tells more.
