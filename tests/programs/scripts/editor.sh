#!/bin/sh
# An editor in tmux: text is typed, cut and pasted, saved, and shown as the screen has it.
set -eu
talk() { tmux -L survey -f /dev/null "$@"; }
shows() { # shows TEXT: waits until it is on the screen
    for _ in $(seq 300); do
        talk capture-pane -p | grep -qF "$1" && return
        sleep 0.1
    done
    echo "the screen never shows $1"
    talk capture-pane -p
    exit 1
}
export EDITOR=nano TMUX_TMPDIR="$PWD" TERM=screen
# Not as a daemon: it is to be found among the descendants.
talk -D &
for _ in $(seq 100); do talk list-sessions >/dev/null 2>&1 && break; [ -S tmux-0/survey ] && break; sleep 0.1; done
talk new-session -d -x 80 -y 24 "nano --ignorercfiles -R text"
shows 'GNU nano'
for line in $(seq 40); do
    talk send-keys "line $line of the text" Enter
    sleep 0.1
done
shows 'line 40 of'
talk send-keys C-k C-u C-u "The end" C-o
shows 'Write'
talk send-keys Enter
shows 'Wrote'
talk capture-pane -p
talk send-keys C-x
for _ in $(seq 100); do talk has-session 2>/dev/null || break; sleep 0.1; done
talk kill-server
wait
cat text
