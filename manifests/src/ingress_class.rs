//! IngressClass → routing's.

use std::sync::Arc;

use k8s_openapi::api::networking::v1 as api;
use roadstead_routing::object::{ClassParameters, IngressClass, Object};

use crate::meta::{meta, text};

pub(crate) fn convert(class: &api::IngressClass) -> Object {
    let spec = class.spec.as_ref();
    let parameters = spec.and_then(|spec| spec.parameters.as_ref()).map(|parameters| ClassParameters {
        api_group: text(parameters.api_group.as_deref()),
        kind: parameters.kind.as_str().into(),
        name: parameters.name.as_str().into(),
    });
    Object::IngressClass(Arc::new(IngressClass {
        name: text(class.metadata.name.as_deref()),
        meta: meta(&class.metadata),
        controller: text(spec.and_then(|spec| spec.controller.as_deref())),
        parameters,
    }))
}
