//! A client of OCI distribution registries (distribution-spec 1.1; Docker Registry HTTP API V2): manifests and blobs of one
//! repository.
//!
//! Rules: HTTP only for loopback addresses or when asked for; credentials go to the registry and to the token server it
//! names, never to where it redirects; what broke is tried again, what was refused is not. Only `GET`s (and one `POST` to
//! a token server) are sent, so that repeating them is harmless.

mod address;
mod agents;
mod auth;
mod blob;
mod challenge;
mod credentials;
mod send;

use std::io::Read;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use plyfs_store::Digest;

pub use credentials::Credentials;

use crate::error::{Error, Result};
use crate::limits::{Limits, OverLimit};
use crate::manifest::{Descriptor, Document, types};
use crate::progress::Cancel;
use crate::reference::Reference;

use address::Address;
use agents::Agents;
use auth::Auth;
pub(crate) use blob::BlobReader;

/// How to reach registries.
#[derive(Debug, Clone)]
pub struct RegistryOptions {
    /// By HTTP, whatever its address.
    pub plain_http: bool,
    /// Registries (`HOST[:PORT]`) whose certificates are not checked, and that may be reached by HTTP if there is no HTTPS.
    pub insecure: Vec<String>,
    /// Where logins are.
    pub credentials: Credentials,
    /// Tries of one request.
    pub tries: u32,
    /// The wait before the second try; doubled before each further one.
    pub wait: Duration,
}

impl Default for RegistryOptions {
    fn default() -> RegistryOptions {
        RegistryOptions {
            plain_http: false,
            insecure: Vec::new(),
            credentials: Credentials::from_environment(),
            tries: 6,
            wait: Duration::from_millis(500),
        }
    }
}

/// One repository of a registry.
#[derive(Debug)]
pub(crate) struct Registry<'a> {
    address: Address,
    path: String,
    agents: Agents,
    auth: Auth<'a>,
    options: &'a RegistryOptions,
    cancel: &'a Cancel,
    /// It answered once: that it does not now is a fault, not a wrong address.
    reached: AtomicBool,
}

/// A manifest or index as it came.
#[derive(Debug)]
pub(crate) struct Fetched {
    pub(crate) digest: Digest,
    pub(crate) document: Document,
}

impl<'a> Registry<'a> {
    /// The repository of `reference`. Where it may be either HTTP or HTTPS, it is asked which.
    pub(crate) fn connect(
        reference: &Reference,
        options: &'a RegistryOptions,
        cancel: &'a Cancel,
    ) -> Result<Registry<'a>> {
        let address = Address::of(reference.domain(), options);
        let agents = Agents::new(&address, cancel)?;
        let mut registry = Registry {
            auth: Auth::new(&options.credentials, reference, address.may_be_plain()),
            path: reference.path().to_owned(),
            agents,
            address,
            options,
            cancel,
            reached: AtomicBool::new(false),
        };
        registry.settle_scheme();
        Ok(registry)
    }

    /// What a tag or digest names.
    pub(crate) fn manifest(&self, name: &str, wanted: Option<Digest>, limits: &Limits) -> Result<Fetched> {
        const ACCEPT: &[&str] = &[types::MANIFEST, types::INDEX, types::DOCKER_MANIFEST, types::DOCKER_LIST];
        let url = format!("{}/v2/{}/manifests/{name}", self.address.base(), self.path);
        let answer = self.get(&url, Some(&ACCEPT.join(", ")), 0)?;
        let header = |name: &str| answer.headers().get(name).and_then(|value| value.to_str().ok());
        let said = header("content-type").map(str::to_owned);
        let promised = header("docker-content-digest").map(str::to_owned);
        let bytes = read_document(answer.into_body().into_reader(), &url, limits)?;
        let digest = Digest::of(&bytes);
        // An algorithm that is not ours promises nothing.
        let promised = promised.filter(|text| text.starts_with("sha256:")).map(|text| text.parse());
        let promised = promised.transpose().map_err(|error| Error::registry(&url, error))?;
        if let Some(wanted) = [wanted, promised].into_iter().flatten().find(|wanted| *wanted != digest) {
            return Err(Error::WrongDigest { what: url, wanted, found: digest });
        }
        let document = Document::parse(&bytes, said.as_deref(), &url)?;
        Ok(Fetched { digest, document })
    }

    /// A small blob, verified.
    pub(crate) fn small_blob(&self, blob: &Descriptor, limits: &Limits) -> Result<Vec<u8>> {
        let what = format!("{} of {}/{}", blob.digest, self.address.host(), self.path);
        let bytes = read_document(self.blob(blob, 0), &what, limits)?;
        match Digest::of(&bytes) {
            found if found == blob.digest => Ok(bytes),
            found => Err(Error::WrongDigest { what, wanted: blob.digest, found }),
        }
    }

    /// A blob from byte `from` on, not verified; a connection that breaks is made again.
    pub(crate) fn blob(&self, blob: &Descriptor, from: u64) -> BlobReader<'_> {
        BlobReader::new(self, blob.digest, blob.size, from)
    }

    fn blob_url(&self, digest: Digest) -> String {
        format!("{}/v2/{}/blobs/{digest}", self.address.base(), self.path)
    }
}

fn read_document(from: impl Read, what: &str, limits: &Limits) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    let got = from.take(limits.manifest_bytes + 1).read_to_end(&mut bytes);
    got.map_err(|error| Error::registry(what, error))?;
    if bytes.len() as u64 > limits.manifest_bytes {
        return Err(Error::registry(what, OverLimit::new("manifest_bytes", limits.manifest_bytes)));
    }
    Ok(bytes)
}
