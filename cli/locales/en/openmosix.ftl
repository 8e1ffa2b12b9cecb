## openMosix's tools

mosctl-unknown = nothing is known of it
mosctl-up = up
mosctl-down = down
mosctl-stays = its processes stay
mosctl-moves = its processes may leave
mosctl-blocked = it takes no guests
mosctl-open = it takes guests

help-mosctl = Ask and steer a node, as openMosix's mosctl does
help-mosctl--verb = What: stay keeps processes from leaving by themselves and block guests from coming, nostay and noblock end that, expel sends the guests home, bring fetches the node's own; the others ask
help-mosctl--node = Of which node: its number, name or address; the number for setspeed
help-mosrun = Run a command where it computes fastest, or where it is told to, as openMosix's mosrun does
help-mosrun--home = Run it here (under the name mosrun also -h)
help-mosrun--on = Run it on this node: a number, name or address (under the name mosrun also -NUMBER)
help-mosrun--jobs = Run it on one of these nodes, any of them, as 1-3,7 (under the name mosrun also -j1-3,7)
help-mosrun--anyway = Run it here if it cannot run there
help-mosrun--lock = It and its descendants stay where they begin
help-mosrun--unlock = They may be moved although their parent is locked
help-mosrun--command = The command and its arguments
help-showmap = Show the nodes and their numbers, as openMosix's showmap does
