//! The notation of the table: macros that turn a line into a [`Spec`](crate::spec::Spec) constant.
//!
//! ```text
//! number name (argument: kind, …) [-> Fd] = [case] … place [mark …] ["note"];
//! ```
//!
//! | kind | meaning |
//! |---|---|
//! | `i32` `u32` `i64` `u64` `usize` `hex` `hex32` `position`, or a name of [`symbols`](crate::symbols) | a number |
//! | `Fd`, `dirfd` (a descriptor or AT_FDCWD), `Str`, `Address`, `Strings`, `MaskPair` | as in [`Kind`](crate::spec::Kind) |
//! | `in[T]`, `out[T]`, `inout[T]` | one `T` |
//! | `in[T; n]` | as many as the argument `n` says; a literal is a constant |
//! | `out[T; ret <= n]` | room for `n`, and as many as the result says come back |
//! | `out[T; *n]` | the number behind the pointer `n`, before and after |
//! | `…, most N` | the kernel never touches more than `N` bytes |
//! | `N + …` | `N` bytes in front that the length does not count |
//! | `sigset[n]` | a signal set, if `n` is its size |
//! | `sized[n]` | an extensible structure of `n` bytes, which the kernel refuses beyond a page |
//! | `encoded[command]` | in the direction and size that the ioctl command itself tells, out only |
//! | `counted…[base, least, most]` | a structure whose first word tells its size |
//! | `bits[n]`, `vector_in[n]`, `vector_out[n]`, `message_in`, `messages_in[n]`, … | as in `Kind` |
//! | `… on always`, `… on interrupted`, `… on positive` | when output is written, if not on success |
//!
//! A case is `[argument == value => place]`, `[argument in (a, b) => place]`, `[argument & mask == value => place]`,
//! several of these with commas between, or `[argument by TABLE]`, `[argument & mask by TABLE]`.
//!
//! Lengths name arguments, so a misspelt one is an ordinary compile error on the line itself.

