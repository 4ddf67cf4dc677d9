//! Every rule is held by a case: switching it the wrong way must make at least one fail.

use crate::rules::{self, Rule};

use super::cases::all_failures;

#[test]
fn each_rule_switched_the_wrong_way_fails_a_case() {
    assert_eq!(all_failures(), Vec::<String>::new(), "with all rules on");
    let unnoticed: Vec<_> = Rule::ALL.iter().filter(|rule| rules::without(**rule, all_failures).is_empty()).collect();
    assert!(unnoticed.is_empty(), "no case fails without {unnoticed:?}");
}

#[test]
fn switches_are_back_on_afterwards() {
    rules::without(Rule::OldestWins, || assert!(!rules::on(Rule::OldestWins)));
    assert!(Rule::ALL.iter().all(|rule| rules::on(*rule)));
    assert!(Rule::ALL.len() >= 20);
}
