//! Waiting: poll, select, epoll, timers, signals, children, sleep.

use crate::descriptors::{own, pipes};
use crate::world::{SIZE, Scene, raw};
use proptest::prelude::*;
use std::os::fd::{AsRawFd, OwnedFd};

fn each(scene: Scene, [one, other]: &[OwnedFd; 2]) -> Scene {
    scene.each(one.as_raw_fd(), other.as_raw_fd())
}

/// `struct pollfd` for each way.
fn polled(scene: Scene, at: usize, [one, other]: &[OwnedFd; 2], events: i16) -> Scene {
    let bytes = |file: &OwnedFd| {
        let mut bytes = file.as_raw_fd().to_le_bytes().to_vec();
        bytes.extend(events.to_le_bytes());
        bytes.extend([0x77; 2]);
        bytes
    };
    // Only the descriptor is blurred, by a scene that differs in nothing else.
    scene.each_bytes(at, &bytes(one), &bytes(other)).blurred(at..at + 4)
}

#[test]
fn poll() {
    let [reading, writing] = pipes();
    let closed = |scene: Scene, at: usize| scene.with(at, &[0xff, 0xff, 0xff, 0x7f, 1, 0, 0, 0]);
    for full in [false, true] {
        if full {
            each(Scene::new(libc::SYS_write), &writing).at(0).value(5).agree();
        }
        for count in [0, 1, 2, 3] {
            let scene = |number| {
                let scene = polled(
                    polled(Scene::new(number), 64, &reading, libc::POLLIN),
                    72,
                    &writing,
                    libc::POLLOUT,
                );
                closed(scene, 80).at(64).value(count)
            };
            scene(libc::SYS_poll).value(0).agree();
            scene(libc::SYS_ppoll).long(8, 0).long(16, 0).at(8).value(0).value(8).agree();
            scene(libc::SYS_ppoll).long(8, 0).long(16, 0).at(8).long(24, 1 << 9).at(24).value(8).agree();
            scene(libc::SYS_ppoll).long(8, 0).long(16, 0).at(8).long(24, 1 << 9).at(24).value(4).agree();
            scene(libc::SYS_ppoll).long(8, 0).long(16, 2_000_000_000).at(8).value(0).value(8).agree();
        }
    }
    for address in [0, 8, 1 << 47] {
        Scene::new(libc::SYS_poll).raw_value(address).value(1).value(0).agree();
        Scene::new(libc::SYS_poll).raw_value(address).value(0).value(0).agree();
    }
    Scene::new(libc::SYS_poll).at(SIZE - 8).value(2).value(0).agree_unless_homeward();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(60))]

    #[test]
    fn select(n in -1..200_i32, sets in prop::array::uniform3(any::<bool>()), sixth in 0..4_usize, edge in any::<bool>()) {
        // Three ends of a pipe that is the same on both ways.
        let pipe = std::io::pipe().unwrap();
        let (reading, writing) = (pipe.0.as_raw_fd(), pipe.1.as_raw_fd());
        let at = if edge { [SIZE - 8, SIZE - 16, SIZE - 24] } else { [1000, 2000, 3000] };
        let mut scene = Scene::new(libc::SYS_select).value(n);
        let mut pselect = Scene::new(libc::SYS_pselect6).value(n);
        for ((offset, given), descriptor) in at.into_iter().zip(sets).zip([reading, writing, reading]) {
            let mut bits = [0; 25 * 8];
            if descriptor < n {
                bits[descriptor as usize / 8] |= 1 << (descriptor % 8);
            }
            let bits = &bits[..25.min((SIZE - offset) / 8) * 8];
            let add = |scene: Scene| if given { scene.input(offset, bits) } else { scene.value(0) };
            (scene, pselect) = (add(scene), add(pselect));
        }
        scene.long(8, 0).long(16, 0).at(8).agree_unless_homeward();
        let pselect = pselect.long(8, 0).long(16, 0).at(8);
        match sixth {
            0 => pselect.value(0),
            1 => pselect.link(32, 64).long(40, 8).long(64, 1 << 9).at(32),
            2 => pselect.link(32, 64).long(40, 7).long(64, 1 << 9).at(32),
            _ => pselect.long(32, 0).long(40, 0).at(32),
        }
        .agree_unless_homeward();
    }
}