macro_rules! syscalls {
    ( $(#[$meta:meta])* $vis:vis static $table:ident of $call:tt;
      $( $number:literal $name:ident
         ( $( $argument:ident : $kind:ident $( [ $($shape:tt)* ] )? $(on $when:ident)? ),* $(,)? ) $(-> $outcome:ident)?
         = $( [ $($case:tt)* ] )* $place:ident $($mark:ident)* $($note:literal)? ; )* ) => {
        $(#[$meta])*
        $vis static $table: &[$crate::spec::Spec] = &[ $( {
                #[allow(non_camel_case_types, dead_code, clippy::upper_case_acronyms)]
                enum Index { $($argument),* }
                $crate::spec::Spec {
                    number: $number,
                    call: $crate::notation::call!($call, $number),
                    name: stringify!($name),
                    arguments: &[ $( $crate::spec::Argument {
                        name: stringify!($argument),
                        kind: $crate::notation::kind!(Index; $kind $( [ $($shape)* ] )?),
                        when: $crate::notation::when!($($when)?),
                    } ),* ],
                    outcome: $crate::notation::outcome!($($outcome)?),
                    cases: &[ $( $crate::notation::case!(Index; $($case)*) ),* ],
                    otherwise: $crate::notation::place!($place),
                    marks: $crate::spec::Marks { $($mark: true,)* ..$crate::spec::Marks::NONE },
                    note: $crate::notation::note!($($note)?),
                }
            } ),* ];

        const _: () = $crate::notation::check($table);
    };
}

macro_rules! kind {
    ($a:ident; i32) => { $crate::spec::Kind::Value($crate::spec::Format::I32) };
    ($a:ident; u32) => { $crate::spec::Kind::Value($crate::spec::Format::U32) };
    ($a:ident; i64) => { $crate::spec::Kind::Value($crate::spec::Format::I64) };
    ($a:ident; u64) => { $crate::spec::Kind::Value($crate::spec::Format::U64) };
    ($a:ident; usize) => { $crate::spec::Kind::Value($crate::spec::Format::Usize) };
    ($a:ident; hex) => { $crate::spec::Kind::Value($crate::spec::Format::Hex) };
    ($a:ident; hex32) => { $crate::spec::Kind::Value($crate::spec::Format::Hex32) };
    ($a:ident; position) => { $crate::spec::Kind::Value($crate::spec::Format::Position) };
    ($a:ident; Fd) => { $crate::spec::Kind::Fd };
    ($a:ident; dirfd) => { $crate::spec::Kind::Fd };
    ($a:ident; Str) => { $crate::spec::Kind::Str };
    ($a:ident; Address) => { $crate::spec::Kind::Address };
    ($a:ident; Strings) => { $crate::spec::Kind::Strings };
    ($a:ident; MaskPair) => { $crate::spec::Kind::MaskPair };
    ($a:ident; message_in) => { $crate::spec::Kind::Message($crate::spec::Direction::In) };
    ($a:ident; message_out) => { $crate::spec::Kind::Message($crate::spec::Direction::Out) };
    ($a:ident; message_inout) => { $crate::spec::Kind::Message($crate::spec::Direction::InOut) };
    ($a:ident; messages_in [$n:ident]) => {
        $crate::spec::Kind::Messages($crate::spec::Direction::In, $a::$n as u8)
    };
    ($a:ident; messages_out [$n:ident]) => {
        $crate::spec::Kind::Messages($crate::spec::Direction::Out, $a::$n as u8)
    };
    ($a:ident; messages_inout [$n:ident]) => {
        $crate::spec::Kind::Messages($crate::spec::Direction::InOut, $a::$n as u8)
    };
    ($a:ident; vector_in [$n:ident]) => {
        $crate::spec::Kind::Vector($crate::spec::Direction::In, $a::$n as u8)
    };
    ($a:ident; vector_out [$n:ident]) => {
        $crate::spec::Kind::Vector($crate::spec::Direction::Out, $a::$n as u8)
    };
    ($a:ident; bits [$n:ident]) => { $crate::spec::Kind::Bits($a::$n as u8) };
    ($a:ident; counted_in [$base:literal, $least:literal, $most:literal]) => {
        $crate::notation::counted!(In, $base, $least, $most)
    };
    ($a:ident; counted_inout [$base:literal, $least:literal, $most:literal]) => {
        $crate::notation::counted!(InOut, $base, $least, $most)
    };
    ($a:ident; in [$($shape:tt)*]) => { $crate::notation::data!($a; In; $($shape)*) };
    ($a:ident; out [$($shape:tt)*]) => { $crate::notation::data!($a; Out; $($shape)*) };
    ($a:ident; inout [$($shape:tt)*]) => { $crate::notation::data!($a; InOut; $($shape)*) };
    ($a:ident; sized [$n:ident]) => { $crate::notation::data!($a; In; u8; $n, most 4096) };
    ($a:ident; sized_inout [$n:ident]) => { $crate::notation::data!($a; InOut; u8; $n, most 4096) };
    ($a:ident; sigset [$n:ident]) => {
        $crate::notation::data!(@ In; sigset; Exactly(8, $a::$n as u8); 0; u32::MAX; 1)
    };
    ($a:ident; encoded [$n:ident]) => {
        $crate::notation::data!(@ InOut; u8; Encoded($a::$n as u8); 0; u32::MAX; 1)
    };
    ($a:ident; $symbols:ident) => {
        $crate::spec::Kind::Value($crate::spec::Format::Symbols(&$crate::symbols::$symbols))
    };
}

macro_rules! counted {
    ($direction:ident, $base:literal, $least:literal, $most:literal) => {
        $crate::spec::Kind::Counted($crate::spec::Counted {
            direction: $crate::spec::Direction::$direction,
            base: $base,
            least: $least,
            most: $most,
        })
    };
}

macro_rules! data {
    (@ $d:ident; $t:ident; $length:ident ($($of:tt)*); $head:literal; $most:expr; $size:expr) => {
        $crate::spec::Kind::Data($crate::spec::Data {
            direction: $crate::spec::Direction::$d,
            element: stringify!($t),
            size: $size,
            length: $crate::spec::Length::$length($($of)*),
            head: $head,
            most: $most,
        })
    };
    (% $d:ident; $t:ident; $length:ident ($($of:tt)*); $head:literal; $most:expr) => {
        $crate::notation::data!(@ $d; $t; $length($($of)*); $head; $most;
            size_of::<$crate::layout::$t>() as u32)
    };
    ($a:ident; $d:ident; $t:ident) => { $crate::notation::data!(% $d; $t; Fixed(1); 0; u32::MAX) };
    ($a:ident; $d:ident; $t:ident; $n:literal) => { $crate::notation::data!(% $d; $t; Fixed($n); 0; u32::MAX) };
    ($a:ident; $d:ident; $t:ident; $n:ident) => {
        $crate::notation::data!(% $d; $t; Argument($a::$n as u8); 0; u32::MAX)
    };
    ($a:ident; $d:ident; $t:ident; $n:ident, most $most:literal) => {
        $crate::notation::data!(% $d; $t; Argument($a::$n as u8); 0; $most)
    };
    ($a:ident; $d:ident; $t:ident; $head:literal + $n:ident) => {
        $crate::notation::data!(% $d; $t; Argument($a::$n as u8); $head; u32::MAX)
    };
    ($a:ident; $d:ident; $t:ident; ret <= $n:ident) => {
        $crate::notation::data!(% $d; $t; Returned($a::$n as u8); 0; u32::MAX)
    };
    ($a:ident; $d:ident; $t:ident; ret <= $n:ident, most $most:literal) => {
        $crate::notation::data!(% $d; $t; Returned($a::$n as u8); 0; $most)
    };
    ($a:ident; $d:ident; $t:ident; $head:literal + ret <= $n:ident) => {
        $crate::notation::data!(% $d; $t; Returned($a::$n as u8); $head; u32::MAX)
    };
    ($a:ident; $d:ident; $t:ident; * $n:ident) => {
        $crate::notation::data!(% $d; $t; Pointee($a::$n as u8); 0; u32::MAX)
    };
    ($a:ident; $d:ident; $t:ident; * $n:ident, most $most:literal) => {
        $crate::notation::data!(% $d; $t; Pointee($a::$n as u8); 0; $most)
    };
}

macro_rules! call {
    (itself, $number:literal) => {
        $number
    };
    ($call:literal, $number:literal) => {
        $call
    };
}

macro_rules! when {
    () => {
        $crate::spec::When::Success
    };
    (always) => {
        $crate::spec::When::Always
    };
    (interrupted) => {
        $crate::spec::When::Interrupted
    };
    (positive) => {
        $crate::spec::When::Above(0)
    };
}

macro_rules! outcome {
    () => {
        $crate::spec::Outcome::Value
    };
    (Fd) => {
        $crate::spec::Outcome::Fd
    };
}

macro_rules! place {
    (here) => {
        $crate::spec::Place::Here
    };
    (both) => {
        $crate::spec::Place::Both
    };
    (cached) => {
        $crate::spec::Place::Cached
    };
    (home) => {
        $crate::spec::Place::Home
    };
    (own) => {
        $crate::spec::Place::Own
    };
    (homeward) => {
        $crate::spec::Place::Homeward
    };
}

macro_rules! note {
    () => {
        ""
    };
    ($note:literal) => {
        $note
    };
}

macro_rules! case {
    ($a:ident; $n:ident by $list:ident) => {
        $crate::spec::Case::By($crate::spec::Commands {
            argument: $a::$n as u8, mask: u32::MAX, list: $crate::table::$list,
        })
    };
    ($a:ident; $n:ident & $mask:literal by $list:ident) => {
        $crate::spec::Case::By($crate::spec::Commands {
            argument: $a::$n as u8, mask: $mask, list: $crate::table::$list,
        })
    };
    ($a:ident; $($rest:tt)*) => { $crate::notation::conditions!($a; []; $($rest)*) };
}

macro_rules! conditions {
    ($a:ident; [$($done:tt)*]; $n:ident == $v:literal $($rest:tt)*) => {
        $crate::notation::conditions!($a; [$($done)* ($a::$n as u8, u64::MAX, [$v]),]; @ $($rest)*)
    };
    ($a:ident; [$($done:tt)*]; $n:ident in ($($v:literal),*) $($rest:tt)*) => {
        $crate::notation::conditions!($a; [$($done)* ($a::$n as u8, u64::MAX, [$($v),*]),]; @ $($rest)*)
    };
    ($a:ident; [$($done:tt)*]; $n:ident & $mask:literal == $v:literal $($rest:tt)*) => {
        $crate::notation::conditions!($a; [$($done)* ($a::$n as u8, $mask, [$v]),]; @ $($rest)*)
    };
    ($a:ident; [$($done:tt)*]; @ , $($rest:tt)*) => { $crate::notation::conditions!($a; [$($done)*]; $($rest)*) };
    ($a:ident; [$( ($n:expr, $mask:expr, [$($v:literal),*]), )*]; @ => $place:ident) => {
        $crate::spec::Case::When(
            &[ $( $crate::spec::Condition {
                argument: $n, mask: $mask, values: &[$($v),*],
            } ),* ],
            $crate::notation::place!($place),
        )
    };
}

pub(crate) use {call, case, conditions, counted, data, kind, note, outcome, place, syscalls, when};

use crate::spec::{Case, Kind, Length, Spec};

/// What the compiler checks of every table: numbers ascend, no more than six arguments, lengths are numbers (or
/// pointers to numbers).
pub(crate) const fn check(table: &[Spec]) {
    let mut line = 0;
    while line < table.len() {
        let spec = &table[line];
        assert!(
            line == 0 || table[line - 1].number < spec.number,
            "numbers must ascend, and none may come twice"
        );
        assert!(spec.arguments.len() <= 6, "a call has at most six arguments");
        let mut index = 0;
        while index < spec.arguments.len() {
            check_length(spec, spec.arguments[index].kind);
            index += 1;
        }
        let mut case = 0;
        while case < spec.cases.len() {
            if let Case::By(commands) = &spec.cases[case] {
                let selects_by_number =
                    matches!(spec.arguments[commands.argument as usize].kind, Kind::Value(_));
                assert!(selects_by_number, "a sub-table is selected by a number");
            }
            case += 1;
        }
        line += 1;
    }
}

const fn check_length(spec: &Spec, kind: Kind) {
    let counter = match kind {
        Kind::Vector(_, n) | Kind::Messages(_, n) | Kind::Bits(n) => n,
        Kind::Data(data) => match data.length {
            Length::Argument(n) | Length::Returned(n) | Length::Exactly(_, n) | Length::Encoded(n) => n,
            Length::Pointee(n) => {
                let Kind::Data(counter) = spec.arguments[n as usize].kind else {
                    panic!("the length behind a pointer must be described as data");
                };
                assert!(
                    counter.direction.is_read() && counter.size == 4,
                    "it must be one 32-bit number, read"
                );
                return;
            }
            Length::Fixed(_) => return,
        },
        _ => return,
    };
    assert!(matches!(spec.arguments[counter as usize].kind, Kind::Value(_)), "a length must be a number");
}

#[cfg(test)]
mod test {
    use super::check;
    use crate::spec::{Argument, Direction, Format, Kind, Marks, Outcome, Place, Spec, When};

    fn spec(number: u32, arguments: &'static [Argument]) -> Spec {
        Spec {
            number,
            call: number,
            name: "test",
            arguments,
            outcome: Outcome::Value,
            cases: &[],
            otherwise: Place::Home,
            marks: Marks::NONE,
            note: "",
        }
    }

    const fn argument(kind: Kind) -> Argument {
        Argument { name: "argument", kind, when: When::Success }
    }

    #[test]
    fn ascending_numbers_are_accepted() {
        check(&[spec(1, &[]), spec(2, &[]), spec(5, &[])]);
    }

    #[test]
    #[should_panic(expected = "none may come twice")]
    fn a_number_comes_only_once() {
        check(&[spec(1, &[]), spec(1, &[])]);
    }

    #[test]
    #[should_panic(expected = "numbers must ascend")]
    fn numbers_ascend() {
        check(&[spec(2, &[]), spec(1, &[])]);
    }

    #[test]
    #[should_panic(expected = "a length must be a number")]
    fn a_length_is_a_number() {
        const ARGUMENTS: &[Argument] = &[argument(Kind::Str), argument(Kind::Vector(Direction::In, 0))];
        check(&[spec(1, ARGUMENTS)]);
    }

    #[test]
    #[should_panic(expected = "at most six arguments")]
    fn there_are_six_registers() {
        const ARGUMENTS: &[Argument] = &[argument(Kind::Value(Format::I32)); 7];
        check(&[spec(1, ARGUMENTS)]);
    }
}
