//! What a process asks about itself and its machine, and what it sets: identity, limits, scheduling, System V IPC,
//! message queues, keys.

use crate::world::{SIZE, Scene};

#[test]
fn identity() {
    let plain = [
        libc::SYS_getppid,
        libc::SYS_getpgrp,
        libc::SYS_getuid,
        libc::SYS_getgid,
        libc::SYS_geteuid,
        libc::SYS_getegid,
    ];
    for number in plain {
        Scene::new(number).agree();
    }
    for number in [libc::SYS_getpgid, libc::SYS_getsid] {
        for pid in [0, 1, -1, 4_000_000] {
            Scene::new(number).value(pid).agree();
        }
    }
    for number in [libc::SYS_getresuid, libc::SYS_getresgid] {
        Scene::new(number).at(64).at(68).at(72).agree();
        Scene::new(number).at(64).at(SIZE).at(72).blurred(64..68).agree();
        Scene::new(number).at(64).value(0).at(72).blurred(64..68).agree();
    }
    for size in [-1, 0, 1, 5, 65_536] {
        Scene::new(libc::SYS_getgroups).value(size).at(64).agree();
    }
    Scene::new(libc::SYS_setgroups).value(-1).at(64).agree();
    Scene::new(libc::SYS_setgroups).value(70_000).at(64).agree();
    Scene::new(libc::SYS_uname).at(33).agree();
    Scene::new(libc::SYS_uname).at(SIZE).agree();
    Scene::new(libc::SYS_umask).value(0o22).run();
    Scene::new(libc::SYS_umask).value(0o22).agree();
    Scene::new(libc::SYS_personality).raw_value(0xffff_ffff).agree();
    Scene::new(libc::SYS_sethostname).value(0).value(-1).agree();
    Scene::new(libc::SYS_sethostname).at(SIZE).value(65).agree();
    for version in [0, 0x1998_0330, 0x2007_1026, 0x2008_0522] {
        for pid in [0, 4_000_000] {
            let header = || Scene::new(libc::SYS_capget).word(64, version).word(68, pid).at(64);
            header().at(128).agree();
            header().value(0).agree();
        }
    }
    Scene::new(libc::SYS_capset).word(64, 0x2008_0522).word(68, 1).at(64).at(128).agree();
    Scene::new(libc::SYS_capset).word(64, 7).word(68, 0).at(64).at(128).agree();
}

#[test]
fn limits_and_scheduling() {
    for resource in 0..18 {
        Scene::new(libc::SYS_getrlimit).value(resource).at(64).agree();
        Scene::new(libc::SYS_prlimit64).value(0).value(resource).value(0).at(64).agree();
    }
    Scene::new(libc::SYS_setrlimit).value(4).long(64, 0).long(72, u64::MAX).at(64).run();
    Scene::new(libc::SYS_prlimit64).value(0).value(4).long(64, 0).long(72, 5).at(64).at(128).run();
    Scene::new(libc::SYS_prlimit64).value(0).value(4).long(64, 9).long(72, 5).at(64).at(128).agree();
    for pid in [0, -1, 4_000_000] {
        for size in [0, 1, 4, 8, 16, 128, 1024, 100_000] {
            Scene::new(libc::SYS_sched_getaffinity).value(pid).value(size).at(64).agree();
        }
        for size in [0, 47, 48, 56, 100, 4096, 5000] {
            Scene::new(libc::SYS_sched_getattr).value(pid).at(64).value(size).value(0).agree();
        }
        Scene::new(libc::SYS_sched_getparam).value(pid).at(64).agree();
        Scene::new(libc::SYS_sched_getscheduler).value(pid).agree();
        Scene::new(libc::SYS_sched_rr_get_interval).value(pid).at(64).agree();
        Scene::new(libc::SYS_sched_setparam).value(pid).word(64, 0).at(64).agree();
        Scene::new(libc::SYS_sched_setscheduler).value(pid).value(0).word(64, 0).at(64).agree();
        Scene::new(libc::SYS_getpriority).value(0).value(pid).agree();
        Scene::new(libc::SYS_ioprio_get).value(1).value(pid).agree();
    }
    // A kernel that knows less than the program tells how much it knows.
    for size in [0_u32, 1, 47, 48, 56, 64, 4096, 4097, u32::MAX] {
        let attributes = [&size.to_le_bytes()[..], &[0; 44]].concat();
        let set = Scene::new(libc::SYS_sched_setattr).value(0).with(64, &[0; 4096]).with(64, &attributes);
        set.at(64).value(0).agree();
        let set = Scene::new(libc::SYS_sched_setattr).value(0).with(64, &[1; 4096]).with(64, &attributes);
        set.at(64).value(0).agree();
    }
    for policy in [0, 1, 99] {
        Scene::new(libc::SYS_sched_get_priority_max).value(policy).agree();
        Scene::new(libc::SYS_sched_get_priority_min).value(policy).agree();
    }
    for clock in [2, 3, 77] {
        Scene::new(libc::SYS_clock_getres).value(clock).at(64).agree();
    }
    // Length and errors only: the figures move.
    Scene::new(libc::SYS_sysinfo).at(64).blurred(64..176).agree();
    Scene::new(libc::SYS_sysinfo).at(SIZE).agree();
    let read_only = Scene::new(libc::SYS_adjtimex).with(64, &[0; 208]).at(64).blurred(64..272);
    read_only.agree();
}