#[test]
fn epoll() {
    let epolls = own(Scene::new(libc::SYS_epoll_create1).value(0).agree_on_descriptors());
    let [reading, writing] = pipes();
    let event = |events: u32, data: u64| [&events.to_le_bytes()[..], &data.to_le_bytes()].concat();
    let control = |operation: i32, files: &[OwnedFd; 2]| {
        each(each(Scene::new(libc::SYS_epoll_ctl), &epolls).value(operation), files)
    };
    assert_eq!(control(libc::EPOLL_CTL_ADD, &reading).input(64, &event(1, u64::MAX - 5)).agree(), 0);
    assert_eq!(control(libc::EPOLL_CTL_ADD, &writing).input(64, &event(4, 42)).agree(), 0);
    assert_eq!(
        control(libc::EPOLL_CTL_ADD, &writing).input(64, &event(4, 42)).agree(),
        -i64::from(libc::EEXIST)
    );
    control(libc::EPOLL_CTL_MOD, &writing).at(SIZE - 4).agree();
    for written in [0, 3] {
        each(Scene::new(libc::SYS_write), &writing).at(0).value(written).agree();
        for most in [-1, 0, 1, 2, 1000] {
            let wait = |number| each(Scene::new(number), &epolls).at(64).value(most);
            wait(libc::SYS_epoll_wait).value(0).agree();
            wait(libc::SYS_epoll_pwait).value(0).long(16, 0).at(16).value(8).agree();
            wait(libc::SYS_epoll_pwait).value(0).value(0).value(0).agree();
            wait(libc::SYS_epoll_pwait2).long(16, 0).long(24, 1000).at(16).value(0).value(8).agree();
        }
    }
    control(libc::EPOLL_CTL_DEL, &writing).value(0).agree();
    control(99, &writing).value(0).agree();
}

#[test]
fn timers() {
    let times = |words: [u64; 4]| words.iter().flat_map(|word| word.to_le_bytes()).collect::<Vec<_>>();
    let files =
        own(Scene::new(libc::SYS_timerfd_create).value(1).value(libc::TFD_NONBLOCK).agree_on_descriptors());
    let set = || each(Scene::new(libc::SYS_timerfd_settime), &files);
    assert_eq!(set().value(0).input(64, &times([5, 0, 1000, 0])).value(0).agree(), 0);
    assert_eq!(set().value(0).input(64, &times([0, 0, 0, 0])).at(128).blurred(144..160).agree(), 0);
    set().value(0).input(64, &times([0, 2_000_000_000, 1, 0])).at(128).agree();
    set().value(0).at(SIZE - 20).at(128).agree();
    each(Scene::new(libc::SYS_timerfd_gettime), &files).at(64).blurred(80..96).agree();
    each(Scene::new(libc::SYS_read), &files).at(64).value(8).agree();

    let event = [0_u64; 8].map(u64::to_le_bytes).concat();
    let create = |clock: i32| {
        Scene::new(libc::SYS_timer_create).value(clock).with(64, &event).word(76, 1).at(64).at(256)
    };
    let outcome = create(1).run();
    assert_eq!((outcome.direct, outcome.forwarded), (0, 0));
    assert!(outcome.direct_memory[260..] == outcome.forwarded_memory[260..]);
    let number = |memory: &[u8]| i32::from_le_bytes(memory[256..260].try_into().unwrap());
    let timer =
        |call| Scene::new(call).each(number(&outcome.direct_memory), number(&outcome.forwarded_memory));
    assert_eq!(timer(libc::SYS_timer_settime).value(0).input(64, &times([7, 0, 1000, 0])).at(128).agree(), 0);
    timer(libc::SYS_timer_settime).value(0).input(64, &times([0; 4])).at(128).blurred(144..160).agree();
    timer(libc::SYS_timer_gettime).at(64).blurred(80..96).agree();
    timer(libc::SYS_timer_getoverrun).agree();
    assert_eq!(timer(libc::SYS_timer_delete).agree(), 0);
    Scene::new(libc::SYS_timer_gettime).value(12_345).at(64).agree();

    let interval = |seconds: u64| times([seconds, 0, seconds, 0]);
    assert_eq!(Scene::new(libc::SYS_setitimer).value(0).input(64, &interval(1000)).value(0).agree(), 0);
    Scene::new(libc::SYS_setitimer).value(0).input(64, &interval(2000)).at(128).blurred(144..160).run();
    Scene::new(libc::SYS_getitimer).value(0).at(64).blurred(80..96).agree();
    Scene::new(libc::SYS_setitimer).value(0).input(64, &interval(0)).value(0).agree();
    assert_eq!(Scene::new(libc::SYS_alarm).value(0).agree(), 0);
}

