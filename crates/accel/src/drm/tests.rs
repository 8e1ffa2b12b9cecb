use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;

/// A driver whose answers are written down.
#[derive(Debug, Default)]
struct Written(BTreeMap<Question, Vec<u8>>);

impl Ask for Written {
    fn ask(&mut self, question: Question) -> io::Result<Vec<u8>> {
        // What a driver says of a question that it does not know.
        self.0.get(&question).cloned().ok_or_else(|| io::Error::from_raw_os_error(22))
    }
}

/// Fields of two, four or eight bytes, one behind the other.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn two(mut self, numbers: &[u16]) -> Self {
        self.0.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
        self
    }

    fn four(mut self, numbers: &[u32]) -> Self {
        self.0.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
        self
    }

    fn eight(mut self, numbers: &[u64]) -> Self {
        self.0.extend(numbers.iter().flat_map(|number| number.to_ne_bytes()));
        self
    }
}

const GIB: u64 = 1 << 30;

/// An A380's memory as i915 lays it out, with what is free of the card's own.
fn i915_memory(free: u64, seen_free: u64) -> Vec<u8> {
    let system = |bytes: Bytes| bytes.two(&[0, 0]).four(&[0]).eight(&[32 * GIB, 32 * GIB]).eight(&[0; 8]);
    let own =
        |bytes: Bytes| bytes.two(&[1, 0]).four(&[0]).eight(&[6 * GIB, free, GIB, seen_free]).eight(&[0; 6]);
    own(system(Bytes::default().four(&[2, 0, 0, 0]))).0
}

/// A B580's memory as xe lays it out.
fn xe_memory(used: u64, seen_used: u64) -> Vec<u8> {
    let system = |bytes: Bytes| bytes.two(&[0, 0]).four(&[4096]).eight(&[32 * GIB, 0, 0, 0]).eight(&[0; 6]);
    let own = |bytes: Bytes| {
        bytes.two(&[1, 1]).four(&[65536]).eight(&[12 * GIB, used, 12 * GIB, seen_used]).eight(&[0; 6])
    };
    own(system(Bytes::default().four(&[2, 0]))).0
}

fn xe_answers() -> Written {
    let engine = |bytes: Bytes, class, instance, part| bytes.two(&[class, instance, part, 0]).eight(&[0; 3]);
    let engines = [(0, 0, 0), (1, 0, 0), (4, 0, 0), (2, 0, 1), (2, 2, 1), (3, 0, 1)]
        .iter()
        .fold(Bytes::default().four(&[6, 0]), |bytes, (class, instance, part)| {
            engine(bytes, *class, *instance, *part)
        });
    let part = |bytes: Bytes, kind, id, version: [u16; 3]| {
        let bytes = bytes.two(&[kind, 0, id, 0, 0, 0]).four(&[19_200_000]).eight(&[2, 1]);
        bytes.two(&version).two(&[0]).eight(&[0; 7])
    };
    let parts = part(Bytes::default().four(&[2, 0]), 0, 0, [20, 1, 4]);
    let parts = part(parts, 1, 1, [0, 0, 0]);
    let config = Bytes::default().four(&[5, 0]).eight(&[0xe20b, 1, 65536, 48, 2]);
    Written(BTreeMap::from([
        (Question::Xe(0), engines.0),
        (Question::Xe(1), xe_memory(GIB / 2, GIB / 4)),
        (Question::Xe(2), config.0),
        (Question::Xe(3), parts.0),
    ]))
}

fn told(driver: &str, answers: Written) -> Vec<String> {
    let mut inquiry = Inquiry::with(driver, Box::new(answers)).unwrap();
    let readings = inquiry.read(true, Moment(0.0));
    let line = |reading: &Reading| {
        let value = match &reading.value {
            Ok(value) => value.to_string(),
            Err(reason) => format!("— ({reason})"),
        };
        format!("{} [{}] = {value}", reading.metric.name(), reading.location)
    };
    readings.iter().map(line).collect()
}

#[test]
fn the_answers_have_the_kernel_s_lengths() {
    assert_eq!((i915_memory(0, 0).len(), xe_memory(0, 0).len()), (16 + 2 * 88, 8 + 2 * 88));
    let answers = xe_answers().0;
    let lengths: Vec<usize> = answers.values().map(Vec::len).collect();
    assert_eq!(lengths, [8 + 6 * 32, 8 + 2 * 88, 8 + 5 * 8, 8 + 2 * 96]);
}

#[test]
fn a_card_under_xe_tells_its_memory_parts_and_engines() {
    let expected = [
        "memory_total [vram] = 12884901888",
        "memory_used [vram] = 536870912",
        "memory_total [vram seen by the host] = 12884901888",
        "memory_used [vram seen by the host] = 268435456",
        "memory_total [system] = 34359738368",
        "memory_used [system] = — (the kernel tells it only with CAP_PERFMON)",
        "property [tile0/gt0 kind] = main",
        "property [tile0/gt0 clock of its timestamps] = 19200000 Hz",
        "property [tile0/gt0 version] = 20.01.4",
        "property [tile0/gt1 kind] = media",
        "property [tile0/gt1 clock of its timestamps] = 19200000 Hz",
        "property [tile0/gt0 engines] = rcs0 bcs0 ccs0",
        "property [tile0/gt1 engines] = vcs0 vcs2 vecs0",
        "property [bits of an address] = 48",
        "property [alignment of memory in bytes] = 65536",
    ];
    assert_eq!(told("xe", xe_answers()), expected);
}

