//! What the person who runs it reads: on stderr, so that stdout stays free for results.

use std::time::Instant;

pub fn line(text: &str) {
    #[expect(clippy::print_stderr, reason = "progress for the person who runs it")]
    {
        eprintln!("{text}");
    }
}

/// Says what is being done, and how long it took when it is done.
pub async fn step<T>(what: &str, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let start = Instant::now();
    let result = work.await;
    let outcome = if result.is_ok() { "✓" } else { "✗" };
    line(&format!("  {outcome} {what} ({:.1} s)", start.elapsed().as_secs_f32()));
    result
}
