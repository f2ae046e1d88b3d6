//! From settings to a channel over the endpoints of one origin.

use std::time::Duration;

use http::Uri;
use tonic::transport;
use tower::Layer;

use super::{
    channel::{Channel, Shared},
    connection::Connection,
    evidence::tonic_classifier,
    methods::Methods,
    tls,
};
use crate::{
    call::DeadlineHeader,
    classify::chain,
    client::{Balanced, ClientBuilder, prepared::NotItself, settings::Settings},
    commit::CommitLayer,
    discover::{Endpoint, Origin},
    error::InvalidSetting,
};

impl Channel {
    /// Starts a channel to one origin such as `https://greeter.internal`, over all its endpoints.
    ///
    /// The origin is what the endpoints are called by: `:authority`, and the TLS server name. It has no path. What is
    /// wrong with it is reported by [`build_tonic`](ClientBuilder::build_tonic).
    pub fn builder(origin: impl AsRef<str>) -> ClientBuilder<Balanced> {
        ClientBuilder::balanced(origin.as_ref())
    }
}

impl ClientBuilder<Balanced> {
    /// Builds a gRPC channel; `settings` is given tonic's settings for the origin and returns what the connections of
    /// all endpoints are to have: TLS, windows, keepalive. `build_tonic(Ok)` takes them as they are.
    ///
    /// Nothing here needs a runtime: connections are opened by the first call to an endpoint. The
    /// [module](crate::tonic) lists the settings that are overridden.
    ///
    /// ```
    /// use std::time::Duration;
    /// use evenkeel::Channel;
    ///
    /// let channel = Channel::builder("http://greeter.internal:50051")
    ///     .build_tonic(|endpoint| Ok(endpoint.http2_keep_alive_interval(Duration::from_secs(20))))?;
    /// # Ok::<(), evenkeel::InvalidSetting>(())
    /// ```
    ///
    /// # Errors
    /// The first setting that is out of range, with its value and what is allowed.
    pub fn build_tonic<F>(mut self, settings: F) -> Result<Channel, InvalidSetting>
    where
        F: FnOnce(transport::Endpoint) -> Result<transport::Endpoint, transport::Error>,
    {
        let origin = self.target.origin.clone()?;
        tls::check(&origin)?;
        if let Some(name) = &self.settings.deadline_header {
            let allowed = "only with HTTP: gRPC always sends grpc-timeout";
            return Err(InvalidSetting::new(
                "ClientBuilder::deadline_header",
                name,
                allowed,
            ));
        }
        check_key_header(&self.settings)?;
        let methods = Methods::try_new(std::mem::take(&mut self.target.methods))?;
        let without_port = self.target.authority_without_port;
        // Events may be rare.
        self.settings.body_idle.get_or_insert(Duration::MAX);
        let prepared = self.prepared(&tonic_classifier(), |origin, endpoint| {
            let itself = NotItself::check(origin, endpoint.address());
            let allowed = "endpoints that can be called under the origin's name";
            itself.map_err(|other| InvalidSetting::new("endpoints", other, allowed))
        })?;
        let named =
            given(settings, &uri(origin.to_string())?)?.connect_timeout(prepared.connect_timeout);
        let bare = uri(format!("{}://{}", origin.scheme().as_str(), host(&origin)))?;
        let attempt = prepared.attempt.header(DeadlineHeader::grpc());
        let balancer = prepared.balancer.build(move |endpoint: &Endpoint| {
            let address = endpoint.address();
            NotItself::check(&origin, address)?;
            let other_port = address.port() != origin.port_or_default();
            let settings = match without_port && other_port {
                true => named.clone().origin(bare.clone()),
                false => named.clone(),
            };
            let connection = Connection::new(settings, address);
            Ok(attempt.layer(CommitLayer::new().layer(connection)))
        })?;
        let (service, view) = prepared.settings.over(balancer)?;
        let shared = Shared {
            origin: prepared.origin,
            methods,
            seen: prepared.settings.shows_requests(),
            view,
        };
        Ok(Channel::over(service, shared))
    }
}

/// Refuses names of metadata that are gRPC's own, or whose values are base64.
fn check_key_header(settings: &Settings) -> Result<(), InvalidSetting> {
    let callers = settings.retry.caller_keys().0.as_str();
    let ours = settings.keys.as_ref().map(|keys| keys.header.as_str());
    let is_reserved = |(_, name): &(&str, &str)| {
        let name = name.to_ascii_lowercase();
        let is_own = ["content-type", "te", "user-agent", "host"].contains(&&*name);
        is_own || name.starts_with("grpc-") || name.ends_with("-bin")
    };
    let ours = ours.map(|name| ("IdempotencyKeys::header", name));
    let mut names = ours.into_iter().chain([("Retry::key_header", callers)]);
    names.find(is_reserved).map_or(Ok(()), |(field, name)| {
        let allowed = "metadata of the application's, in ASCII";
        Err(InvalidSetting::new(field, name, allowed))
    })
}

/// What the application's function makes of the settings for the origin.
fn given<F>(settings: F, origin: &Uri) -> Result<transport::Endpoint, InvalidSetting>
where
    F: FnOnce(transport::Endpoint) -> Result<transport::Endpoint, transport::Error>,
{
    let given = settings(transport::Endpoint::from(origin.clone())).map_err(|error| {
        let causes: Vec<_> = chain(&error).map(ToString::to_string).collect();
        let allowed = "settings that tonic accepts";
        InvalidSetting::new("ClientBuilder::build_tonic", causes.join(": "), allowed)
    })?;
    if given.uri() != origin {
        let allowed = "the settings that the function was given, changed";
        return Err(InvalidSetting::new(
            "ClientBuilder::build_tonic",
            given.uri(),
            allowed,
        ));
    }
    Ok(given.origin(origin.clone()))
}

fn uri(text: String) -> Result<Uri, InvalidSetting> {
    let refuse = |text: &str| InvalidSetting::new("origin", text, "a host that a URI can name");
    text.parse().map_err(|_invalid| refuse(&text))
}

fn host(origin: &Origin) -> String {
    let authority = origin.authority();
    let port = origin
        .port()
        .map(|port| format!(":{port}"))
        .unwrap_or_default();
    authority
        .strip_suffix(&port)
        .map(str::to_owned)
        .unwrap_or(authority)
}
