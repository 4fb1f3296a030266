// SPDX-License-Identifier: MIT OR Apache-2.0
//! A run passes only if plan, results and console agree.

use super::*;

const PLAN: &str = "# comment\nmodule /modules/vaccel.ko\n\nrun name=smoke -- /bin/smoke run\n";

fn result(index: usize, name: &str, status: &str, exit: Option<i32>) -> String {
    serde_json::json!({"name": name, "data": {"schema": 1, "kind": "run", "index": index,
        "of": 2, "status": status, "seconds": 0.5, "reason": null, "exit": exit,
        "signal": null, "tap": null, "stdout": null, "census": null, "splats": []}})
    .to_string()
        + "\n"
}

fn verdict() -> &'static str {
    "{\"name\":\"verdict\",\"data\":{\"schema\":1,\"kind\":\"verdict\",\"passed\":2,\"total\":2}}\n"
}

fn good() -> (String, String) {
    let results =
        result(1, "vaccel.ko", "pass", None) + &result(2, "smoke", "pass", Some(0)) + verdict();
    ("hello\nVACCEL-VERDICT: pass 2/2\n".into(), results)
}

fn passes(run: &Judged) -> bool {
    run.problems.is_empty() && run.tests.iter().all(|t| t.status != Status::Fail)
}

/// The ordinary case.
#[test]
fn complete_run_passes() {
    let (console, results) = good();
    let run = judge(PLAN, &console, &results);
    assert!(passes(&run), "{run:?}");
    assert_eq!(run.tests.len(), 2);
}

/// Figures between the steps are documents, not steps.
#[test]
fn figures() {
    let (console, results) = good();
    let figures = "{\"name\":\"matrix\",\"data\":{\"ok\":true,\"counts\":{\"tries\":3}}}\n";
    let run = judge(PLAN, &console, &(figures.to_owned() + &results));
    assert!(passes(&run), "{run:?}");
    assert_eq!(run.tests.len(), 2);
    let (name, figures) = &run.documents[0];
    assert_eq!(
        (name.as_str(), &figures["counts"]["tries"]),
        ("matrix", &3.into())
    );
}

/// A guest that stopped half way: the missing steps are failures.
#[test]
fn missing_results_fail() {
    let (console, _) = good();
    let run = judge(PLAN, &console, &result(1, "vaccel.ko", "pass", None));
    assert_eq!(run.tests.len(), 2);
    assert_eq!(run.tests[1].detail.as_deref(), Some("no verdict"));
    let nothing = judge(PLAN, "", "");
    assert!(!passes(&nothing));
    assert_eq!(nothing.tests.len(), 2);
}

/// No verdict, two verdicts, a wrong one: each fails the run.
#[test]
fn exactly_one_good_verdict() {
    let (console, results) = good();
    for bad in [
        String::new(),
        console.repeat(2),
        console.replace("pass", "fail"),
    ] {
        assert!(!passes(&judge(PLAN, &bad, &results)), "{bad}");
    }
}

/// A splat fails a run whose tests all passed, unless the plan allows it.
#[test]
fn splat_fails_the_run() {
    let (console, results) = good();
    let console = format!("[ 1.0] BUG: KASAN: use-after-free\n{console}");
    assert!(!passes(&judge(PLAN, &console, &results)));
    let plan = format!("allow KASAN: use\n{PLAN}");
    let run = judge(&plan, &console, &results);
    assert!(run.problems.is_empty(), "{run:?}");
}

/// A result out of order, or twice, shows.
#[test]
fn results_come_in_order_and_once() {
    let (console, results) = good();
    let twice = result(1, "vaccel.ko", "pass", None) + &results;
    assert!(!passes(&judge(PLAN, &console, &twice)));
}

/// Results of a TAP program count one by one, also when its output was cut.
#[test]
fn tap_results_count_one_by_one() {
    let line = |stdout: &str| {
        serde_json::json!({"name": "self", "data": {"kind": "run", "index": 1, "of": 1,
            "status": "fail", "seconds": 1.0, "reason": "1 failed", "exit": 1,
            "tap": {"plan": 3, "passed": 2, "failed": 1, "skipped": 0, "failures": ["c"]},
            "stdout": stdout}})
        .to_string()
    };
    let plan = "run -- /bin/self\n";
    for stdout in ["ok 1 a\nok 2 b\nnot ok 3 c\n", "not ok 3 c\n"] {
        let run = judge(plan, "VACCEL-VERDICT: fail 0/1\n", &line(stdout));
        let failed: Vec<_> = run
            .tests
            .iter()
            .filter(|t| t.status == Status::Fail)
            .map(|t| t.name.as_str())
            .collect();
        assert_eq!(run.tests.len(), 3, "{stdout}");
        assert_eq!(failed, ["1 run self: c"]);
    }
}

/// The broken run passes only if the named step, and no other, found the wrong
/// result.
#[test]
fn broken_run_must_fail_in_the_right_place() {
    let console = "VACCEL-VERDICT: fail 1/2\n";
    let results = |status: &str, exit| {
        result(1, "vaccel.ko", "pass", None) + &result(2, "smoke", status, exit) + verdict()
    };
    let right = judge_broken(PLAN, console, &results("fail", Some(1)), "smoke");
    assert!(passes(&right), "{right:?}");
    // It was not noticed.
    let (good_console, good_results) = good();
    assert!(!passes(&judge_broken(
        PLAN,
        &good_console,
        &good_results,
        "smoke"
    )));
    // It failed for another reason (no device, usage, a signal).
    for exit in [Some(77), Some(2), None] {
        assert!(!passes(&judge_broken(
            PLAN,
            console,
            &results("fail", exit),
            "smoke"
        )));
    }
    // Something else failed.
    assert!(!passes(&judge_broken(
        PLAN,
        console,
        &results("fail", Some(1)),
        "other"
    )));
}
