//! What the watch shows of an Ingress's status: JSON of any shape → [`StatusSeen`].

use serde_json::Value;

use super::{Address, FIELD_MANAGER};

#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct StatusSeen {
    /// `status.loadBalancer.ingress`; `None` where an entry has a form we never write.
    pub addresses: Vec<Option<Address>>,
    /// Whether `managedFields` says that we applied the status.
    pub ours: bool,
    /// Another manager that wrote the status last, for people.
    pub other_manager: Option<String>,
}

impl StatusSeen {
    pub fn of(ingress: &Value) -> Self {
        let entries = ingress.pointer("/status/loadBalancer/ingress").and_then(Value::as_array);
        let managers = ingress.pointer("/metadata/managedFields").and_then(Value::as_array);
        let text = |entry: &Value, field: &str| entry.get(field).and_then(Value::as_str).unwrap_or("").to_owned();
        let mut seen =
            Self { addresses: entries.into_iter().flatten().map(Address::from_json).collect(), ..Self::default() };
        for entry in managers.into_iter().flatten().filter(|entry| text(entry, "subresource") == "status") {
            match text(entry, "manager") {
                manager if manager == FIELD_MANAGER => seen.ours |= text(entry, "operation") == "Apply",
                manager => seen.other_manager = Some(manager),
            }
        }
        seen
    }

    pub(super) fn shows(&self, wish: &[Address]) -> bool {
        self.addresses.len() == wish.len()
            && self.addresses.iter().zip(wish).all(|(seen, wish)| seen.as_ref() == Some(wish))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn addresses_and_owners_are_read() {
        let seen = StatusSeen::of(&json!({
            "metadata": {"managedFields": [
                {"manager": "kubectl", "operation": "Apply"},
                {"manager": "nginx", "operation": "Update", "subresource": "status"},
                {"manager": FIELD_MANAGER, "operation": "Apply", "subresource": "status"},
            ]},
            "status": {"loadBalancer": {"ingress": [{"ip": "203.0.113.10"}, {"hostname": "a.example.com"}]}},
        }));
        assert!(seen.ours);
        assert_eq!(seen.other_manager.as_deref(), Some("nginx"));
        assert!(seen.shows(&[Address::parse("203.0.113.10").unwrap(), Address::parse("a.example.com").unwrap()]));
        assert!(!seen.shows(&[Address::parse("203.0.113.10").unwrap()]));
    }

    #[test]
    fn any_shape_is_tolerated() {
        for value in [json!(null), json!({"status": 7}), json!({"metadata": {"managedFields": [1, {"manager": {}}]}})] {
            assert!(!StatusSeen::of(&value).ours, "{value}");
        }
        let odd = StatusSeen::of(&json!({"status": {"loadBalancer": {"ingress": [3]}}}));
        assert!(!odd.shows(&[]), "an entry we cannot read is still an entry");
    }
}
