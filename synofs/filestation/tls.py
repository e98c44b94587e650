"""Which certificates are trusted, and how an untrusted one is named so that a person can decide."""

from __future__ import annotations

import hashlib
import socket
import ssl

from synofs.filestation.transport import CertificateUntrusted


def verifying_context(ca_file: str | None, public_authorities_file: str) -> ssl.SSLContext:
    """Trusts what the system or the public list trusts, or with `ca_file` only what that file names."""
    try:
        context = ssl.create_default_context(cafile=ca_file)
    except OSError as exc:
        raise CertificateUntrusted(f"the CA file {ca_file} cannot be used: {exc.strerror}") from exc
    if ca_file is None:
        # The system's store knows the site's own authority; a slim container has no store at all.
        context.load_verify_locations(public_authorities_file)
    # Python 3.13 turned this on by default. The certificates that NAS boxes make for themselves lack extensions
    # it insists on, and would be refused together with the very file that is given to trust them.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    # The NAS's own certificate, exported and given as `ca_file`, is no authority, and is trusted all the same.
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context


def unverified_context() -> ssl.SSLContext:
    """For a connection whose certificate is compared with a pinned fingerprint, or only looked at."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context


def fingerprint_of_peer(connection: socket.socket, host: str) -> str:
    """SHA-256 of the certificate that the peer shows, in hex. Takes the connection over, and closes it."""
    with connection, unverified_context().wrap_socket(connection, server_hostname=host) as secured:
        certificate = secured.getpeercert(binary_form=True)
    return hashlib.sha256(certificate).hexdigest() if certificate else ""