#[test]
fn a_card_under_i915_tells_its_memory_and_engines() {
    let engine = |bytes: Bytes, class, instance| {
        bytes.two(&[class, instance]).four(&[0]).eight(&[1, 3]).two(&[instance, 0, 0, 0]).eight(&[0; 3])
    };
    let engines = [(0, 0), (1, 0), (2, 0), (2, 1), (3, 0), (4, 0)]
        .iter()
        .fold(Bytes::default().four(&[6, 0, 0, 0]), |bytes, (class, instance)| {
            engine(bytes, *class, *instance)
        });
    assert_eq!(engines.0.len(), 16 + 6 * 56);
    let answers = Written(BTreeMap::from([
        (Question::I915(4), i915_memory(5 * GIB, GIB / 2)),
        (Question::I915(2), engines.0),
    ]));
    let expected = [
        "memory_total [vram] = 6442450944",
        "memory_used [vram] = 1073741824",
        "memory_total [vram seen by the host] = 1073741824",
        "memory_used [vram seen by the host] = 536870912",
        "memory_total [system] = 34359738368",
        "memory_used [system] = — (the kernel tells it only with CAP_PERFMON)",
        "property [engines] = rcs0 bcs0 vcs0 vcs1 vecs0 ccs0",
    ];
    assert_eq!(told("i915", answers), expected);
}

#[test]
fn without_the_capability_the_use_of_memory_is_not_known() {
    let check = |driver: &str, question, answer| {
        let lines = told(driver, Written(BTreeMap::from([(question, answer)])));
        assert!(lines[0].starts_with("memory_total [vram] = ") && !lines[0].contains('—'), "{}", lines[0]);
        assert_eq!(lines[1], "memory_used [vram] = — (the kernel tells it only with CAP_PERFMON)");
    };
    check("i915", Question::I915(4), i915_memory(6 * GIB, GIB));
    check("xe", Question::Xe(1), xe_memory(0, 0));
}

#[test]
fn a_processor_s_own_graphics_have_no_memory_of_their_own() {
    let system = Bytes::default().four(&[1, 0]).two(&[0, 0]).four(&[4096]).eight(&[8 * GIB, GIB, 0, 0]);
    let answers = Written(BTreeMap::from([(Question::Xe(1), system.eight(&[0; 6]).0)]));
    let lines = told("xe", answers);
    assert_eq!(lines[0], "memory_total [vram] = — (the device has no memory of its own)");
    assert_eq!(lines[3], "memory_used [system] = 1073741824");
}

#[test]
fn a_driver_that_does_not_know_a_question_costs_its_answer_only() {
    let answers = Written(BTreeMap::from([(Question::Xe(1), xe_memory(GIB, GIB))]));
    let lines = told("xe", answers);
    assert_eq!(lines[1], "memory_used [vram] = 1073741824");
    assert!(lines[6].starts_with("property [engines] = — (reading failed"), "{lines:?}");
}

#[test]
fn what_makes_no_sense_is_not_believed() {
    let check = |answer: Vec<u8>, part: &str| {
        let lines = told("xe", Written(BTreeMap::from([(Question::Xe(1), answer)])));
        assert!(lines[0].contains(part) || lines[1].contains(part), "{lines:?}");
    };
    let whole = xe_memory(GIB, GIB);
    check(whole[..whole.len() - 1].to_vec(), "not understood");
    check(vec![], "not understood");
    check(u32::MAX.to_ne_bytes().repeat(40), "not understood");
    let mut more = whole.clone();
    more[0] = 3;
    check(more, "not understood");
    let mut empty = whole.clone();
    empty[8 + 88 + 8..][..8].fill(0);
    check(empty, "not understood");
    check(xe_memory(13 * GIB, 0), "not believed");
    // More free than there is, and a size that the driver does not know.
    assert!(matches!(i915::regions(&i915_memory(7 * GIB, 0)).unwrap()[1].used, Err(Reason::Implausible(_))));
    assert!(matches!(i915::regions(&i915_memory(u64::MAX, 0)).unwrap()[1].used, Err(Reason::Unknown(_))));
}

#[test]
fn a_sleeping_device_is_not_woken_by_questions() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("sys/class/drm/card0/device/power/runtime_status");
    std::fs::create_dir_all(state.parent().unwrap()).unwrap();
    std::fs::write(&state, "active\n").unwrap();
    let mut inquiry = Inquiry::with("xe", Box::new(xe_answers())).unwrap();
    let path = "sys/class/drm/card0/device/power/runtime_status".to_owned();
    inquiry.sleep = Some((Root::at(directory.path()), path));
    let used = |inquiry: &mut Inquiry| {
        let readings = inquiry.read(true, Moment(0.0));
        let total = readings.iter().find(|reading| reading.metric == Metric::MemoryTotal).cloned();
        let used = readings.into_iter().find(|reading| reading.metric == Metric::MemoryUsed);
        (total.unwrap().number(), used.unwrap().value)
    };
    assert_eq!(used(&mut inquiry).1, Ok(Value::Number((GIB / 2) as f64)));
    std::fs::write(&state, "suspended\n").unwrap();
    inquiry.ask = Box::new(Written::default());
    let (total, used) = used(&mut inquiry);
    assert_eq!(total, Some((12 * GIB) as f64));
    assert_eq!(used, Err(Reason::Unknown("the device sleeps, and a question would wake it")));
}

proptest! {
    #[test]
    fn no_answer_makes_a_panic(answer in proptest::collection::vec(any::<u8>(), 0..400), few in 0_u8..4) {
        let mut counted = answer.clone();
        counted.splice(..counted.len().min(4), [few, 0, 0, 0]);
        for bytes in [answer, counted] {
            let _ = (i915::regions(&bytes), i915::engines(&bytes), xe::regions(&bytes));
            let _ = (xe::engines(&bytes), xe::parts(&bytes), xe::configuration(&bytes));
        }
    }
}
