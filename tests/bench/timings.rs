//! How long things take, each beside what one would do without this worker: `cargo bench --bench timings`.
#![allow(clippy::unwrap_used, clippy::panic, reason = "a bench that cannot run says why by panicking")]

mod common;

use std::sync::OnceLock;

use common::{Worker, bare, bare_job, table};
use divan::Bencher;
use divan::counter::ItemsCount;
use wasm_worker_fuzz::core_guest;
use wasm_worker_sandbox::agent::artifact::Cache;

const CALLS: u32 = 100_000;

fn main() {
    divan::main();
}

fn worker() -> &'static Worker {
    static WORKER: OnceLock<Worker> = OnceLock::new();
    WORKER.get_or_init(|| Worker::new(64, &[]))
}

/// Jobs run `prewarm` themselves.
fn without_snapshots() -> &'static Worker {
    static WORKER: OnceLock<Worker> = OnceLock::new();
    WORKER.get_or_init(|| Worker::new(64, &[("prewarm", "pool"), ("idle", "0")]))
}

fn whole_jobs(bencher: Bencher, worker: &Worker, lines: &str) {
    let agent = worker.load(&core_guest::component(lines), None);
    bencher.bench_local(|| worker.runtimes.block_on(worker.job(&agent)));
}

#[divan::bench_group]
mod a_whole_job {
    use super::*;

    #[divan::bench]
    fn in_the_worker(bencher: Bencher) {
        whole_jobs(bencher, worker(), "");
    }

    #[divan::bench]
    fn bare_instance_and_call(bencher: Bencher) {
        let pre = bare("", 1_000);
        bencher.bench_local(|| bare_job(&pre));
    }
}

#[divan::bench_group]
mod a_job_with_a_table_of_mib {
    use super::*;

    #[divan::bench(args = [1, 8, 64])]
    fn from_the_snapshot(bencher: Bencher, mebibytes: u32) {
        whole_jobs(bencher, worker(), &table(mebibytes));
    }

    #[divan::bench(args = [1, 8, 64], sample_count = 20)]
    fn made_in_each_job(bencher: Bencher, mebibytes: u32) {
        whole_jobs(bencher, without_snapshots(), &table(mebibytes));
    }
}

#[divan::bench_group]
mod host_calls {
    use super::*;

    /// The calls as the body of an export that begins and ends like this.
    fn calling(begin: &str, end: &str) -> String {
        format!(
            r#"(import "wasi:clocks/monotonic-clock@0.2.12" "now" (func $now (result i64)))
            (func {begin}
              (local $left i32)
              (local.set $left (i32.const {CALLS}))
              (loop $more
                (drop (call $now))
                (local.set $left (i32.sub (local.get $left) (i32.const 1)))
                (br_if $more (local.get $left)))
              {end})"#
        )
    }

    #[divan::bench]
    fn in_the_worker(bencher: Bencher) {
        whole_jobs(
            bencher.counter(ItemsCount::new(CALLS)),
            worker(),
            &calling(r#"(export "resume") (param f64 i32 i32)"#, "(call $ok)"),
        );
    }

    #[divan::bench]
    fn bare_and_empty(bencher: Bencher) {
        let pre = bare(&calling(r#"(export "prewarm") (result i32)"#, "(i32.const 16)"), 1_000);
        bencher.counter(ItemsCount::new(CALLS)).bench_local(|| bare_job(&pre));
    }
}

#[divan::bench_group(sample_count = 20)]
mod loading {
    use super::*;

    #[divan::bench]
    fn compiled_and_snapshotted(bencher: Bencher) {
        let component = core_guest::component(&table(8));
        bencher.bench_local(|| worker().load(&component, None));
    }

    #[divan::bench]
    fn from_the_cache(bencher: Bencher) {
        let component = core_guest::component(&table(8));
        let dir = tempfile::tempdir().unwrap();
        let cache = Cache::open(dir.path()).unwrap();
        worker().load(&component, Some(&cache));
        bencher.bench_local(|| worker().load(&component, Some(&cache)));
    }
}
