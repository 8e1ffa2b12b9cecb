//! Trials that compute: by the program itself with stand-ins for OpenCL's library that lie, crash, hang and fail and one for
//! CUDA's driver, compiled here (`fake_opencl.c`, `fake_cuda.c`), and on the machine's processor where a library for that is installed (pocl). A processor is no
//! accelerator: a trial is told to take it.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use minka_accel::compute::{Bench, Ended, Found, Runtime, Task, Trial};

const ALL: [Trial; 7] = [
    Trial::Function,
    Trial::Computation,
    Trial::Bandwidth,
    Trial::Allocation,
    Trial::Errors,
    Trial::Link,
    Trial::Stress,
];

fn bench(silence: Duration) -> Bench {
    Bench::with(|| Command::new(env!("CARGO_BIN_EXE_minka")), silence)
}

fn task(library: &str, address: Option<&str>, trial: Trial) -> Task {
    Task {
        runtimes: vec![(Runtime::OpenCl, library.to_owned())],
        address: address.map(str::to_owned),
        trial,
        seconds: 1.0,
        bytes_max: 32 << 20,
        used_bytes: 0,
        is_shared: false,
    }
}

/// Compiles a stand-in.
fn compile(source: &str, mode: u32, file: &Path) {
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests").join(source);
    let mut compiler = Command::new("cc");
    compiler.args(["-w", "-O1", "-shared", "-fPIC", &format!("-DMODE={mode}"), "-o"]).arg(file).arg(source);
    assert!(compiler.status().unwrap().success());
}

/// Has a stand-in for OpenCL tried.
fn stand_in(mode: u32, trial: Trial, silence: Duration) -> Ended {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("libOpenCL.so.1");
    compile("fake_opencl.c", mode, &file);
    bench(silence).run(&task(file.to_str().unwrap(), Some("0000:03:00.0"), trial), &mut |_| true)
}

#[test]
fn a_device_that_computes_wrongly_fails_whatever_is_tried() {
    for trial in ALL {
        match stand_in(0, trial, Duration::from_secs(60)) {
            Ended::Found(Found { right: false, words, .. }) => {
                assert!(words.contains("wrong") || words.contains("not "), "{trial:?}: {words}");
            }
            other => panic!("{trial:?}: {other:?}"),
        }
    }
}

#[test]
fn a_library_that_crashes_hangs_or_fails_costs_that_trial() {
    let patience = Duration::from_secs(60);
    // Before it has the device it is the library that does not do.
    match stand_in(1, Trial::Function, patience) {
        Ended::NotDone(why) => assert!(why.contains("SIGSEGV"), "{why}"),
        other => panic!("{other:?}"),
    }
    match stand_in(2, Trial::Function, patience) {
        Ended::Broken(why) => assert!(why.contains("SIGSEGV"), "{why}"),
        other => panic!("{other:?}"),
    }
    match stand_in(4, Trial::Bandwidth, patience) {
        Ended::Broken(why) => assert_eq!(why, "clEnqueueNDRangeKernel failed: -36"),
        other => panic!("{other:?}"),
    }
    let begun = Instant::now();
    match stand_in(3, Trial::Function, Duration::from_secs(2)) {
        Ended::Broken(why) => assert!(why.contains("no answer within"), "{why}"),
        other => panic!("{other:?}"),
    }
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn only_the_device_at_the_address_is_taken() {
    let bench = bench(Duration::from_secs(60));
    // What a machine has of libraries knows no such device; it must not take another, least of all the processor.
    let task = task("libOpenCL.so.1", Some("0000:fe:1e.7"), Trial::Function);
    match bench.run(&task, &mut |_| true) {
        Ended::NotDone(why) => assert!(why.starts_with("no compute runtime: libOpenCL.so.1"), "{why}"),
        other => panic!("{other:?}"),
    }
    let missing = Task { runtimes: vec![(Runtime::Cuda, "/nowhere/libcuda.so.1".to_owned())], ..task };
    assert_eq!(
        bench.run(&missing, &mut |_| true),
        Ended::NotDone("no compute runtime: /nowhere/libcuda.so.1 is not there".to_owned())
    );
}

#[test]
fn cudas_driver_is_called_as_it_wants_to_be() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("libcuda.so.1");
    compile("fake_cuda.c", 0, &file);
    let library = file.to_str().unwrap().to_owned();
    for trial in ALL {
        let runtimes = vec![(Runtime::Cuda, library.clone())];
        let task = Task { runtimes, ..task("", Some("0000:41:00.0"), trial) };
        match bench(Duration::from_secs(60)).run(&task, &mut |_| true) {
            Ended::Found(Found { right: true, words, .. }) => {
                assert!(words.contains("by CUDA 13.0"), "{words}")
            }
            other => panic!("{trial:?}: {other:?}"),
        }
    }
}

