//! The coracle program.

use std::process::ExitCode;

fn main() -> ExitCode {
    if std::env::args_os().nth(1).is_some_and(|word| word == coracle::sandbox::CHILD_ARGUMENT) {
        return coracle::sandbox::child_main();
    }
    ExitCode::SUCCESS
}
