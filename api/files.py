"""The files that ``[api]`` names: the certificate, its key, the authority of clients' certificates."""

from reputation.api_settings import ApiSettings
from reputation.certificates import Certificates
from reputation.front_end_settings import TlsSettings


def certificates_of(settings: ApiSettings) -> Certificates | None:
    """What TLS needs, read from its files; None without TLS. Raises `ConfigError` that names file and key."""
    if settings.tls is None:
        return None
    files = TlsSettings(certificate=settings.tls.certificate, key=settings.tls.key)
    return Certificates(files, table="[api.tls]", client_ca=settings.tls.client_ca)
