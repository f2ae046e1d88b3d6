//! A certificate authority of the tests' own, and reqwest clients that trust it and nothing else.

use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::{
    ClientConfig, RootCertStore, ServerConfig,
    crypto::{CryptoProvider, ring},
    pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer},
};

/// A new authority; what it signs is trusted by [`client`](Self::client) alone.
pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).expect("no names to refuse");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("a certificate");
        Self {
            certificate: certificate.der().clone(),
            pem: certificate.pem(),
            issuer: Issuer::new(params, key),
        }
    }

    /// What a server presents for these names or addresses; it speaks HTTP/2 and HTTP/1.1, as the client prefers.
    pub fn server(&self, names: &[&str]) -> Arc<ServerConfig> {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        let params = CertificateParams::new(names).expect("names written in a test");
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("a certificate");
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let mut config = ServerConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_no_client_auth()
            .with_single_cert(vec![certificate.der().clone()], key)
            .expect("the key is the certificate's");
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Arc::new(config)
    }

    /// Its certificate, for clients that are configured by text.
    pub fn pem(&self) -> String {
        self.pem.clone()
    }

    /// TLS settings of a client that trusts this authority, offering the protocols in this order.
    pub fn trust(&self, alpn: &[&str]) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots
            .add(self.certificate.clone())
            .expect("an authority's certificate");
        let mut config = ClientConfig::builder_with_provider(provider())
            .with_safe_default_protocol_versions()
            .expect("the provider knows them")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = alpn
            .iter()
            .map(|protocol| protocol.as_bytes().to_vec())
            .collect();
        config
    }

    /// Settings of a reqwest client that trusts this authority and speaks the protocols that `alpn` names.
    pub fn client(&self, alpn: &[&str]) -> reqwest::ClientBuilder {
        client().tls_backend_preconfigured(self.trust(alpn))
    }
}

/// Settings of a reqwest client that follows no proxy variables and retries nothing by itself.
pub fn client() -> reqwest::ClientBuilder {
    // Lost if another test of this binary was faster: then the provider is there as well.
    let _ = CryptoProvider::install_default((*provider()).clone());
    reqwest::Client::builder()
        .no_proxy()
        .retry(reqwest::retry::never())
}

fn provider() -> Arc<CryptoProvider> {
    Arc::new(ring::default_provider())
}
