//! A liar between two nodes: `liar LISTEN TARGET HOME_KEYS HOST_KEYS LIE`.

use std::process::ExitCode;

use minka_faults_tests::liar::Liar;

fn main() -> ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [listen, target, home, host, lie] = &arguments[..] else { return ExitCode::from(2) };
    let (Ok(listen), Ok(target)) = (listen.parse(), target.parse()) else { return ExitCode::from(2) };
    let Some(liar) = Liar::new(listen, target, home.as_ref(), host.as_ref(), lie) else {
        return ExitCode::from(2);
    };
    match liar.serve() {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("liar: {error}");
            ExitCode::FAILURE
        }
    }
}