#[test]
fn options_of_prctl() {
    let prctl = |option: i32| Scene::new(libc::SYS_prctl).value(option);
    let zeros = |scene: Scene| scene.value(0).value(0).value(0).value(0);
    for option in
        [libc::PR_GET_DUMPABLE, libc::PR_GET_KEEPCAPS, libc::PR_GET_SECUREBITS, libc::PR_GET_TIMERSLACK]
    {
        zeros(prctl(option)).agree();
    }
    for option in [libc::PR_GET_NO_NEW_PRIVS, libc::PR_GET_THP_DISABLE] {
        zeros(prctl(option)).agree();
    }
    prctl(libc::PR_SET_NAME).input(64, b"a-rather-long-name\0").agree();
    prctl(libc::PR_GET_NAME).at(64).agree();
    prctl(libc::PR_SET_NAME).at(SIZE).agree();
    prctl(libc::PR_SET_PDEATHSIG).value(0).agree();
    prctl(libc::PR_GET_PDEATHSIG).at(64).agree();
    prctl(libc::PR_GET_CHILD_SUBREAPER).at(64).agree();
    prctl(libc::PR_GET_CHILD_SUBREAPER).at(SIZE).agree();
    prctl(libc::PR_CAPBSET_READ).value(3).agree();
    prctl(libc::PR_CAP_AMBIENT).value(1).value(3).value(0).value(0).agree();
}

#[test]
fn shared_memory_and_semaphores() {
    let (shared, _) = Scene::new(libc::SYS_shmget).value(0).value(5000).value(0o600).direct();
    if shared < 0 {
        eprintln!("skipped: no System V IPC here");
        return;
    }
    let shm = |command: i32| Scene::new(libc::SYS_shmctl).value(shared).value(command);
    let (_, memory) = shm(libc::IPC_STAT).at(64).direct();
    for command in [libc::IPC_STAT, libc::IPC_INFO, 14] {
        shm(command).at(64).agree();
        shm(command).at(SIZE).agree();
    }
    shm(libc::IPC_SET).with(64, &memory[64..176]).at(64).agree();
    shm(libc::IPC_STAT).at(64).agree();
    assert_eq!(shm(libc::IPC_RMID).value(0).direct().0, 0);
    shm(libc::IPC_RMID).value(0).agree();

    let (set, _) = Scene::new(libc::SYS_semget).value(0).value(3).value(0o600).direct();
    let sem = |command: i32| Scene::new(libc::SYS_semctl).value(set).value(1).value(command);
    sem(16).value(4).agree();
    for command in [11, 12, 14, 15] {
        sem(command).value(0).agree();
    }
    for command in [libc::IPC_STAT, libc::IPC_INFO, 19] {
        sem(command).at(64).agree();
    }
    let operations: Vec<u8> =
        [[1_i16, -1, 0x800], [0, 0, 0x800]].iter().flatten().flat_map(|word| word.to_le_bytes()).collect();
    for count in [0, 1, 2, 100_000] {
        Scene::new(libc::SYS_semop).value(set).input(64, &operations).value(count).agree_unless_homeward();
        let timed = Scene::new(libc::SYS_semtimedop).value(set).input(64, &operations).value(count);
        timed.long(8, 0).long(16, 1).at(8).agree_unless_homeward();
    }
    Scene::new(libc::SYS_semop).value(set).at(SIZE).value(1).agree();
    assert_eq!(sem(libc::IPC_RMID).value(0).direct().0, 0);
}

