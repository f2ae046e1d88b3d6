use std::{any::type_name, fmt, time::Duration};

use http::{
    HeaderMap, HeaderValue, Method, Request, Uri,
    header::{AUTHORIZATION, CONTENT_TYPE},
};
use serde::Serialize;
use url::Url;

use super::{
    body,
    client::Client,
    header::{basic, guarded, header},
    target::{self, Home, Known},
};
use crate::{
    call::{Body, CallPolicy},
    error::{Error, ErrorKind, InvalidSetting},
};

/// A request of a [`Client`] in the making.
///
/// Whatever cannot be sent (a header with a line break, a value that does not serialize, a URL of another
/// origin) is remembered, and [`send`](Self::send) reports the first of them before anything is sent.
/// Neither errors nor `Debug` show header values, bodies or the query.
///
/// ```no_run
/// use std::time::Duration;
///
/// use evenkeel::{CallPolicy, reqwest::Client};
///
/// # async fn run(payments: Client) -> Result<(), evenkeel::Error> {
/// let reply = payments
///     .post("/charges")
///     .query(&[("currency", "EUR")])
///     .bearer_auth("token")
///     .json(&[("amount", 1200)])
///     .policy(CallPolicy::new().deadline(Duration::from_secs(1)).idempotency_key("order-42"))
///     .send()
///     .await?;
/// assert!(reply.status().is_success());
/// # Ok(())
/// # }
/// ```
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder {
    client: Client,
    method: Method,
    /// What was asked for, or why it cannot be.
    url: Result<Url, InvalidSetting>,
    headers: HeaderMap,
    body: Body,
    policy: Option<CallPolicy>,
}

impl RequestBuilder {
    pub(super) fn new(client: Client, method: Method, target: &str) -> Self {
        let url = target::resolve(client.home(), target);
        Self {
            client,
            method,
            url,
            headers: HeaderMap::new(),
            body: Body::empty(),
            policy: None,
        }
    }

    /// Adds a header; one of this name that is there already stays beside it.
    pub fn header<V>(mut self, name: impl AsRef<str>, value: V) -> Self
    where
        V: TryInto<HeaderValue>,
    {
        match header(name.as_ref(), value) {
            Ok((name, value)) => {
                self.headers.append(name, value);
                self
            }
            Err(invalid) => self.refuse(invalid),
        }
    }

    /// Sets headers; those of the same names that are there already go.
    pub fn headers(mut self, headers: HeaderMap) -> Self {
        let mut current = None;
        for (name, value) in headers {
            // A map names only the first of several values.
            if let Some(name) = name {
                self.headers.remove(&name);
                current = Some(name);
            }
            if let Some(name) = &current {
                self.headers.append(name.clone(), guarded(name, value));
            }
        }
        self
    }

    /// Adds pairs to the query, after those that the URL has.
    pub fn query<T: Serialize + ?Sized>(mut self, query: &T) -> Self {
        let Ok(url) = &mut self.url else {
            return self;
        };
        let serialized = {
            let mut pairs = url.query_pairs_mut();
            query
                .serialize(serde_urlencoded::Serializer::new(&mut pairs))
                .is_ok()
        };
        if url.query() == Some("") {
            url.set_query(None);
        }
        if serialized {
            self
        } else {
            self.refuse(unserializable::<T>(
                "query",
                "a map, a struct or pairs of plain values",
            ))
        }
    }

