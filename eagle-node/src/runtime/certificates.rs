//! Certificates are what TLS is spoken with: rustls' configuration made of ours, at start and whenever `CONFIG SET` names one of the
//! `tls-*` directives again, even with the same file. Connections that are there keep what they began with.
//!
//! The provider is ring: it needs a C compiler and nothing else. Cipher suites and key exchange are rustls' own choice.

use std::{fs, path::Path, sync::Arc};

use rustls::{
    RootCertStore, ServerConfig, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    server::{NoServerSessionStorage, WebPkiClientVerifier, danger::ClientCertVerifier},
    version::{TLS12, TLS13},
};

use crate::config::{Config, TlsSettings};

/// The place of `no` among the words of `tls-auth-clients`.
const NO: u8 = 0;
/// That of `optional`.
const OPTIONAL: u8 = 2;

/// What connections of `tls-port` are accepted with; none without such a port.
///
/// # Errors
/// One sentence: what is missing or wrong.
pub(super) fn read(config: &Config) -> Result<Option<Arc<ServerConfig>>, String> {
    let tls = &config.tls;
    if tls.port == 0 {
        return Ok(None);
    }
    let [chain, key] = [(&tls.cert_file, "tls-cert-file"), (&tls.key_file, "tls-key-file")]
        .map(|(path, name)| if path.is_empty() { Err(format!("tls-port needs {name}.")) } else { Ok(path.as_str()) });
    let (chain, key) = (certificates(chain?)?, private_key(key?)?);
    let provider = Arc::new(ring::default_provider());
    let verifier = verifier(tls, &provider)?;
    let builder = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&versions(&tls.protocols)?)
        .map_err(|error| format!("tls-protocols: {error}."))?;
    let builder = match verifier {
        Some(verifier) => builder.with_client_cert_verifier(verifier),
        None => builder.with_no_client_auth(),
    };
    let mut made = builder.with_single_cert(chain, key).map_err(|error| {
        format!("The certificate of '{}' and the key of '{}' cannot be used: {error}.", tls.cert_file, tls.key_file)
    })?;
    made.ignore_client_order = tls.prefers_server_ciphers;
    // Sessions are resumed by tickets, which need no table that all cores would share.
    made.session_storage = Arc::new(NoServerSessionStorage {});
    if tls.session_caching {
        made.ticketer = ring::Ticketer::new().map_err(|error| format!("No key for session tickets: {error}."))?;
    } else {
        made.send_tls13_tickets = 0;
    }
    Ok(Some(Arc::new(made)))
}

fn versions(words: &str) -> Result<Vec<&'static SupportedProtocolVersion>, String> {
    if words.trim().is_empty() {
        return Ok(vec![&TLS12, &TLS13]);
    }
    let version = |word: &str| match word {
        word if word.eq_ignore_ascii_case("TLSv1.2") => Ok(&TLS12),
        word if word.eq_ignore_ascii_case("TLSv1.3") => Ok(&TLS13),
        word => Err(format!("tls-protocols: there are TLSv1.2 and TLSv1.3, and not '{word}'.")),
    };
    words.split_whitespace().map(version).collect()
}

/// What clients' certificates are checked with, if they are asked for any.
fn verifier(
    tls: &TlsSettings,
    provider: &Arc<rustls::crypto::CryptoProvider>,
) -> Result<Option<Arc<dyn ClientCertVerifier>>, String> {
    if tls.auth_clients == NO {
        return Ok(None);
    }
    let mut files = Vec::new();
    if !tls.ca_cert_file.is_empty() {
        files.push(tls.ca_cert_file.clone());
    }
    if !tls.ca_cert_dir.is_empty() {
        files.extend(files_of(&tls.ca_cert_dir)?);
    }
    if files.is_empty() {
        return Err("tls-auth-clients needs tls-ca-cert-file or tls-ca-cert-dir, unless it is 'no'.".to_owned());
    }
    let mut roots = RootCertStore::empty();
    for file in &files {
        for certificate in certificates(file)? {
            roots.add(certificate).map_err(|error| format!("A certificate of '{file}' is no authority: {error}."))?;
        }
    }
    let builder = WebPkiClientVerifier::builder_with_provider(roots.into(), provider.clone());
    let builder = if tls.auth_clients == OPTIONAL { builder.allow_unauthenticated() } else { builder };
    builder.build().map(Some).map_err(|error| format!("tls-ca-cert-file: {error}."))
}

/// The files of a folder that hold certificates, by what they are called.
fn files_of(folder: &str) -> Result<Vec<String>, String> {
    let unreadable = |error| format!("'{folder}' (tls-ca-cert-dir) cannot be read: {error}.");
    let mut files = Vec::new();
    for entry in fs::read_dir(folder).map_err(unreadable)? {
        let path = entry.map_err(unreadable)?.path();
        let extension = path.extension().unwrap_or_default();
        // As `openssl rehash` leaves a folder: hashes of names with a number, beside the files themselves.
        let is_hash = extension.to_str().is_some_and(|text| text.parse::<u8>().is_ok());
        if is_hash || ["pem", "crt", "cer"].iter().any(|known| extension.eq_ignore_ascii_case(known)) {
            files.push(path.to_string_lossy().into_owned());
        }
    }
    Ok(files)
}

fn certificates(path: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let text = text(path)?;
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&text).collect();
    match found {
        Ok(found) if !found.is_empty() => Ok(found),
        Ok(_) => Err(format!("There is no certificate in '{path}'.")),
        Err(error) => Err(format!("The certificate of '{path}' cannot be read: {error}.")),
    }
}

fn private_key(path: &str) -> Result<PrivateKeyDer<'static>, String> {
    let text = text(path)?;
    let is_encrypted =
        |line: &[u8]| line.starts_with(b"Proc-Type: 4,ENCRYPTED") || line.ends_with(b"ENCRYPTED PRIVATE KEY-----");
    if text.split(|byte| *byte == b'\n').any(|line| is_encrypted(line.trim_ascii())) {
        return Err(format!(
            "The key of '{path}' has a passphrase, which is not supported: write it without (openssl pkey) into a file that \
             nobody else can read."
        ));
    }
    PrivateKeyDer::from_pem_slice(&text).map_err(|error| format!("There is no private key in '{path}': {error}."))
}

fn text(path: &str) -> Result<Vec<u8>, String> {
    fs::read(Path::new(path)).map_err(|error| format!("'{path}' cannot be read: {error}."))
}
