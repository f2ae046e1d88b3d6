//! Where a request goes: the URL that a caller wrote, checked and joined.

use std::{any::Any, sync::Arc, time::Duration};

use http::{Request, Uri};
use url::Url;

use crate::{call::Body, discover::Origin, error::InvalidSetting};

/// What the client's edge knows of a request beyond http's types, for the adapter below the layers.
#[derive(Clone, Debug)]
pub(super) struct Known {
    /// The URL in parsed form, which spares each attempt a second parse.
    pub(super) url: Url,
    /// The total time that `reqwest::Request::timeout_mut` set.
    pub(super) timeout: Option<Duration>,
}

impl Known {
    /// Sends it along: in the body, where it costs one allocation, or in the extensions, which a stream that is
    /// recorded keeps and its body does not.
    pub(super) fn attach(self, request: &mut Request<Body>) {
        let this = Arc::new(self);
        if request.body().as_bytes().is_some() {
            request.body_mut().set_edge(this);
        } else {
            request.extensions_mut().insert(this);
        }
    }

    /// What was sent along with this request.
    pub(super) fn find<B: 'static>(request: &Request<B>) -> Option<Arc<Self>> {
        let ours = (request.body() as &dyn Any).downcast_ref::<Body>();
        let edge = ours.and_then(Body::edge).map(Arc::clone);
        edge.and_then(|edge| edge.downcast().ok())
            .or_else(|| request.extensions().get().cloned())
    }

    /// Whether this still is the URL of `uri`: a layer in between may have changed it.
    pub(super) fn is_of(&self, uri: &Uri) -> bool {
        let (Some(scheme), Some(authority), Some(path)) =
            (uri.scheme_str(), uri.authority(), uri.path_and_query())
        else {
            return false;
        };
        let rest = self
            .url
            .as_str()
            .strip_prefix(scheme)
            .and_then(|rest| rest.strip_prefix("://"));
        rest.and_then(|rest| rest.strip_prefix(authority.as_str())) == Some(path.as_str())
    }
}

/// The origin of a client whose calls all go there.
#[derive(Clone, Debug)]
pub(super) struct Home {
    origin: Origin,
    url: Url,
}

impl Home {
    /// # Errors
    ///
    /// If the origin's host cannot stand in a URL.
    pub(super) fn new(origin: Origin) -> Result<Self, InvalidSetting> {
        match Url::parse(&origin.to_string()) {
            Ok(url) => Ok(Self { origin, url }),
            Err(error) => Err(InvalidSetting::new(
                "origin",
                format!("{origin} ({error})"),
                "a host that a URL can name",
            )),
        }
    }

    pub(super) fn origin(&self) -> &Origin {
        &self.origin
    }

    fn is_of(&self, url: &Url) -> bool {
        let ours = &self.url;
        (url.scheme(), url.host_str(), url.port()) == (ours.scheme(), ours.host_str(), ours.port())
    }
}

/// The URL of a call: a path or a URL of this origin, or with no origin any absolute URL.
///
/// # Errors
///
/// If it is of another origin, of another scheme than http and https, or no URL. The error shows neither
/// query nor password.
pub(super) fn resolve(home: Option<&Home>, target: &str) -> Result<Url, InvalidSetting> {
    let Some(home) = home else {
        let url = Url::parse(target).ok().filter(is_http);
        let allowed = "an absolute URL such as https://api.example/v1";
        return url.ok_or_else(|| InvalidSetting::new("url", shown(target), allowed));
    };
    match home.url.join(target) {
        Ok(url) if home.is_of(&url) => Ok(url),
        _ => Err(InvalidSetting::new(
            "url",
            format!(
                "{}, which is not of this client's origin {}",
                shown(target),
                home.origin
            ),
            "a path such as /v1/charges, or a URL of the client's own origin",
        )),
    }
}

fn is_http(url: &Url) -> bool {
    matches!(url.scheme(), "http" | "https") && url.has_host()
}

/// What an error may show of a target: no query, no fragment, no user.
pub(super) fn shown(target: &str) -> String {
    let bare = target.split(['?', '#']).next().unwrap_or_default();
    let (scheme, rest) = bare.split_once("://").unwrap_or(("", bare));
    let (authority, path) = rest.split_at(rest.find('/').unwrap_or(rest.len()));
    let host = authority
        .rsplit_once('@')
        .map_or(authority, |(_, host)| host);
    let colon = if scheme.is_empty() { "" } else { "://" };
    format!("{scheme}{colon}{host}{path}")
}

