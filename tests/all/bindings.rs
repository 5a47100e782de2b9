//! The generated bindings of the guest SDK.

use std::process::Command;

use crate::support::harness::root;

#[test]
fn committed_bindings_are_those_of_the_contract() {
    let mut check = Command::new(env!("CARGO"));
    check.current_dir(root()).args(["run", "--quiet", "--locked", "-p", "sdk-bindings", "--", "--check"]);
    let output = check.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
}
