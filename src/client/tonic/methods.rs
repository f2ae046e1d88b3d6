use std::{collections::HashMap, sync::Arc};

use crate::{
    call::{CallPolicy, KeyChoice},
    error::InvalidSetting,
};

/// Policies of methods, `package.Service/Method`, and of services, `package.Service`.
#[derive(Clone, Debug, Default)]
pub(super) struct Methods(Arc<HashMap<String, CallPolicy>>);

impl Methods {
    /// Checks names and policies, and fills what a method leaves open with its service's.
    ///
    /// # Errors
    /// A name that no method can have, a value out of range, or a key, which belongs to one call.
    pub(super) fn try_new(named: Vec<(String, CallPolicy)>) -> Result<Self, InvalidSetting> {
        let mut policies = HashMap::new();
        for (name, policy) in named {
            check_name(&name)?;
            policy.check()?;
            if let KeyChoice::Given(_) = policy.key_choice() {
                let allowed = "a policy without an idempotency key, which belongs to one call";
                return Err(InvalidSetting::new("ClientBuilder::method", name, allowed));
            }
            policies.insert(name, policy);
        }
        let services = policies.clone();
        for (name, policy) in &mut policies {
            let service = name
                .split_once('/')
                .and_then(|(service, _)| services.get(service));
            if let Some(service) = service {
                *policy = policy.clone().over(service);
            }
        }
        Ok(Self(Arc::new(policies)))
    }

    /// What is said of the method of this path, or else of its service; a generated client's own origin may put a
    /// prefix before both.
    pub(super) fn of(&self, path: &str) -> Option<&CallPolicy> {
        if self.0.is_empty() {
            return None;
        }
        let (before, method) = path.rsplit_once('/')?;
        let (_, service) = before.rsplit_once('/')?;
        let name = &path[path.len() - method.len() - 1 - service.len()..];
        self.0.get(name).or_else(|| self.0.get(service))
    }
}

fn check_name(name: &str) -> Result<(), InvalidSetting> {
    let (service, method) = name.split_once('/').unwrap_or((name, "Method"));
    let is_word = |word: &str| {
        let mut letters = word.chars();
        letters
            .next()
            .is_some_and(|first| first == '_' || first.is_ascii_alphabetic())
            && letters.all(|letter| letter == '_' || letter.is_ascii_alphanumeric())
    };
    if service.split('.').all(is_word) && is_word(method) {
        return Ok(());
    }
    let allowed = "package.Service/Method, or package.Service for all of its methods";
    Err(InvalidSetting::new("ClientBuilder::method", name, allowed))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn methods(named: &[(&str, CallPolicy)]) -> Result<Methods, InvalidSetting> {
        let owned = named
            .iter()
            .map(|(name, policy)| ((*name).to_owned(), policy.clone()));
        Methods::try_new(owned.collect())
    }

    #[test]
    fn a_method_goes_before_its_service_and_other_services_have_no_policy() {
        let limit = Duration::from_secs(1);
        let methods = methods(&[
            ("shop.Cart/Add", CallPolicy::new().idempotent(true)),
            (
                "shop.Cart",
                CallPolicy::new().idempotent(false).deadline(limit),
            ),
        ])
        .expect("valid");
        let add = methods.of("/shop.Cart/Add").expect("named");
        assert_eq!(add.idempotent_given(), Some(true));
        assert_eq!(add.deadline_given(), Some(limit), "the service's");
        let list = methods.of("/shop.Cart/List").expect("its service is named");
        assert_eq!(list.idempotent_given(), Some(false));
        for other in [
            "/shop.Carts/Add",
            "/Cart/Add",
            "shop.Cart/Add",
            "/",
            "",
            "//",
            "/shop.Cart",
        ] {
            assert!(methods.of(other).is_none(), "{other}");
        }
        let prefixed = methods.of("/grpc/v1/shop.Cart/Add").expect("named");
        assert_eq!(prefixed.idempotent_given(), Some(true));
    }

    #[test]
    fn names_and_policies_that_cannot_be_are_refused() {
        for name in [
            "",
            "/shop.Cart/Add",
            "shop.Cart/",
            "shop..Cart/Add",
            "shop.Cart/Add/",
            "a b/C",
            "*",
        ] {
            let error = methods(&[(name, CallPolicy::new())]).expect_err(name);
            assert!(
                error.to_string().contains("package.Service/Method"),
                "{error}"
            );
        }
        for policy in [
            CallPolicy::new().idempotency_key("k"),
            CallPolicy::new().max_attempts(0),
        ] {
            assert!(methods(&[("shop.Cart/Add", policy)]).is_err());
        }
        assert!(
            methods(&[
                ("Cart", CallPolicy::new()),
                ("_a1.B_2/c", CallPolicy::new())
            ])
            .is_ok()
        );
    }
}