#[test]
fn signals() {
    let user = 1_u64 << (libc::SIGUSR2 - 1);
    let mask = |how: i32, set: u64, size: u64| {
        let scene = Scene::new(libc::SYS_rt_sigprocmask).value(how).long(64, set).at(64).at(128);
        scene.raw_value(size).agree()
    };
    // So that both ways find the same mask.
    let block =
        Scene::new(libc::SYS_rt_sigprocmask).value(libc::SIG_BLOCK).long(64, user).at(64).value(0).value(8);
    assert_eq!(block.direct().0, 0);
    assert_eq!(mask(libc::SIG_BLOCK, user, 8), 0);
    assert_eq!(mask(libc::SIG_BLOCK, user, 16), -i64::from(libc::EINVAL));
    assert_eq!(mask(99, user, 8), -i64::from(libc::EINVAL));
    Scene::new(libc::SYS_rt_sigprocmask).value(0).value(0).at(128).value(8).agree();
    Scene::new(libc::SYS_rt_sigprocmask).value(0).at(SIZE).value(0).value(8).agree();
    let thread = raw(libc::SYS_gettid, [0; 6]);
    let send = || {
        assert_eq!(
            Scene::new(libc::SYS_tgkill)
                .value(std::process::id())
                .value(thread)
                .value(libc::SIGUSR2)
                .direct()
                .0,
            0
        )
    };
    for size in [0, 1, 4, 8, 9] {
        send();
        Scene::new(libc::SYS_rt_sigpending).at(64).value(size).agree();
    }
    for expected in [i64::from(libc::SIGUSR2), -i64::from(libc::EAGAIN)] {
        let wait = Scene::new(libc::SYS_rt_sigtimedwait).long(64, user).at(64).at(256);
        let wait = wait.long(16, 0).long(24, 0).at(16).value(8);
        if expected > 0 {
            send();
            let (_, direct) = wait.direct();
            send();
            let (result, forwarded, _) = wait.forward().unwrap();
            assert_eq!(result, expected);
            assert!(direct == forwarded);
        } else {
            assert_eq!(wait.agree(), expected);
        }
    }
    let files = own(Scene::new(libc::SYS_signalfd4)
        .value(-1)
        .long(8, user)
        .at(8)
        .value(8)
        .value(libc::SFD_NONBLOCK)
        .agree_on_descriptors());
    send();
    let read = Scene::new(libc::SYS_read).value(files[0].as_raw_fd()).at(64).value(200);
    assert_eq!(read.forward().unwrap().0, 128);
    read.agree();
    // Made of words: code SI_QUEUE, our own number, a value.
    let mut info = [0; 128];
    info[0] = libc::SIGUSR2 as u8;
    info[8..12].copy_from_slice(&(-1_i32).to_le_bytes());
    Scene::new(libc::SYS_rt_sigqueueinfo).value(std::process::id()).value(0).input(64, &info).agree();
    let queue =
        Scene::new(libc::SYS_rt_tgsigqueueinfo).value(std::process::id()).value(thread).value(libc::SIGUSR2);
    queue.clone().input(64, &info).agree();
    queue.at(SIZE - 100).agree();
    Scene::new(libc::SYS_kill).value(std::process::id()).value(0).agree();
    Scene::new(libc::SYS_kill).value(std::process::id()).value(1000).agree();

    // The handler's address is only carried, never called here. The default comes back at the end.
    let action = [0x1234_5678_u64, 0x0400_0000, 0x9abc_def0, user].map(u64::to_le_bytes).concat();
    for _ in 0..2 {
        Scene::new(libc::SYS_rt_sigaction).value(libc::SIGURG).input(64, &action).at(128).value(8).run();
    }
    Scene::new(libc::SYS_rt_sigaction).value(libc::SIGURG).input(64, &action).at(128).value(8).agree();
    Scene::new(libc::SYS_rt_sigaction).value(libc::SIGURG).value(0).at(128).value(8).agree();
    Scene::new(libc::SYS_rt_sigaction).value(libc::SIGKILL).input(64, &action).at(128).value(8).agree();
    Scene::new(libc::SYS_rt_sigaction).value(libc::SIGURG).input(64, &[0; 32]).value(0).value(7).agree();
    Scene::new(libc::SYS_rt_sigaction).value(libc::SIGURG).input(64, &[0; 32]).value(0).value(8).agree();
}

