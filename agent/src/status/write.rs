//! Sends [`StatusWrite`]s to the Kubernetes API.

use kube::Client;
use kube::api::{Api, DynamicObject, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use super::{FIELD_MANAGER, StatusWrite};

/// Applies one status. An Ingress that is gone by now needs none.
///
/// # Errors
/// Whatever the API answers.
pub async fn write(client: &Client, write: &StatusWrite) -> Result<(), kube::Error> {
    let resource =
        ApiResource::from_gvk_with_plural(&GroupVersionKind::gvk("networking.k8s.io", "v1", "Ingress"), "ingresses");
    let api: Api<DynamicObject> = Api::namespaced_with(client.clone(), &write.ingress.namespace, &resource);
    let params = PatchParams::apply(FIELD_MANAGER).force();
    match api.patch_status(&write.ingress.name, &params, &Patch::Apply(body(write))).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error),
    }
}

/// Applying without a field that we own gives it up; the API server removes it if nobody else owns it.
fn body(write: &StatusWrite) -> Value {
    let mut body = json!({
        "apiVersion": "networking.k8s.io/v1",
        "kind": "Ingress",
        "metadata": {"name": &*write.ingress.name, "namespace": &*write.ingress.namespace},
    });
    if !write.addresses.is_empty() {
        let entries: Vec<Value> = write.addresses.iter().map(super::Address::to_json).collect();
        body["status"] = json!({"loadBalancer": {"ingress": entries}});
    }
    body
}
