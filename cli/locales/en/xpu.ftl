## minka xpu: help

help-xpu = Accelerators of any vendor: show them, watch them, serve what they tell
help-xpu--root = Read the machine recorded in this directory instead of this one
help-xpu--limits = Limits for what the hardware tells none of (default: minka/xpu-limits.toml in ~/.config, for root in /etc)
help-xpu--j = Write JSON, as --json
help-xpu--query_gpu = Fields to print for each device, as `name,temperature.gpu,power.draw`
help-xpu--format = How fields are printed: `csv`, and also `noheader` and `nounits`
help-xpu--list_gpus = List the devices, one a line
help-xpu--repeat = Do it again every so many seconds
help-xpu--loop_ms = Do it again every so many milliseconds
help-xpu--count = Stop after so many times

help-xpu-discovery = Show what devices there are
help-xpu-discovery--device = Only this one: its number, PCI address or UUID
help-xpu-topology = Show where the devices are: their links, and which processors are near
help-xpu-topology--device = Only this one: its number, PCI address or UUID
help-xpu-stats = Show what the devices do: last, least, mean and greatest values
help-xpu-stats--device = Only this one: its number, PCI address or UUID
help-xpu-health = Show whether the devices are well, and by which limits
help-xpu-health--device = Only this one: its number, PCI address or UUID
help-xpu-readings = Show every value that the devices tell, with its source, and why others are missing
help-xpu-readings--device = Only this one: its number, PCI address or UUID
help-xpu-dump = Write chosen columns line by line, as a table for other programs
help-xpu-dump--device = Only these; -1 for all
help-xpu-dump--metrics = The columns, by XPU Manager's numbers from 0 to 36
help-xpu-dump--interval = Seconds between two lines
help-xpu-dump--number = Stop after so many lines of each device
help-xpu-ps = Show which processes use the devices
help-xpu-ps--device = Only this one: its number, PCI address or UUID
help-xpu-serve = Serve what the devices tell over HTTP, until it is ended
help-xpu-serve--listen = Where to listen
help-xpu-serve--interval = Milliseconds between two samples
help-xpu-serve--tokens = The file of tokens (default: minka/xpu-tokens.toml in ~/.config, for root in /etc)
help-xpu-serve--require_token = Let nobody read without a token either
help-xpu-serve--audit = Write down here who changed something and who was refused
help-xpu-serve--python = The Python that is asked for its GPUs
help-xpu-token = Tokens of those who may change something through the service
help-xpu-token-add = Make a token and print it
help-xpu-token-add--name = Whose it is
help-xpu-token-add--role = What it allows: read, operate or admin
help-xpu-token-add--tokens = The file of tokens
help-xpu-token-list = List the tokens
help-xpu-token-list--tokens = The file of tokens
help-xpu-token-remove = Take a token away
help-xpu-token-remove--name = Whose it is
help-xpu-token-remove--tokens = The file of tokens

help-bench-accel = What it costs to watch accelerators and to serve what they tell (about 30 s)

## minka xpu: what is shown

xpu-none = no accelerators were found
xpu-serving = serving at http://{ $address }
xpu-token-once = this is the token; it is not kept and cannot be shown again
xpu-hidden = { $count ->
        [one] one process of another user could not be looked into
       *[other] { $count } processes of other users could not be looked into
    }: that takes CAP_SYS_PTRACE
xpu-device = DEVICE
xpu-name = NAME
xpu-role = ROLE
xpu-busy = BUSY
xpu-memory = MEMORY
xpu-temperature = TEMP
xpu-power = POWER
xpu-clock = CLOCK
xpu-fan = FAN
xpu-health = HEALTH
xpu-course = COURSE
xpu-vendor = VENDOR
xpu-driver = DRIVER
xpu-address = ADDRESS
xpu-firmware = FIRMWARE
xpu-uuid = UUID
xpu-link = LINK
xpu-link-maximum = LINK AT MOST
xpu-processors = PROCESSORS
xpu-metric = METRIC
xpu-place = PART
xpu-value = VALUE
xpu-source = SOURCE OR REASON
xpu-least = LEAST
xpu-mean = MEAN
xpu-greatest = GREATEST
xpu-check = CHECK
xpu-description = DESCRIPTION
xpu-pid = PID
xpu-process = PROCESS
xpu-shared = SHARED
xpu-state-ok = ok
xpu-state-warning = WARNING
xpu-state-critical = CRITICAL
xpu-state-unknown = unknown
xpu-check-core-temperature = core temperature
xpu-check-memory-temperature = memory temperature
xpu-check-power = power
xpu-check-memory = memory
xpu-check-xe-link-port = links between cards
xpu-check-frequency = frequency
