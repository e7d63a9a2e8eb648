//! The `coracle` program: everything it does is in the library.

use std::process::ExitCode;

#[cfg(target_env = "musl")]
#[global_allocator]
// musl's own allocator is tens of times slower on the large buffers that every layer goes through.
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() -> ExitCode {
    coracle::cli::run()
}
