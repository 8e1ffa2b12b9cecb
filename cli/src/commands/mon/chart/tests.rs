use minka_node::protocol::Figures;

use super::*;
use crate::commands::mon::view::Press;
use crate::commands::screen::Key;
use crate::text::Language;

fn node(number: u16, standard_load: u32, memory: [u32; 2]) -> Node {
    let [memory_mib, available_mib] = memory;
    let figures = Figures {
        age_ms: 0,
        load: 0.0,
        running: 0.0,
        standard_load,
        cpus: 2,
        speed: 15_000,
        utilisation: 50,
        io_stall: 0,
        memory_mib,
        free_mib: available_mib / 2,
        available_mib,
        blocked: false,
        stays: false,
        leaving: false,
        devices: None,
    };
    Node {
        name: format!("node{number}"),
        address: String::new(),
        this: false,
        reachable: true,
        guests: 0,
        number: Some(number),
        member: true,
        figures: Some(figures),
    }
}

fn view() -> View {
    View { show: Show::Load, columns: Columns::Auto, dead: false, total: false, help: false, skipped: 0 }
}

fn nodes() -> Vec<Node> {
    let down = Node { member: false, ..node(12, 900, [1000, 0]) };
    let silent = Node { figures: None, ..node(3, 0, [0, 0]) };
    vec![node(2, 75, [1000, 250]), node(1, 150, [2000, 1500]), silent, down]
}

fn drawn(view: &View, size: (usize, usize)) -> String {
    let lines = draw(&nodes(), view, size, &Text::new(Language::English));
    assert!(lines.len() <= size.1 && lines.iter().all(|line| line.chars().count() <= size.0), "{lines:?}");
    lines.iter().map(|line| format!("{}\n", line.trim_end())).collect()
}

#[test]
fn bars_stand_above_the_numbers_of_their_nodes() {
    insta::assert_snapshot!(drawn(&view(), (40, 12)));
    let memory = View { show: Show::Memory, total: true, ..view() };
    insta::assert_snapshot!(drawn(&memory, (60, 12)));
    let dead = View { show: Show::Use, columns: Columns::Vertical, dead: true, ..view() };
    insta::assert_snapshot!(drawn(&dead, (40, 12)));
}

#[test]
fn columns_get_narrower_where_there_is_little_room() {
    let chosen = view().chosen(&nodes()).len();
    let nodes = nodes();
    let shown = view();
    let width = |room| layout(&shown.chosen(&nodes), Columns::Auto, room).width;
    assert_eq!((chosen, width(18), width(17), width(8)), (3, WIDE, VERTICAL, TIGHT));
    // However small the terminal is.
    for size in [(1, 1), (12, 2), (15, 5)] {
        drawn(&View { dead: true, ..view() }, size);
    }
}

#[test]
fn the_scale_is_a_round_number() {
    let top = |most, show| Scale::above(most, show).top;
    assert_eq!(
        [0.0, 1.0, 1.1, 3.0, 7.0, 11.0].map(|most| top(most, Show::Load)),
        [1.0, 1.0, 2.0, 5.0, 10.0, 20.0]
    );
    assert_eq!([top(90.0, Show::Use), top(24_105.0, Show::Memory)], [100.0, 50_000.0]);
    let logarithmic = Scale::above(100.0, Show::LogLoad);
    assert!((logarithmic.value(logarithmic.part(7.0)) - 7.0).abs() < 1e-9);
}

#[test]
fn keys_change_what_is_shown() {
    let nodes = nodes();
    let mut view = view();
    let mut press = |key| view.press(key, &nodes);
    for key in ['m', 'V', 'd', 't'].map(Key::Character) {
        assert_eq!(press(key), Press::Shown);
    }
    assert_eq!([press(Key::Right), press(Key::Right), press(Key::Left)], [Press::Shown; 3]);
    assert_eq!(press(Key::Enter), Press::Anew);
    assert_eq!([press(Key::Character('q')), press(Key::End)], [Press::End; 2]);
    let expected = View {
        show: Show::Memory,
        columns: Columns::Tight,
        dead: true,
        total: true,
        help: false,
        skipped: 1,
    };
    assert_eq!(view, expected);
    view.press(Key::Character('h'), &nodes);
    assert!(view.help);
    view.press(Key::Character('l'), &nodes);
    assert!(!view.help && view.show == Show::Load);
}