    /// Sets the body to this value as JSON, and the content type unless one is set.
    pub fn json<T: Serialize + ?Sized>(self, value: &T) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => self.typed_body("application/json", json),
            Err(_) => self.refuse(unserializable::<T>(
                "json",
                "a value that JSON can write down",
            )),
        }
    }

    /// Sets the body to this value as a form, and the content type unless one is set.
    pub fn form<T: Serialize + ?Sized>(self, value: &T) -> Self {
        match serde_urlencoded::to_string(value) {
            Ok(form) => self.typed_body("application/x-www-form-urlencoded", form),
            Err(_) => self.refuse(unserializable::<T>(
                "form",
                "a map, a struct or pairs of plain values",
            )),
        }
    }

    /// Sets the body. One in memory can be sent again by a retry at any size; a [`Body::stream`] is recorded
    /// while it is sent, up to a limit.
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Sets `Authorization: Bearer ..`.
    pub fn bearer_auth(self, token: impl fmt::Display) -> Self {
        self.authorization(format!("Bearer {token}"))
    }

    /// Sets `Authorization: Basic ..` (RFC 7617).
    pub fn basic_auth(self, user: impl fmt::Display, password: Option<impl fmt::Display>) -> Self {
        let password = password
            .map(|password| password.to_string())
            .unwrap_or_default();
        self.authorization(basic(&user.to_string(), &password))
    }

    /// Sets what holds for this call alone: deadline, attempts, idempotency key and the rest.
    pub fn policy(mut self, policy: CallPolicy) -> Self {
        self.policy = Some(policy);
        self
    }

    /// Sends the request through the whole stack.
    ///
    /// Dropping the future cancels the call. A response of any status is `Ok`.
    ///
    /// # Errors
    ///
    /// If no response came: see [`Error::kind`], [`Error::may_have_happened`] and [`Error::report`]. With
    /// [`ErrorKind::InvalidCall`] the request was not sent, since a part of it cannot be.
    pub async fn send(self) -> Result<reqwest::Response, Error> {
        let calling = {
            let (client, request) = self.build()?;
            client.call(request)?
        };
        calling.await
    }

    fn build(self) -> Result<(Client, Request<Body>), Error> {
        let Self {
            client,
            method,
            url,
            headers,
            body,
            policy,
        } = self;
        let url = url.map_err(invalid)?;
        let mut request = addressed(url, None, Request::new(body))?;
        *request.method_mut() = method;
        merge(request.headers_mut(), headers);
        if let Some(policy) = policy {
            request.extensions_mut().insert(policy);
        }
        Ok((client, request))
    }

    fn typed_body(mut self, content_type: &'static str, body: impl Into<Body>) -> Self {
        self.headers
            .entry(CONTENT_TYPE)
            .or_insert(HeaderValue::from_static(content_type));
        self.body(body)
    }

    fn authorization(mut self, value: String) -> Self {
        match header(AUTHORIZATION.as_str(), value) {
            Ok((name, value)) => {
                self.headers.insert(name, value);
                self
            }
            Err(invalid) => self.refuse(invalid),
        }
    }

    /// Remembers why this cannot be sent; the first reason stays.
    fn refuse(mut self, invalid: InvalidSetting) -> Self {
        self.url = self.url.and(Err(invalid));
        self
    }
}

impl fmt::Debug for RequestBuilder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let url = self.url.as_ref().map(|url| target::shown(url.as_str()));
        f.debug_struct("RequestBuilder")
            .field("method", &self.method)
            .field("url", &url)
            .field("headers", &self.headers.keys().collect::<Vec<_>>())
            .field("body", &self.body)
            .finish_non_exhaustive()
    }
}

/// A request of reqwest's as one of the stack's, its body without a copy if it is in memory.
///
/// # Errors
///
/// If its URL is not one that the client goes to.
pub(super) fn taken_over(
    home: Option<&Home>,
    mut from: reqwest::Request,
    policy: CallPolicy,
) -> Result<Request<Body>, Error> {
    let url = target::resolve(home, from.url().as_str()).map_err(invalid)?;
    let content = from
        .body_mut()
        .take()
        .map_or_else(Body::empty, body::from_reqwest);
    let mut request = addressed(url, from.timeout().copied(), Request::new(content))?;
    *request.method_mut() = from.method().clone();
    *request.version_mut() = from.version();
    merge(request.headers_mut(), std::mem::take(from.headers_mut()));
    request.extensions_mut().insert(policy);
    Ok(request)
}

/// Gives a request its URI, and the user and password of the URL as the header that carries them.
fn addressed(
    mut url: Url,
    timeout: Option<Duration>,
    mut request: Request<Body>,
) -> Result<Request<Body>, Error> {
    url.set_fragment(None);
    if let Some((user, password)) = target::take_user(&mut url) {
        let value = basic(&user, &password.unwrap_or_default());
        let (name, value) = header(AUTHORIZATION.as_str(), value).map_err(invalid)?;
        request.headers_mut().insert(name, value);
    }
    *request.uri_mut() = Uri::try_from(url.as_str()).map_err(|error| {
        let shown = format!("{} ({error})", target::shown(url.as_str()));
        invalid(InvalidSetting::new(
            "url",
            shown,
            "a URL of at most 65,534 bytes that HTTP can carry",
        ))
    })?;
    Known { url, timeout }.attach(&mut request);
    Ok(request)
}

/// Adds headers to what is there; one that is there already goes before a set one of its name.
fn merge(into: &mut HeaderMap, headers: HeaderMap) {
    if into.is_empty() {
        *into = headers;
    } else {
        into.extend(headers);
    }
}

fn unserializable<T: ?Sized>(field: &'static str, allowed: &'static str) -> InvalidSetting {
    InvalidSetting::new(
        field,
        format!("a {} that does not serialize", type_name::<T>()),
        allowed,
    )
}

