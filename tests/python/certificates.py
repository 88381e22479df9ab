"""Makes certificates for tests: an authority, and what it has signed.

    certificates.py FOLDER AUTHORITY [NAME[=COMMON_NAME[,URI...]] ...]

writes FOLDER/AUTHORITY.crt, and for each name NAME.crt and NAME.key; each is good for localhost and 127.0.0.1 if its name
is `server`. An authority whose AUTHORITY.key is there already goes on.

    certificates.py FOLDER AUTHORITY --revoke LIST DAYS [NAME ...]

writes FOLDER/LIST.crl, by which the authority revokes the certificates of these names. It is good for so many days, or
has not been for so many if there is a minus before them.

    certificates.py FOLDER AUTHORITY --seconds SECONDS NAME[=...] ...

writes certificates that end after so many seconds.
"""

import datetime
import ipaddress
import sys
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

BEGIN = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
END = datetime.datetime(2100, 1, 2, 3, 4, 5, tzinfo=datetime.timezone.utc)


def common_name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, text)])


class Authority:
    def __init__(self, folder: Path, name: str) -> None:
        self.name, key_file = common_name(name), folder / f"{name}.key"
        if key_file.exists():
            self.key = serialization.load_pem_private_key(key_file.read_bytes(), None)
            return
        self.key = ec.generate_private_key(ec.SECP256R1())
        constraints = (x509.BasicConstraints(ca=True, path_length=None), True)
        write(folder, name, self.sign(self.name, self.key, [constraints]), self.key)

    def sign(self, subject: x509.Name, key, extensions: list, end=END) -> x509.Certificate:
        builder = x509.CertificateBuilder(self.name, subject, key.public_key(), x509.random_serial_number(), BEGIN, end)
        for extension, is_critical in extensions:
            builder = builder.add_extension(extension, is_critical)
        return builder.sign(self.key, hashes.SHA256())


    def revoke(self, certificates: list[x509.Certificate], days: int) -> x509.CertificateRevocationList:
        now = datetime.datetime.now(datetime.timezone.utc)
        until = now + datetime.timedelta(days=days)
        builder = x509.CertificateRevocationListBuilder(self.name, min(BEGIN, until) - datetime.timedelta(days=1), until)
        for certificate in certificates:
            revoked = x509.RevokedCertificateBuilder(certificate.serial_number, BEGIN).build()
            builder = builder.add_revoked_certificate(revoked)
        issuer = x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key())
        builder = builder.add_extension(issuer, False).add_extension(x509.CRLNumber(1), False)
        return builder.sign(self.key, hashes.SHA256())


def write(folder: Path, name: str, certificate: x509.Certificate, key) -> None:
    (folder / f"{name}.crt").write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    pem = serialization.PrivateFormat.PKCS8
    (folder / f"{name}.key").write_bytes(
        key.private_bytes(serialization.Encoding.PEM, pem, serialization.NoEncryption())
    )


def revoke(folder: Path, authority: Authority, name: str, days: str, *names: str) -> None:
    certificates = [x509.load_pem_x509_certificate((folder / f"{name}.crt").read_bytes()) for name in names]
    made = authority.revoke(certificates, int(days))
    (folder / f"{name}.crl").write_bytes(made.public_bytes(serialization.Encoding.PEM))


def main(folder: Path, authority_name: str, *wanted: str) -> None:
    authority, end = Authority(folder, authority_name), END
    if wanted[:1] == ("--revoke",):
        return revoke(folder, authority, *wanted[1:])
    if wanted[:1] == ("--seconds",):
        end = datetime.datetime.now(datetime.timezone.utc) + datetime.timedelta(seconds=int(wanted[1]))
        wanted = wanted[2:]
    for text in wanted:
        name, _, rest = text.partition("=")
        subject, *uris = (rest or name).split(",")
        alternatives = [x509.UniformResourceIdentifier(uri) for uri in uris]
        if name.startswith("server"):
            local = ipaddress.ip_address("127.0.0.1")
            alternatives += [x509.DNSName("localhost"), x509.IPAddress(local)]
        key = ec.generate_private_key(ec.SECP256R1())
        extensions = [(x509.SubjectAlternativeName(alternatives), False)] if alternatives else []
        write(folder, name, authority.sign(common_name(subject), key, extensions, end), key)


main(Path(sys.argv[1]), *sys.argv[2:])
