//! Interactive programs on a terminal, with Ctrl-C and Ctrl-Z, and a client that keeps its connection.
//!
//! The same conversation is held natively and shaken: what one waits for is the comparison.

use std::process::Command;
use std::time::Duration;

use minka_programs_tests::program::Program;
use minka_programs_tests::shaken::{Talk, TestLab};
use minka_programs_tests::sized;
use minka_programs_tests::terminal::{CTRL_C, CTRL_D, CTRL_Z, Terminal};

const BASH: [&str; 4] = ["bash", "--norc", "--noprofile", "-i"];
const PYTHON: [&str; 5] = ["/usr/bin/python3", "-q", "-I", "-i", "-u"];

/// Holds a conversation natively, and with a program that is moved about; in both it ends with this status.
fn both(words: &[&str], status: i32, talk: fn(&mut Terminal)) {
    let mut command = Command::new(words[0]);
    command.args(&words[1..]);
    let mut terminal = Terminal::start(&command);
    talk(&mut terminal);
    assert_eq!(terminal.end(), status, "natively");
    let lab = TestLab::up();
    let program = Program::new(words).every(Duration::from_millis(100));
    let Talk { status: shaken, tally } = lab.talk(&program, talk);
    assert_eq!(shaken, status, "shaken\n{}", lab.logs());
    assert!(tally.moves > 0, "{tally:?}\n{}", lab.logs());
}

fn begin_bash(terminal: &mut Terminal) {
    // What is typed is shown as well; the answers are not what was typed.
    terminal.ask("PS1=read''y; echo begin''s", "begins");
    terminal.expect("ready");
}

#[test]
fn bash_answers() {
    both(&BASH, 3, |terminal| {
        begin_bash(terminal);
        for number in 1..=sized(10, 100) {
            terminal.ask(&format!("echo $(({number} * 1001))",), &format!("{}", number * 1001));
            terminal.expect("ready");
        }
        terminal.ask("for i in 1 2 3; do sleep 0.2; echo turn-$i; done", "turn-1");
        terminal.expect("turn-3");
        terminal.ask("echo $(seq 5 | tr '\\n' +)0 | bc", "15");
        terminal.ask("echo catch''es; cat | tr a-z A-Z", "catches");
        terminal.say(&format!("shout\n{CTRL_D}"));
        terminal.expect("SHOUT");
        terminal.expect("ready");
        terminal.say("exit 3\n");
    });
}

#[test]
fn bash_takes_ctrl_c() {
    both(&BASH, 0, |terminal| {
        begin_bash(terminal);
        terminal.ask("echo slee''ps; sleep 100", "sleeps");
        std::thread::sleep(Duration::from_millis(700));
        terminal.say(CTRL_C);
        terminal.expect("ready");
        terminal.ask("echo =$?=", "=130=");
        terminal.expect("ready");
        terminal.ask("echo comput''es; while :; do :; done", "computes");
        std::thread::sleep(Duration::from_millis(700));
        terminal.say(CTRL_C);
        terminal.expect("ready");
        terminal.ask("echo =$?=", "=130=");
        terminal
            .ask("trap 'echo cau''ght; caught=1' INT; echo wai''ts; until [ $caught ]; do :; done", "waits");
        std::thread::sleep(Duration::from_millis(400));
        terminal.say(CTRL_C);
        terminal.expect("caught");
        terminal.expect("ready");
        terminal.say("exit 0\n");
    });
}

#[test]
fn bash_takes_ctrl_z() {
    both(&BASH, 0, |terminal| {
        begin_bash(terminal);
        terminal.ask("echo slee''ps; sleep 2; echo sle''pt", "sleeps");
        std::thread::sleep(Duration::from_millis(500));
        terminal.say(CTRL_Z);
        terminal.expect("Stopped");
        terminal.expect("ready");
        terminal.ask("jobs", "Stopped");
        terminal.ask("fg && echo ba''ck", "back");
        terminal.expect("ready");
        terminal.ask("(i=0; while :; do i=$((i+1)); [ $((i % 20000)) = 0 ] && echo tur''n; done)", "turn");
        terminal.expect("turn");
        terminal.say(CTRL_Z);
        terminal.expect("Stopped");
        terminal.expect("ready");
        // Which of the two says something first is nobody's business.
        terminal.ask("bg; sleep 0.3; echo behin''d", "behind");
        terminal.expect("turn");
        terminal.ask("kill %+; wait; echo gon''e", "gone");
        terminal.expect("ready");
        terminal.say("exit 0\n");
    });
}

#[test]
fn python_answers_and_takes_ctrl_c() {
    both(&PYTHON, 4, |terminal| {
        terminal.ask("import sys, time; sys.ps1 = 'rea' + 'dy'", "ready");
        terminal.ask("sum(n * n for n in range(300000))", "8999955000050000");
        terminal.expect("ready");
        terminal.ask("print('loo' + 'ps', flush=True)\nwhile True: pass\n", "loops");
        std::thread::sleep(Duration::from_millis(700));
        terminal.say(CTRL_C);
        terminal.expect("KeyboardInterrupt");
        terminal.expect("ready");
        terminal.ask("print('slee' + 'ps', flush=True); time.sleep(100)", "sleeps");
        std::thread::sleep(Duration::from_millis(700));
        terminal.say(CTRL_C);
        terminal.expect("KeyboardInterrupt");
        terminal.expect("ready");
        terminal.ask("import subprocess; subprocess.run(['sh', '-c', 'exit 6']).returncode", "6");
        terminal.expect("ready");
        terminal.ask("input('na' + 'me? ')[::-1]", "name? ");
        terminal.ask("drowssap", "password");
        terminal.expect("ready");
        terminal.say("sys.exit(4)\n");
    });
}

#[test]
fn python_takes_ctrl_z() {
    both(&BASH, 0, |terminal| {
        begin_bash(terminal);
        terminal.ask(&PYTHON.join(" "), ">>> ");
        terminal.ask(
            "x = 21; import time; print('slee' + 'ps', flush=True); time.sleep(1.5); print('sle' + 'pt')",
            "sleeps",
        );
        std::thread::sleep(Duration::from_millis(400));
        terminal.say(CTRL_Z);
        terminal.expect("Stopped");
        terminal.expect("ready");
        std::thread::sleep(Duration::from_millis(300));
        terminal.ask("fg", "slept");
        terminal.expect(">>> ");
        terminal.ask("x * 2", "42");
        terminal.expect(">>> ");
        terminal.say(CTRL_D);
        terminal.expect("ready");
        terminal.say("exit 0\n");
    });
}

/// A download over the loopback interface is a matter of less than a second.
const OFTEN: Duration = Duration::from_millis(30);

/// A client keeps one connection while it is moved about, and gets every byte.
#[test]
fn download() {
    let bytes = sized("100000000", "400000000");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join("download.py");
    let words = [PYTHON[0].as_ref(), script.as_os_str(), bytes.as_ref()];
    Program::new(words).called("download").every(OFTEN).moves().holds();
}

/// The same with a client that knows nothing of this.
#[test]
fn curl() {
    let bytes = sized("100000000", "400000000");
    let script = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("scripts").join("download.py");
    let line = format!("{} {} {bytes} curl", PYTHON[0], script.display());
    Program::shell(&line).called("curl").every(OFTEN).moves().holds();
}
