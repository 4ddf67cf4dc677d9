//! Which Ingresses are ours, and which pool serves them (rules I-4 to I-6).
//!
//! Ingress + IngressClasses + policy → class name → pool. Nothing here applies a default class: that is done by
//! admission when an Ingress is created (rule I-5), and doing it later would change owners behind people's backs.

use std::sync::Arc;

use crate::id::PoolName;
use crate::object::{Ingress, IngressClass};
use crate::policy::{CONTROLLER_NAME, Policy};
use crate::rules::{self, Rule};

/// The older way to name a class; it decides if present (rule I-4).
pub const CLASS_ANNOTATION: &str = "kubernetes.io/ingress.class";

/// `apiGroup` and `kind` of IngressClass parameters that name a pool.
const PARAMETERS_API_GROUP: &str = "roadstead.dev";
const PARAMETERS_KIND: &str = "Pool";

/// Why a managed Ingress is not served.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum NoPool {
    #[error("class {class} names pool {pool}, which the policy does not have")]
    Unknown { class: Arc<str>, pool: PoolName },
    #[error("class {class} names no pool and the policy has no default pool")]
    NoDefault { class: Arc<str> },
}

/// The name an Ingress chooses its class by, and whether by annotation.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Choice<'a> {
    pub class: &'a Arc<str>,
    pub by: ChosenBy,
}

#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum ChosenBy {
    Annotation,
    Field,
}

/// The class that decides about `ingress`: the annotation if present, else the field. `None` if it names none.
pub fn choice(ingress: &Ingress) -> Option<Choice<'_>> {
    let by_annotation =
        ingress.annotations.get(CLASS_ANNOTATION).map(|class| Choice { class, by: ChosenBy::Annotation });
    let by_field = ingress.class_name.as_ref().map(|class| Choice { class, by: ChosenBy::Field });
    if rules::on(Rule::ClassAnnotationFirst) { by_annotation.or(by_field) } else { by_field.or(by_annotation) }
}

/// The class name that makes `ingress` ours (rule I-4), `None` if it is unmanaged.
///
/// `object` finds an IngressClass of the Ingress's cluster. `named` says whether the policy lists a class, which
/// makes it ours whatever its controller; chosen by field, the IngressClass must exist all the same.
pub fn managed<'a>(
    ingress: &Ingress,
    object: impl Fn(&str) -> Option<&'a IngressClass>,
    named: impl Fn(&str) -> bool,
) -> Option<Arc<str>> {
    let Choice { class, by } = choice(ingress)?;
    let found = object(class);
    let ours = found.is_some_and(|object| &*object.controller == CONTROLLER_NAME) || named(class);
    let exists = found.is_some() || by == ChosenBy::Annotation || !rules::on(Rule::ClassMustExist);
    (ours && exists).then(|| class.clone())
}

/// The pool that serves a class: the IngressClass's parameters, else the policy's `classes:`, else the default
/// pool. The result always exists in the policy.
pub fn pool_of(class: &Arc<str>, object: Option<&IngressClass>, policy: &Policy) -> Result<PoolName, NoPool> {
    let by_parameters = object
        .and_then(|object| object.parameters.as_ref())
        .filter(|parameters| &*parameters.api_group == PARAMETERS_API_GROUP && &*parameters.kind == PARAMETERS_KIND);
    let pool = match by_parameters {
        Some(parameters) => PoolName::new(parameters.name.clone()),
        None => match policy.classes.get(&**class) {
            Some(binding) => binding.pool.clone(),
            None => policy.default_pool().cloned().ok_or_else(|| NoPool::NoDefault { class: class.clone() })?,
        },
    };
    if policy.pools.contains_key(&pool) { Ok(pool) } else { Err(NoPool::Unknown { class: class.clone(), pool }) }
}
