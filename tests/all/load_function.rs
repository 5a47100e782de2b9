//! `--load-fn`: a component that computes the worker's load, and components that cannot.

use crate::support::harness::{guest, path, root};
use crate::support::scripted_server::{Server, behind, run, says, stopped};

#[test]
fn custom_load_function_decides_the_load() {
    run(async {
        let server = Server::bind().await;
        let example = root().join("examples/load");
        let flags = ["--load-threshold", "0.000001", "--http", "off", "--load-fn", path(&example)];
        let worker = behind(&server.url(), &[path(&guest("obedient"))]).args(flags).start();
        let mut peer = server.registered().await;
        // The machine does something, and the worst of ten seconds is kept.
        peer.status(true).await;
        let done = stopped(worker, peer).await;
        assert!(done.stderr.contains("cores in use") && done.stderr.contains("agent=\"load\""), "{}", done.stderr);

        let bad = guest("echo");
        let done = behind(&server.url(), &[path(&guest("obedient"))]).args(["--load-fn", path(&bad)]).done();
        done.fails_with(3, &["the load function `", "cannot be used", "hint: it exports `load`"]);
        let done = behind(&server.url(), &[path(&guest("obedient"))]).args(["--load-fn", "nowhere"]).done();
        done.fails_with(3, &["cannot be used: the agent `nowhere` cannot be read: No such file"]);
        let memories = tempfile::NamedTempFile::with_suffix(".wat").unwrap();
        let two = "(component (core module $m (memory 1) (memory 1)) (core instance (instantiate $m)))";
        std::fs::write(memories.path(), two).unwrap();
        let done = behind(&server.url(), &[path(&guest("obedient"))]).args(["--load-fn", path(memories.path())]).done();
        done.fails_with(3, &["the load function `", "cannot be used"]);
    });
}

#[test]
fn looping_load_function_is_replaced_by_the_built_in_load() {
    run(async {
        // The first call, which tries it, returns; the next ones loop.
        let looping = r#"(global $calls (mut i32) (i32.const 0))
            (func (export "load") (param f64 f64 f64 f64 f64 f64 i32 i32) (result f64)
              (global.set $calls (i32.add (global.get $calls) (i32.const 1)))
              (loop $again (br_if $again (i32.gt_u (global.get $calls) (i32.const 1))))
              (f64.const 0.25))"#;
        let component = format!(
            r#"(component
              (core module $m {looping})
              (core instance $i (instantiate $m))
              (type $sample' (record (field "cpu" f64) (field "cores" f64) (field "fuel" f64) (field "fuel-rate" f64)
                (field "memory" f64) (field "memory-bytes" f64) (field "jobs" u32) (field "jobs-max" u32)))
              (import "wasm-worker:agent/load-types@0.1.0" (instance $types (export "sample" (type $sample (eq $sample')))))
              (alias export $types "sample" (type $s))
              (func (export "load") (param "sample" $s) (result f64) (canon lift (core func $i "load"))))"#
        );
        let file = tempfile::NamedTempFile::with_suffix(".wat").unwrap();
        std::fs::write(file.path(), component).unwrap();
        let server = Server::bind().await;
        let worker = behind(&server.url(), &[path(&guest("obedient"))])
            .args(["--http", "off", "--load-fn", path(file.path())])
            .start();
        let mut peer = server.registered().await;
        peer.begin("AJ_1").await;
        says(&worker, "the load function failed").await;
        peer.terminated("AJ_1").await;
        let done = stopped(worker, peer).await;
        assert_eq!(done.exit, 0, "{}", done.stderr);
        assert!(done.stderr.contains("the load function failed, using the worker's own load"), "{}", done.stderr);
    });
}
