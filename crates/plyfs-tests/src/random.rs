//! Random cases that can be run again: one seed for a run, named when something fails.

use proptest::strategy::Strategy;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

/// The seed of this run: $PLYFS_SEED, else 1, so that two runs of one tree are alike.
pub fn seed() -> u64 {
    number("PLYFS_SEED", 1)
}

/// A number from the environment.
pub fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Tries `cases` (times $PLYFS_CASES per cent, if set) values of `strategy`; panics with the smallest failing one.
///
/// # Panics
/// If a case fails.
#[track_caller]
pub fn check<S: Strategy>(cases: u32, strategy: &S, test: impl Fn(S::Value) -> Result<(), String>)
where
    S::Value: std::fmt::Debug,
{
    let percent = u32::try_from(number("PLYFS_CASES", 100)).unwrap_or(100);
    let config = Config {
        cases: (cases * percent / 100).max(1),
        failure_persistence: None,
        max_shrink_iters: 2_000,
        ..Config::default()
    };
    let mut bytes = [0_u8; 32];
    bytes[..8].copy_from_slice(&seed().to_le_bytes());
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let outcome = runner.run(strategy, |value| test(value).map_err(TestCaseError::fail));
    match outcome {
        Ok(()) => {}
        Err(TestError::Fail(why, value)) => {
            panic!("seed {} (PLYFS_SEED)\n{why}\nsmallest case: {value:?}", seed())
        }
        Err(other) => panic!("seed {} (PLYFS_SEED): {other}", seed()),
    }
}
