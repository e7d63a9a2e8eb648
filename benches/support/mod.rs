//! Times a piece of work: the best of several rounds, printed on one line.

use std::time::{Duration, Instant};

/// Runs `work` for at least two seconds and five rounds, and prints the best time.
///
/// `bytes` is how much one round handles, where a rate makes sense.
#[expect(clippy::print_stdout, reason = "printing is what a bench is for")]
pub(crate) fn measure(name: &str, bytes: Option<u64>, mut work: impl FnMut()) {
    let (begun, mut best, mut rounds) = (Instant::now(), Duration::MAX, 0);
    while rounds < 5 || begun.elapsed() < Duration::from_secs(2) {
        let round = Instant::now();
        work();
        best = best.min(round.elapsed());
        rounds += 1;
    }
    let rate = bytes.map(|bytes| megabytes_a_second(bytes, best)).unwrap_or_default();
    println!("{name:32} {:>10.3} ms{rate}", best.as_secs_f64() * 1000.0);
}

#[expect(clippy::cast_precision_loss, reason = "a rate for people needs no 53 bits")]
fn megabytes_a_second(bytes: u64, time: Duration) -> String {
    format!("  {:>8.1} MB/s", bytes as f64 / 1e6 / time.as_secs_f64())
}