/// Takes user and password out of a URL, decoded.
pub(super) fn take_user(url: &mut Url) -> Option<(String, Option<String>)> {
    if url.username().is_empty() && url.password().is_none() {
        return None;
    }
    let user = decoded(url.username());
    let password = url.password().map(decoded);
    // An http URL has a host, so neither can fail.
    let _ = url.set_username("");
    let _ = url.set_password(None);
    Some((user, password))
}

fn decoded(percent: &str) -> String {
    let query = percent.replace('+', "%2B").replace('&', "%26");
    let mut pairs = url::form_urlencoded::parse(query.as_bytes());
    pairs
        .next()
        .map(|(name, _)| name.into_owned())
        .unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn home() -> Home {
        Home::new(Origin::parse("https://payments.internal:8443").expect("an origin"))
            .expect("a host")
    }

    #[test]
    fn paths_and_urls_of_the_origin_are_joined_to_it() {
        for (target, url) in [
            ("/charges", "https://payments.internal:8443/charges"),
            (
                "charges?page=2",
                "https://payments.internal:8443/charges?page=2",
            ),
            ("", "https://payments.internal:8443/"),
            ("?q=1", "https://payments.internal:8443/?q=1"),
            ("/a b/ü", "https://payments.internal:8443/a%20b/%C3%BC"),
            ("/time/10:30", "https://payments.internal:8443/time/10:30"),
            (
                "https://payments.internal:8443/x",
                "https://payments.internal:8443/x",
            ),
            (
                "HTTPS://Payments.Internal:8443/x",
                "https://payments.internal:8443/x",
            ),
        ] {
            assert_eq!(resolve(Some(&home()), target).expect(target).as_str(), url);
        }
    }

    #[test]
    fn a_url_of_another_origin_is_refused_and_both_are_named() {
        for target in [
            "https://evil.example/charges",
            "//evil.example/charges",
            "/\\evil.example/charges",
            "http://payments.internal:8443/charges",
            "https://payments.internal/charges",
            "https://payments.internal:8443@evil.example/",
            "mailto:someone@payments.internal",
        ] {
            let error = resolve(Some(&home()), target)
                .expect_err(target)
                .to_string();
            assert!(error.contains("https://payments.internal:8443"), "{error}");
            assert!(error.contains(&shown(target)), "{error}");
        }
    }

    #[test]
    fn without_an_origin_the_url_is_absolute() {
        assert!(resolve(None, "https://api.example/v1/x").is_ok());
        for target in [
            "/v1/x",
            "api.example/v1",
            "ftp://api.example/x",
            "http://",
            "http://[::1",
            "",
        ] {
            let error = resolve(None, target).expect_err(target).to_string();
            assert!(error.contains("absolute URL"), "{error}");
        }
    }

    #[test]
    fn errors_show_neither_query_nor_password() {
        let error = resolve(None, "api.example/v1?token=hunter2#hunter2")
            .expect_err("relative")
            .to_string();
        assert!(!error.contains("hunter2"), "{error}");
        let target = "https://me:hunter2@evil.example/x?key=hunter2";
        let error = resolve(Some(&home()), target)
            .expect_err("another origin")
            .to_string();
        assert!(
            !error.contains("hunter2") && error.contains("evil.example/x"),
            "{error}"
        );
    }

    #[test]
    fn a_known_url_is_told_from_a_changed_one() {
        let url = Url::parse("http://svc.internal:80/a?b=c").expect("a URL");
        let known = Known { url, timeout: None };
        assert!(known.is_of(&Uri::from_static("http://svc.internal/a?b=c")));
        for other in [
            "http://svc.internal/a",
            "http://svc.internal:81/a?b=c",
            "https://svc.internal/a?b=c",
            "/a?b=c",
        ] {
            assert!(!known.is_of(&other.parse().expect("a URI")), "{other}");
        }
    }

    #[test]
    fn user_and_password_leave_the_url_decoded() {
        let mut url = Url::parse("http://a%40b:p%2B+%25@svc.internal/x").expect("a URL");
        assert_eq!(
            take_user(&mut url),
            Some(("a@b".to_owned(), Some("p++%".to_owned())))
        );
        assert_eq!(url.as_str(), "http://svc.internal/x");
        assert_eq!(take_user(&mut url), None);
    }
}
