//! What lasts, and what of it is refused.

use std::fs;

use minka_accel::config::Content;

use super::*;

fn store() -> (tempfile::TempDir, Store) {
    let directory = tempfile::tempdir().unwrap();
    let store = Store::at(directory.path().join("new/folder/xpu.toml"));
    (directory, store)
}

#[test]
fn groups_and_settings_last_and_numbers_are_not_used_again() {
    let (_directory, store) = store();
    assert_eq!(store.read().unwrap(), State::default());
    let devices = BTreeSet::from(["0000:03:00.0".to_owned()]);
    let make = |name: &str| store.change(|state| state.make_group(name, devices.clone())).unwrap().0.id;
    assert_eq!((make("arc"), make("old")), (1, 2));
    store.change(|state| state.end_group(2)).unwrap();
    store.change(|state| state.set_sample_interval(200)).unwrap();
    assert_eq!(make("new"), 3);
    let state = Store::at(store.path().to_owned()).read().unwrap();
    assert_eq!(state.sample_interval_ms, Some(200));
    assert_eq!(state.groups().iter().map(|group| group.id).collect::<Vec<_>>(), [1, 3]);
    assert_eq!(state.group(1).unwrap().devices, devices);
}

#[test]
fn a_change_that_is_refused_leaves_everything_as_it_was() {
    let (_directory, store) = store();
    store.change(|state| state.make_group("arc", BTreeSet::new())).unwrap();
    let before = store.read().unwrap();
    let many: BTreeSet<String> = (0..300).map(|number| number.to_string()).collect();
    assert!(matches!(
        store.change(|state| state.change_devices(1, |devices| *devices = many)),
        Err(StateError::TooManyDevices)
    ));
    let name = "x".repeat(101);
    assert!(matches!(store.change(|state| state.make_group(&name, BTreeSet::new())), Err(StateError::Name)));
    assert!(matches!(store.change(|state| state.end_group(7)), Err(StateError::NoSuchGroup(7))));
    assert!(matches!(store.change(|state| state.set_sample_interval(300)), Err(StateError::Interval(300))));
    assert_eq!(store.read().unwrap(), before);
    for number in 2..=64 {
        assert_eq!(store.change(|state| state.make_group("more", BTreeSet::new())).unwrap().0.id, number);
    }
    let refused = store.change(|state| state.make_group("more", BTreeSet::new()));
    assert!(matches!(refused, Err(StateError::TooManyGroups)));
}

#[test]
fn a_file_that_makes_no_sense_is_refused_and_kept() {
    let (_directory, store) = store();
    store.change(|state| state.make_group("arc", BTreeSet::new())).unwrap();
    let keeper = Keeper::new(store.clone()).unwrap();
    let check = |text: &str| {
        fs::write(store.path(), text).unwrap();
        assert!(matches!(store.read(), Err(StateError::Format { .. })), "{text}");
        assert!(store.change(|state| state.set_sample_interval(100)).is_err());
        assert_eq!(fs::read_to_string(store.path()).unwrap(), text);
        assert_eq!(keeper.state().groups().len(), 1, "what was known stays");
    };
    check("sample_interval_ms = 1");
    check("interval = 100");
    check("last_group = 1\n[[group]]\nid = 2\nname = \"beyond\"");
    check("last_group = 1\n[[group]]\nid = 0\nname = \"none\"");
    check("last_group = 1\n[[group]]\nid = 1\nname = \"\"");
    check("last_group = 1\n[[group]]\nid = 1\nname = \"a\"\n[[group]]\nid = 1\nname = \"b\"");
    fs::write(store.path(), "sample_interval_ms = 500").unwrap();
    assert_eq!(keeper.state().sample_interval_ms, Some(500));
}

#[test]
fn changes_at_the_same_time_lose_nothing() {
    let (_directory, store) = store();
    std::thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                for _ in 0..5 {
                    store.change(|state| state.make_group("one", BTreeSet::new())).unwrap();
                }
            });
        }
    });
    assert_eq!(store.read().unwrap().groups().len(), 20);
}

#[test]
fn what_was_set_first_is_remembered_until_the_machine_is_started_anew() {
    let mut state = State::default();
    let content = |value: &str| Content { file: "device/power/control".to_owned(), value: value.to_owned() };
    state.remember("a", "boot 1", vec![content("auto")]).unwrap();
    state.remember("a", "boot 1", vec![content("on")]).unwrap();
    assert_eq!(state.remembered("a", "boot 1"), [content("auto")]);
    assert!(state.remembered("a", "boot 2").is_empty() && state.remembered("b", "boot 1").is_empty());
    state.remember("b", "boot 2", vec![content("on")]).unwrap();
    assert!(state.remembered("a", "boot 1").is_empty());
    state.forget("b");
    assert_eq!(state, State::default());
}

#[test]
fn what_is_put_back_stays_in_the_device_s_folder() {
    let (_directory, store) = store();
    for file in ["../../etc/passwd", "device/../../x", "/etc/passwd", "a//b"] {
        let content = Content { file: file.to_owned(), value: "1".to_owned() };
        store.change(|state| state.remember("a", "", vec![content])).unwrap();
        assert!(matches!(store.read(), Err(StateError::Format { .. })), "{file}");
        fs::remove_file(store.path()).unwrap();
    }
}