fn invalid(setting: InvalidSetting) -> Error {
    Error::new(ErrorKind::InvalidCall).with_source(setting)
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use http::Response;
    use http_body_util::BodyExt;
    use tower::{ServiceExt, service_fn};

    use super::*;
    use crate::{
        client::reqwest::client::{ClientService, Stacks},
        discover::Origin,
    };

    const SECRET: &str = "hunter2";

    /// A stack that answers with what it got: URI, headers, body.
    fn echo(origin: Option<&str>) -> Client {
        let echo = service_fn(async |request: Request<Body>| {
            let (parts, body) = request.into_parts();
            let body = body.collect().await?.to_bytes();
            let policy = parts.extensions.get::<CallPolicy>().is_some();
            let text = format!(
                "{} {}\n{:?}\n{policy}\n{}",
                parts.method,
                parts.uri,
                parts.headers,
                String::from_utf8_lossy(&body)
            );
            Ok::<_, crate::BoxError>(Response::new(reqwest::Body::from(text)))
        });
        let service = ClientService::new(echo.map_err(Error::from_inner));
        let origin = origin.map(|origin| Origin::parse(origin).expect("an origin"));
        Client::over(Stacks::One(service), origin, None).expect("a host")
    }

    fn payments() -> Client {
        echo(Some("https://payments.internal"))
    }

    async fn sent(request: RequestBuilder) -> String {
        request
            .send()
            .await
            .expect("echoed")
            .text()
            .await
            .expect("a text")
    }

    async fn refused(request: RequestBuilder) -> String {
        let shown = format!("{request:?}");
        let error = request.send().await.expect_err("refused");
        assert_eq!(error.kind(), ErrorKind::InvalidCall);
        assert!(!error.may_have_happened());
        for text in [shown, error.to_string(), format!("{error:?}")] {
            assert!(!text.contains(SECRET), "{text}");
        }
        error.to_string()
    }

    #[tokio::test]
    async fn every_part_of_a_request_reaches_the_stack() {
        let request = payments()
            .post("/charges?a=1")
            .query(&[("b", "x y")])
            .query(&HashMap::from([("c", 2)]));
        let request = request
            .header("X-One", "1")
            .header("x-one", 2)
            .json(&[1, 2])
            .policy(CallPolicy::new());
        let text = sent(request).await;
        assert!(
            text.starts_with("POST https://payments.internal/charges?a=1&b=x+y&c=2\n"),
            "{text}"
        );
        assert!(text.contains(r#""x-one": "1", "x-one": "2""#), "{text}");
        assert!(
            text.contains(r#""content-type": "application/json""#),
            "{text}"
        );
        assert!(text.ends_with("\ntrue\n[1,2]"), "{text}");
    }

    #[tokio::test]
    async fn every_method_has_its_start() {
        let client = payments();
        for (request, method) in [
            (client.get("/"), "GET"),
            (client.post("/"), "POST"),
            (client.put("/"), "PUT"),
            (client.patch("/"), "PATCH"),
            (client.delete("/"), "DELETE"),
            (client.head("/"), "HEAD"),
            (client.request(Method::OPTIONS, "/"), "OPTIONS"),
        ] {
            assert!(sent(request).await.starts_with(method));
        }
    }

    #[tokio::test]
    async fn a_form_is_encoded_and_a_content_type_that_is_set_stays() {
        let text = sent(payments().post("/").form(&[("a", "b c")])).await;
        assert!(
            text.contains("x-www-form-urlencoded") && text.ends_with("a=b+c"),
            "{text}"
        );
        let text = sent(
            payments()
                .post("/")
                .header("content-type", "application/vnd.x+json")
                .json(&1),
        )
        .await;
        assert!(
            text.contains("vnd.x+json") && !text.contains("application/json"),
            "{text}"
        );
    }

    #[tokio::test]
    async fn an_empty_query_adds_no_question_mark() {
        assert!(
            sent(payments().get("/x").query(&[("", ""); 0]))
                .await
                .starts_with("GET https://payments.internal/x\n")
        );
    }

    #[tokio::test]
    async fn a_set_of_headers_takes_the_place_of_those_of_the_same_name() {
        let mut headers = HeaderMap::new();
        headers.append("a", HeaderValue::from_static("2"));
        headers.append("a", HeaderValue::from_static("3"));
        let text = sent(
            payments()
                .get("/")
                .header("a", "1")
                .header("b", "1")
                .headers(headers),
        )
        .await;
        assert!(
            text.contains(r#""a": "2", "a": "3""#) && text.contains(r#""b": "1""#),
            "{text}"
        );
    }

    #[tokio::test]
    async fn credentials_are_sent_and_marked_as_secret() {
        let client = payments();
        let (_, request) = client
            .get("/")
            .basic_auth("Aladdin", Some("open sesame"))
            .build()
            .expect("valid");
        let value = &request.headers()[AUTHORIZATION];
        assert_eq!(value, "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ==");
        assert!(value.is_sensitive());
        let (_, request) = client
            .get("/")
            .bearer_auth("one")
            .bearer_auth(SECRET)
            .build()
            .expect("valid");
        let values = request
            .headers()
            .get_all(AUTHORIZATION)
            .iter()
            .collect::<Vec<_>>();
        assert_eq!(values, [format!("Bearer {SECRET}").as_str()]);
        let (_, request) = client
            .get("/")
            .header("Cookie", SECRET)
            .build()
            .expect("valid");
        assert!(request.headers()["cookie"].is_sensitive());
    }

    #[tokio::test]
    async fn user_and_password_of_a_url_become_the_header() {
        let text = sent(echo(None).get("http://Aladdin:open%20sesame@api.example/x#part")).await;
        assert!(text.starts_with("GET http://api.example/x\n"), "{text}");
        let (_, request) = echo(None)
            .get("http://Aladdin:open%20sesame@api.example/")
            .build()
            .expect("valid");
        assert_eq!(
            request.headers()[AUTHORIZATION],
            "Basic QWxhZGRpbjpvcGVuIHNlc2FtZQ=="
        );
    }

    #[tokio::test]
    async fn what_cannot_be_sent_is_named_and_its_secrets_are_not() {
        let client = payments();
        let post = || client.post("/charges?token=hunter2");
        let unserializable = HashMap::from([((1, 2), SECRET)]);
        for (request, named) in [
            (
                post().header("Authorization: Bearer hunter2", "x"),
                r#"header name is "Authorization" followed by ':'"#,
            ),
            (post().header("", "x"), "header name is empty"),
            (
                post().header("x-key", "hunter2\nx"),
                "header value is the one given for x-key",
            ),
            (
                post().bearer_auth("hunter2\n"),
                "header value is the one given for authorization",
            ),
            (post().query(SECRET), "query is a str"),
            (post().json(&unserializable), "json is a std::collections"),
            (post().form(&[[SECRET]]), "form is a"),
            (
                client.get("https://me:hunter2@evil.example/?k=hunter2"),
                "https://evil.example/",
            ),
            (
                client.get(format!("/{}?k=hunter2", "x".repeat(70_000))),
                "65,534",
            ),
        ] {
            let error = refused(request).await;
            assert!(error.contains(named), "{error}");
        }
    }

    #[tokio::test]
    async fn the_first_of_several_faults_is_reported() {
        let error = refused(
            payments()
                .get("//evil.example")
                .header("", "x")
                .query(SECRET),
        )
        .await;
        assert!(
            error.contains("evil.example") && error.contains("https://payments.internal"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn debug_shows_no_value_of_header_query_or_body() {
        let request = payments()
            .post("/x?token=hunter2")
            .bearer_auth(SECRET)
            .header("x-key", SECRET)
            .body(SECRET);
        let text = format!("{request:?} {:?}", payments());
        assert!(
            text.contains("x-key") && text.contains("/x") && !text.contains(SECRET),
            "{text}"
        );
    }

    #[tokio::test]
    async fn a_request_built_with_reqwest_is_taken_over_whole() {
        let url = "https://payments.internal/charges?a=1"
            .parse()
            .expect("a URL");
        let mut request = reqwest::Request::new(Method::PUT, url);
        request
            .headers_mut()
            .insert("x-one", HeaderValue::from_static("1"));
        *request.body_mut() = Some("charge".into());
        *request.timeout_mut() = Some(Duration::from_secs(7));
        let copy = request.try_clone().expect("a body in memory");
        let taken = taken_over(payments().home(), copy, CallPolicy::new()).expect("of the origin");
        let known = Known::find(&taken).expect("known");
        assert_eq!(known.timeout, Some(Duration::from_secs(7)));
        assert!(taken.body().as_bytes().is_some() && known.is_of(taken.uri()));
        let reply = payments()
            .execute(request)
            .await
            .expect("echoed")
            .text()
            .await
            .expect("a text");
        assert!(
            reply.starts_with("PUT https://payments.internal/charges?a=1\n")
                && reply.ends_with("charge"),
            "{reply}"
        );
    }

    #[tokio::test]
    async fn a_request_built_with_reqwest_for_another_origin_is_refused() {
        let request =
            reqwest::Request::new(Method::GET, "https://evil.example/".parse().expect("a URL"));
        let error = payments()
            .execute(request)
            .await
            .expect_err("another origin");
        assert_eq!(error.kind(), ErrorKind::InvalidCall);
    }

    #[test]
    fn a_client_is_shared_between_threads_and_its_future_too() {
        fn shared<T: Clone + Send + Sync + 'static>(value: T) -> T {
            value
        }
        fn sendable<F: Future + Send>(_: F) {}
        let client = shared(payments());
        sendable(client.get("/").send());
    }
}