#[allow(unsafe_code)]
fn child(status: i32) -> i32 {
    // SAFETY: the child does nothing but end.
    let child = unsafe { libc::fork() };
    if child == 0 {
        // SAFETY: ends the child at once.
        unsafe { libc::_exit(status) };
    }
    child
}

#[test]
fn children() {
    for number in [libc::SYS_wait4, libc::SYS_waitid] {
        let (one, other) = (child(5), child(5));
        let wait = |options: i32| {
            if number == libc::SYS_wait4 {
                Scene::new(number).each(one, other).at(64).value(options).at(512)
            } else {
                Scene::new(number).value(1).each(one, other).at(64).value(options | libc::WEXITED).at(512)
            }
        };
        // Times and numbers differ: what of the usage is written is seen by what is not.
        wait(0).blurred(512..656).blurred(80..84).agree_on_descriptors();
        let gone = wait(0).agree();
        assert_eq!(gone, -i64::from(libc::ECHILD));
        let waiting = Scene::new(libc::SYS_wait4).value(-1).at(64).value(libc::WNOHANG).at(512);
        assert_eq!(waiting.agree(), -i64::from(libc::ECHILD));
    }
    let [reading, writing] = pipes();
    let alive = std::process::Command::new("sleep").arg("5").spawn();
    drop((reading, writing));
    if let Ok(mut alive) = alive {
        let wait = Scene::new(libc::SYS_wait4).value(alive.id()).at(64).value(libc::WNOHANG).at(512);
        assert_eq!(wait.agree(), 0);
        let wait = Scene::new(libc::SYS_waitid).value(1).value(alive.id()).at(64);
        assert_eq!(wait.value(libc::WNOHANG | libc::WEXITED).at(512).agree(), 0);
        alive.kill().unwrap();
        alive.wait().unwrap();
    }
}

#[test]
#[allow(unsafe_code)]
fn sleep_tells_what_remains_when_interrupted() {
    extern "C" fn nothing(_: i32) {}
    // SAFETY: installs a handler that does nothing, without SA_RESTART.
    unsafe {
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = nothing as *const () as usize;
        assert_eq!(libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()), 0);
    }
    let (process, thread) = (u64::from(std::process::id()), raw(libc::SYS_gettid, [0; 6]) as u64);
    for (number, remaining) in
        [(libc::SYS_nanosleep, true), (libc::SYS_clock_nanosleep, true), (libc::SYS_nanosleep, false)]
    {
        let scene = Scene::new(number);
        let scene = if number == libc::SYS_clock_nanosleep { scene.value(1).value(0) } else { scene };
        let scene = scene.long(64, 20).long(72, 0).at(64);
        let scene = if remaining { scene.at(128) } else { scene.value(0) };
        let interrupter = std::thread::spawn(move || {
            std::thread::sleep(std::time::Duration::from_millis(60));
            raw(libc::SYS_tgkill, [process, thread, libc::SIGUSR1 as u64, 0, 0, 0])
        });
        let (result, memory, _) = scene.forward().unwrap();
        assert_eq!(interrupter.join().unwrap(), 0);
        assert_eq!(result, -i64::from(libc::EINTR));
        let seconds = u64::from_le_bytes(memory[128..136].try_into().unwrap());
        assert_eq!(seconds == 19, remaining, "{seconds} s remain");
    }
    let short = Scene::new(libc::SYS_nanosleep).long(64, 0).long(72, 1000).at(64).at(128);
    assert_eq!(short.agree(), 0);
    Scene::new(libc::SYS_nanosleep).long(64, 0).long(72, 2_000_000_000).at(64).at(128).agree();
    Scene::new(libc::SYS_nanosleep).at(SIZE).at(128).agree();
    Scene::new(libc::SYS_clock_nanosleep).value(8).value(9).long(64, 0).long(72, 0).at(64).at(128).agree();
}
