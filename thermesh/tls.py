"""Who may read what the mesh says, and who may speak in it.

Two places carry certificates of their own. *Inside* the mesh, between rooms,
`THERMESH_TLS` is `off`, `on` (a room proves who it is) or `mutual` (a caller
does too). The *doors* of the gateway are for the world and carry the
certificate that the world expects (`Door`).

Files are PEM. A server looks at them again at every handshake, so renewing a
certificate is replacing two files: nothing restarts, no stream breaks.
"""

from __future__ import annotations

import contextlib
import pathlib
import ssl
from dataclasses import dataclass

import grpc

from thermesh.settings import BadSetting, one_of, setting

Stamp = tuple[int, ...]


@dataclass(frozen=True)
class TlsConfig:
    """How rooms talk to each other."""

    mode: str = setting(
        "THERMESH_TLS",
        "off",
        one_of("off", "on", "mutual"),
        "between rooms: off, on (a room proves who it is), mutual (its caller does too)",
    )
    certificate: str = setting(
        "THERMESH_TLS_CERT_FILE", "", doc="PEM chain of this process; `on` and `mutual` need it"
    )
    key: str = setting("THERMESH_TLS_KEY_FILE", "", doc="PEM key of that certificate")
    authorities: str = setting(
        "THERMESH_TLS_CA_FILE", "", doc="PEM of the authorities that other rooms are trusted by"
    )
    peer_name: str = setting(
        "THERMESH_TLS_PEER_NAME",
        "",
        doc="name in the certificates of other rooms; empty: the host of each target",
    )


@dataclass(frozen=True)
class Trust:
    """What a client checks a server by, and may show of itself.

    `authorities` is a PEM file; empty: those that gRPC carries. `certificate`
    and `key` are PEM files too, both or neither. `peer_name` replaces the
    target's host as the name looked for in the server's certificate.
    """

    authorities: str = ""
    certificate: str = ""
    key: str = ""
    peer_name: str = ""

    def credentials(self) -> grpc.ChannelCredentials:
        """Return what a channel is made with; raise BadSetting for a file that cannot be read."""
        return grpc.ssl_channel_credentials(
            _read(self.authorities) if self.authorities else None,
            _read(self.key) if self.key else None,
            _read(self.certificate) if self.certificate else None,
        )

    def options(self) -> tuple[tuple[str, str], ...]:
        """Return the channel options that go with the credentials."""
        return (("grpc.ssl_target_name_override", self.peer_name),) if self.peer_name else ()


@dataclass(frozen=True)
class Door:
    """What a server proves itself with.

    `certificate` and `key` are PEM files. Where `callers` is one too, only
    callers with a certificate of those authorities come in.
    """

    certificate: str
    key: str
    callers: str = ""

    def credentials(self) -> grpc.ServerCredentials:
        """Return credentials that follow the files.

        Raises BadSetting where they cannot be read now. Later the last good ones
        go on, so that a certificate half written never closes the door.
        """
        last = self._stamp()

        def renewed() -> grpc.ServerCertificateConfiguration | None:
            nonlocal last
            try:
                now = self._stamp()
                if now == last:
                    return None
                configuration = self._configuration()
            except BadSetting:
                return None
            last = now
            return configuration

        return grpc.dynamic_ssl_server_credentials(
            self._configuration(), renewed, require_client_authentication=bool(self.callers)
        )

    def context(self) -> ssl.SSLContext:
        """Return a context for servers of the standard library that follows the files too.

        Raises BadSetting as `credentials` does.
        """
        first = current = self._context()
        last = self._stamp()

        def renew(
            handshake: ssl.SSLObject | ssl.SSLSocket, _name: str | None, _context: ssl.SSLContext
        ) -> None:
            nonlocal current, last
            with contextlib.suppress(BadSetting):
                if (now := self._stamp()) != last:
                    current, last = self._context(), now
            handshake.context = current

        first.sni_callback = renew
        return first

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(self.certificate, self.key)
        except (OSError, ssl.SSLError) as error:
            raise BadSetting(
                f"no certificate with its key: {self.certificate}, {self.key}"
            ) from error
        return context

    def _configuration(self) -> grpc.ServerCertificateConfiguration:
        pair = (_read(self.key), _read(self.certificate))
        callers = _read(self.callers) if self.callers else None
        return grpc.ssl_server_certificate_configuration([pair], callers)

    def _stamp(self) -> Stamp:
        paths = (self.certificate, self.key, self.callers or self.key)
        try:
            return tuple(pathlib.Path(path).stat().st_mtime_ns for path in paths)
        except OSError as error:
            raise BadSetting(f"a TLS file cannot be read: {error.filename}") from error


def public_door(certificate: str, key: str) -> Door | None:
    """Return what the gateway shows to the world; None: plaintext.

    Raises BadSetting where only one of the two files is named.
    """
    if bool(certificate) != bool(key):
        raise BadSetting(
            "THERMESH_GATEWAY_TLS_CERT_FILE and THERMESH_GATEWAY_TLS_KEY_FILE go together"
        )
    return Door(certificate, key) if certificate else None


def room_door(config: TlsConfig) -> Door | None:
    """Return what a room serves with; None: plaintext. Raise BadSetting for missing files."""
    if config.mode == "off":
        return None
    _require(config, "certificate", "key", *(("authorities",) if config.mode == "mutual" else ()))
    callers = config.authorities if config.mode == "mutual" else ""
    return Door(config.certificate, config.key, callers)


def room_trust(config: TlsConfig) -> Trust | None:
    """Return what a room calls others with; None: plaintext. Raise BadSetting for missing files."""
    if config.mode == "off":
        return None
    if config.mode == "on":
        return Trust(config.authorities, peer_name=config.peer_name)
    _require(config, "certificate", "key", "authorities")
    return Trust(config.authorities, config.certificate, config.key, config.peer_name)


def _require(config: TlsConfig, *names: str) -> None:
    variables = {
        "certificate": "THERMESH_TLS_CERT_FILE",
        "key": "THERMESH_TLS_KEY_FILE",
        "authorities": "THERMESH_TLS_CA_FILE",
    }
    for name in names:
        if not getattr(config, name):
            raise BadSetting(f"THERMESH_TLS={config.mode}: {variables[name]} must name a PEM file")


def _read(path: str) -> bytes:
    try:
        return pathlib.Path(path).read_bytes()
    except OSError as error:
        raise BadSetting(f"a TLS file cannot be read: {path}") from error
