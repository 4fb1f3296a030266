// SPDX-License-Identifier: MIT OR Apache-2.0
//! Comparing censuses: how many objects the host still holds for this guest.
//!
//! A census is a JSON object of numbers, possibly nested. A loaded but idle driver holds a few
//! objects of its own (the adapter it opened); a plan has them remembered by `census baseline`.
//! After that, whatever is more than the baseline is a leak.

use std::collections::BTreeMap;

use serde_json::Value;

/// Members of a census that describe, and are no live objects.
const NOT_OBJECTS: &[&str] = &["schema", "luid"];

/// Numbers of live objects by their path in the census.
pub type Counts = BTreeMap<String, u64>;

/// Flattens a census.
pub fn counts(census: &Value) -> Counts {
    let mut counts = Counts::new();
    collect(census, "", &mut counts);
    counts
}

fn collect(value: &Value, path: &str, counts: &mut Counts) {
    let join = |name: &str| match path {
        "" => name.to_owned(),
        _ => format!("{path}.{name}"),
    };
    match value {
        Value::Number(number) => {
            // What is no count must not look like zero.
            counts.insert(path.to_owned(), number.as_u64().unwrap_or(u64::MAX));
        }
        Value::Object(members) => {
            for (name, member) in members {
                if !NOT_OBJECTS.contains(&name.as_str()) {
                    collect(member, &join(name), counts);
                }
            }
        }
        Value::Array(elements) => {
            for (index, element) in elements.iter().enumerate() {
                collect(element, &join(&index.to_string()), counts);
            }
        }
        Value::Null | Value::Bool(_) | Value::String(_) => {}
    }
}

/// What `census` has beyond `baseline`, in words; `None` if nothing.
pub fn excess(census: &Value, baseline: &Counts) -> Option<String> {
    let leaks: Vec<String> = counts(census)
        .into_iter()
        .filter_map(|(path, count)| {
            let idle = baseline.get(&path).copied().unwrap_or(0);
            (count > idle).then(|| format!("{path} {count} (idle {idle})"))
        })
        .collect();
    (!leaks.is_empty()).then(|| leaks.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    /// Proves that an idle state is no leak, one object more is, and so is one of a new kind.
    #[test]
    fn leaks_are_named() {
        let idle = json!({"vgpus": [{"luid": 77, "adapters": 1, "fences": 0}], "schema": 1});
        let baseline = counts(&idle);
        assert_eq!(excess(&idle, &baseline), None);
        let busy = json!({"vgpus": [{"luid": 77, "adapters": 1, "fences": 2, "new": 1}]});
        assert_eq!(
            excess(&busy, &baseline).unwrap(),
            "vgpus.0.fences 2 (idle 0), vgpus.0.new 1 (idle 0)"
        );
    }

    /// Proves that without a baseline every live object is a leak, and that fewer objects than
    /// idle are none.
    #[test]
    fn no_baseline_means_zero() {
        let census = json!({"adapters": 1});
        assert!(excess(&census, &Counts::new()).is_some());
        assert_eq!(excess(&json!({"adapters": 0}), &counts(&census)), None);
    }
}