#[test]
fn message_queues() {
    let (queue, _) = Scene::new(libc::SYS_msgget).value(0).value(0o600).direct();
    if queue < 0 {
        eprintln!("skipped: no System V IPC here");
        return;
    }
    for size in [-1, 0, 1, 100, 5000] {
        let send =
            Scene::new(libc::SYS_msgsnd).value(queue).long(64, 3).at(64).value(size).value(libc::IPC_NOWAIT);
        send.agree_unless_homeward();
    }
    Scene::new(libc::SYS_msgsnd).value(queue).at(SIZE - 4).value(10).value(libc::IPC_NOWAIT).agree();
    for command in [libc::IPC_STAT, libc::IPC_INFO, 12] {
        Scene::new(libc::SYS_msgctl).value(queue).value(command).at(64).agree();
    }
    for (size, kind, flags) in [(0, 3, 0), (50, 3, 0), (50, 3, libc::MSG_NOERROR), (5000, 0, 0), (10, 7, 0)] {
        // Each message was sent twice, so each way receives its own.
        let receive = Scene::new(libc::SYS_msgrcv).value(queue).at(64).value(size).value(kind);
        receive.value(flags | libc::IPC_NOWAIT).agree();
    }
    assert_eq!(Scene::new(libc::SYS_msgctl).value(queue).value(libc::IPC_RMID).value(0).direct().0, 0);

    let name = format!("minka-test-{}\0", std::process::id());
    let open = Scene::new(libc::SYS_mq_open)
        .input(64, name.as_bytes())
        .value(libc::O_CREAT | libc::O_RDWR | libc::O_NONBLOCK);
    let attributes = [0_u64, 4, 100, 0, 0, 0, 0, 0].map(u64::to_le_bytes).concat();
    let open = open.value(0o600).input(512, &attributes);
    let (one, other) = open.agree_on_descriptors();
    if one < 0 {
        eprintln!("skipped: no POSIX message queues here");
        return;
    }
    let queue = |number| Scene::new(number).each(one, other);
    for (length, priority) in [(10, 1), (100, 2), (101, 3)] {
        queue(libc::SYS_mq_timedsend).at(128).value(length).value(priority).value(0).agree();
    }
    for room in [50, 100, 5000] {
        queue(libc::SYS_mq_timedreceive).at(128).value(room).at(64).long(8, 0).long(16, 0).at(8).agree();
    }
    queue(libc::SYS_mq_getsetattr).value(0).at(128).agree();
    queue(libc::SYS_mq_getsetattr).input(128, &attributes).at(256).run();
    queue(libc::SYS_mq_notify).value(0).agree();
    assert_eq!(Scene::new(libc::SYS_mq_unlink).input(64, name.as_bytes()).direct().0, 0);
    Scene::new(libc::SYS_mq_unlink).input(64, name.as_bytes()).agree();
}

#[test]
fn keys_modules_and_processes() {
    let key =
        Scene::new(libc::SYS_add_key).input(64, b"user\0").input(128, b"minka-test\0").input(256, b"payload");
    let outcome = key.value(7).value(-2).run();
    assert_eq!(outcome.direct, outcome.forwarded);
    if outcome.direct >= 0 {
        for room in [0, 3, 7, 100] {
            Scene::new(libc::SYS_keyctl).value(11).value(outcome.direct).at(64).value(room).agree();
            Scene::new(libc::SYS_keyctl).value(6).value(outcome.direct).at(64).value(room).agree();
        }
        let search =
            Scene::new(libc::SYS_keyctl).value(10).value(-2).input(64, b"user\0").input(128, b"minka-test\0");
        search.value(0).agree();
        assert_eq!(Scene::new(libc::SYS_keyctl).value(9).value(outcome.direct).value(-2).direct().0, 0);
    }
    Scene::new(libc::SYS_request_key)
        .input(64, b"user\0")
        .input(128, b"minka-none\0")
        .value(0)
        .value(-2)
        .agree();
    let pid = std::process::id();
    Scene::new(libc::SYS_kcmp).value(pid).value(pid).value(0).value(0).value(1).agree();
    for (size, flags) in [(0, 1), (8, 0), (24, 0), (5000, 0)] {
        let create = Scene::of("landlock_create_ruleset").with(64, &[0; 32]);
        create.at(64).value(size).value(flags).agree_on_descriptors();
    }
    Scene::of("landlock_add_rule").value(-1).value(1).at(64).value(0).agree();
    for room in [0_u32, 8, 100, 1000] {
        Scene::of("lsm_list_modules").at(128).word(64, room).at(64).value(0).agree();
        Scene::of("lsm_get_self_attr").value(100).at(128).word(64, room).at(64).value(0).agree();
    }
    for kind in [3, 10, 99] {
        for length in [-1, 0, 50] {
            Scene::new(libc::SYS_syslog).value(kind).at(64).value(length).agree();
        }
    }
}

#[test]
fn calls_that_no_kernel_has() {
    for number in
        [libc::SYS_uselib, libc::SYS_afs_syscall, libc::SYS_getpmsg, libc::SYS_vserver, libc::SYS_security]
    {
        assert_eq!(Scene::new(number).agree(), -i64::from(libc::ENOSYS));
    }
}
