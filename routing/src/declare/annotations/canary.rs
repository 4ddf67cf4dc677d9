//! Canary Ingresses (rows 9, 10; rules C-1 to C-3).

use std::sync::Arc;

use crate::lookup;
use crate::rules::{self, Rule};
use crate::settings::{CanaryRule, HeaderRule, HeaderValue};

use super::reader::Reader;
use super::value;

/// Totals of this or less are ignored (rule C-3).
const WEIGHT_TOTAL: u32 = 100;
const WEIGHT_TOTAL_MAX: u32 = 1_000_000;

/// `None`: not a canary.
pub(super) fn read(reader: &mut Reader<'_, '_>) -> Option<CanaryRule> {
    let is_canary = reader.flag("canary").unwrap_or(false);
    let total = reader.value("canary-weight-total", |it| value::number(it, 1..=WEIGHT_TOTAL_MAX));
    let weight_total =
        total.filter(|total| *total > WEIGHT_TOTAL || !rules::on(Rule::CanaryTotal)).unwrap_or(WEIGHT_TOTAL);
    let weight = reader.value("canary-weight", |it| value::number(it, 0..=WEIGHT_TOTAL_MAX)).unwrap_or(0);
    let name = reader.value("canary-by-header", value::header_name);
    let exact = reader.value("canary-by-header-value", |it| Ok::<Arc<str>, String>(it.into()));
    let pattern = reader.value("canary-by-header-pattern", pattern);
    let value = exact.map(HeaderValue::Exact).or(pattern.map(HeaderValue::Pattern)).unwrap_or(HeaderValue::Switch);
    let header = name.map(|name| HeaderRule { name, value });
    let cookie = reader.value("canary-by-cookie", value::token);
    is_canary.then(|| CanaryRule { header, cookie, weight: weight.min(weight_total), weight_total })
}

/// One that cannot be compiled matches nothing (rule C-2), so it stays: without it `always` would decide.
fn pattern(text: &str) -> Result<Arc<str>, String> {
    if lookup::check_value_pattern(text).is_err() { Ok("$.^".into()) } else { Ok(text.into()) }
}