/// Whether there is something to compute on the processor with.
fn processor() -> bool {
    let found =
        bench(Duration::from_secs(60)).run(&task("libOpenCL.so.1", None, Trial::Function), &mut |_| true);
    match found {
        Ended::NotDone(why) => {
            eprintln!("not tried: {why}");
            false
        }
        _ => true,
    }
}

#[test]
fn each_trial_is_done_and_measures_what_it_says() {
    if !processor() {
        return;
    }
    for trial in ALL {
        let mut last = 0.0;
        let ended = bench(Duration::from_secs(120)).run(&task("libOpenCL.so.1", None, trial), &mut |done| {
            last = done;
            true
        });
        let Ended::Found(found) = ended else { panic!("{trial:?}: {ended:?}") };
        assert!(found.right, "{trial:?}: {found:?}");
        let names: Vec<&str> = found.figures.iter().map(|figure| figure.name.as_str()).collect();
        let expected: &[&str] = match trial {
            Trial::Computation => &["computation, 32 bits", "computation, 64 bits"],
            Trial::Bandwidth => &["memory bandwidth"],
            Trial::Link => &["to the device", "from the device"],
            _ => &[],
        };
        assert_eq!(names, expected, "{trial:?}");
        assert!(found.figures.iter().all(|figure| figure.value > 0.0 && figure.value < 1e6), "{found:?}");
        if matches!(trial, Trial::Errors | Trial::Stress | Trial::Computation) {
            assert!(last > 0.0, "{trial:?} told no progress");
        }
    }
}

#[test]
fn a_trial_ends_when_somebody_wants_it() {
    if !processor() {
        return;
    }
    let task = Task { seconds: 600.0, ..task("libOpenCL.so.1", None, Trial::Stress) };
    let begun = Instant::now();
    let ended = bench(Duration::from_secs(60)).run(&task, &mut |done| done == 0.0);
    assert_eq!(ended, Ended::Stopped(0));
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn a_processor_is_shown_as_no_card_and_a_recorded_card_is_not_computed_on() {
    use minka_accel::fixture::Recording;
    let directory = tempfile::tempdir().unwrap();
    Recording::named("b580_6_16").unwrap().plant(directory.path()).unwrap();
    let minka = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_minka"));
        command.args(["xpu", "--root"]).arg(directory.path()).args(arguments).env("LC_ALL", "C");
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = minka(&["diag", "-d", "0", "--singletest", "1,7", "-j"]);
    assert_eq!(code, Some(0));
    assert_eq!(text.matches("not done: a recorded device computes nothing").count(), 2, "{text}");
    let (code, text) = minka(&["diag", "--stress", "--stresstime", "0.01", "-j"]);
    assert!(code == Some(0) && text.contains("a recorded device computes nothing"), "{text}");
    for wrong in [
        &["diag", "--singletest", "10"][..],
        &["diag", "--stress", "-l", "3"],
        &["diag", "--stresstime", "0"],
    ] {
        assert_eq!(minka(wrong).0, Some(2), "{wrong:?}");
    }
    // pocl's device has no place on a bus, and nobody asks OpenCL what cards there are.
    let output = Command::new(env!("CARGO_BIN_EXE_minka")).args(["xpu", "discovery", "-j"]).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(!text.contains("pthread") && !text.contains("pocl"), "{text}");
}
