//! A client's certificate that the server refuses, or misses.
//!
//! In TLS 1.3 the client's part of the handshake ends before the server has seen its certificate, so that the refusal
//! comes when the request is on its way, and looks like a connection that broke. But a server reads no request before
//! its handshake has ended (RFC 8446, section 4.4.2.4 and appendix A.2), and rustls, which offers no later
//! authentication, gets alerts about certificates at no other time.

use std::error::Error;
use std::io;
use std::iter::successors;

use rustls::AlertDescription;

/// Whether a refused certificate is why no answer came.
pub(super) fn is_refused(error: &reqwest::Error) -> bool {
    successors(error.source(), |&cause| cause.source())
        .filter_map(|cause| cause.downcast_ref::<io::Error>()?.get_ref()?.downcast_ref())
        .any(|error| matches!(error, rustls::Error::AlertReceived(alert) if is_of_certificate(*alert)))
}

const fn is_of_certificate(alert: AlertDescription) -> bool {
    use AlertDescription::{
        BadCertificate, CertificateExpired, CertificateRequired, CertificateRevoked, CertificateUnknown, UnknownCA,
        UnsupportedCertificate,
    };
    matches!(
        alert,
        BadCertificate
            | CertificateExpired
            | CertificateRequired
            | CertificateRevoked
            | CertificateUnknown
            | UnknownCA
            | UnsupportedCertificate
    )
}
